// What the fuzz targets share: taking an input apart. An input that has ended gives zeros and empty strings, so that
// every input means something and a shorter one means less.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/check.h"
#include "common/wire/codec.h"

namespace coord::fuzz {

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}

  bool empty() const { return rest_.empty(); }
  std::uint8_t byte() {
    if (rest_.empty()) return 0;
    const auto out = static_cast<std::uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    return out;
  }
  bool flag() { return (byte() & 1) != 0; }
  // 0..count-1
  std::size_t below(std::size_t count) { return byte() % count; }
  template <class T, std::size_t kCount>
  const T& pick(const T (&choices)[kCount]) {
    return choices[below(kCount)];
  }
  template <class Int>
  Int integer() {
    const std::string_view bytes = take(sizeof(Int));
    if (bytes.size() < sizeof(Int)) return 0;
    return wire::load_be<Int>(bytes.data());
  }
  // Mostly small, sometimes at the ends of the range, and anything at all.
  std::int64_t number() {
    static constexpr std::int64_t kEdges[] = {-1,         0,         0x7fffffff, -0x80000000LL, 0xffffffffLL,
                                              0x80000000, INT64_MAX, INT64_MIN,  1LL << 40,     (1LL << 40) - 1};
    const std::uint8_t kind = byte();
    if (kind < 200) return kind % 32;
    if (kind < 230) return kEdges[kind % std::size(kEdges)];
    return integer<std::int64_t>();
  }
  std::int32_t number32() { return static_cast<std::int32_t>(number()); }
  // A piece with its length in front: one byte, from 250 on two more.
  std::string_view piece() {
    std::size_t size = byte();
    if (size >= 250) size = integer<std::uint16_t>();
    return take(size);
  }
  std::string_view take(std::size_t size) {
    const std::string_view out = rest_.substr(0, size);
    rest_.remove_prefix(out.size());
    return out;
  }
  std::string_view rest() { return take(rest_.size()); }

  std::int64_t next_sequence() { return ++sequence_; }  // 1, 2, ...: not of the input

 private:
  std::string_view rest_;
  std::int64_t sequence_ = 0;
};

}  // namespace coord::fuzz
