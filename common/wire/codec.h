// Bounded reader and writer of jute's primitive fields: big-endian integers, length-prefixed buffers and strings
// (client-protocol.md section 1). The log's and the store's records use the same encoding.
//
// Reader: never reads past its span. The first field that does not fit sets `failed()`, and everything read after that
// is zero or empty, so a decoder may read a whole record and test once. Views point into the span that was given.
// Writer: appends to a std::string owned by the caller. No internal locking in either.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/check.h"
#include "common/model/ids.h"

namespace coord::wire {

template <class Int>
inline Int load_be(const char* p) {
  Int v;
  std::memcpy(&v, p, sizeof v);
  if constexpr (sizeof(Int) == 8) return static_cast<Int>(__builtin_bswap64(static_cast<std::uint64_t>(v)));
  if constexpr (sizeof(Int) == 4) return static_cast<Int>(__builtin_bswap32(static_cast<std::uint32_t>(v)));
  if constexpr (sizeof(Int) == 2) return static_cast<Int>(__builtin_bswap16(static_cast<std::uint16_t>(v)));
  return v;
}

template <class Int>
inline void store_be(char* p, Int v) {
  v = load_be<Int>(reinterpret_cast<const char*>(&v));
  std::memcpy(p, &v, sizeof v);
}

class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}

  bool failed() const { return failed_; }
  std::size_t remaining() const { return rest_.size(); }
  std::string_view rest() const { return rest_; }
  void fail() {
    failed_ = true;
    rest_ = {};
  }

  std::int8_t i8() { return integer<std::int8_t>(); }
  std::int16_t i16() { return integer<std::int16_t>(); }
  std::int32_t i32() { return integer<std::int32_t>(); }
  std::int64_t i64() { return integer<std::int64_t>(); }
  bool boolean() { return i8() != 0; }  // any non-zero byte is true

  // Buffer or ustring: nullopt is null (length -1), which is distinct from empty. Below -1 is a decoding error.
  std::optional<std::string_view> buffer() {
    const std::int32_t n = i32();
    if (failed_ || n == -1) return std::nullopt;
    if (n < 0 || static_cast<std::size_t>(n) > rest_.size()) {
      fail();
      return std::nullopt;
    }
    std::string_view out = rest_.substr(0, static_cast<std::size_t>(n));
    rest_.remove_prefix(static_cast<std::size_t>(n));
    return out;
  }
  // A ustring for which null counts as empty.
  std::string_view string() { return buffer().value_or(std::string_view()); }

  // The length of a vector; null and other negative lengths count as 0 (`is_null` tells). Each element takes at least
  // one byte, so a length above what remains is a decoding error and cannot make the caller allocate.
  std::int32_t vector(bool* is_null = nullptr) {
    const std::int32_t n = i32();
    if (is_null != nullptr) *is_null = n == -1;
    if (n > 0 && static_cast<std::size_t>(n) > rest_.size()) {
      fail();
      return 0;
    }
    return n < 0 ? 0 : n;
  }

 private:
  template <class Int>
  Int integer() {
    if (rest_.size() < sizeof(Int)) {
      fail();
      return 0;
    }
    const Int v = load_be<Int>(rest_.data());
    rest_.remove_prefix(sizeof(Int));
    return v;
  }

  std::string_view rest_;
  bool failed_ = false;
};

class Writer {
 public:
  explicit Writer(std::string& out) : out_(out) {}

  void i8(std::int8_t v) { out_.push_back(static_cast<char>(v)); }
  void i16(std::int16_t v) { integer(v); }
  void i32(std::int32_t v) { integer(v); }
  void i64(std::int64_t v) { integer(v); }
  void boolean(bool v) { i8(v ? 1 : 0); }
  void buffer(std::string_view v) {
    COORD_CHECK(v.size() <= 0x7fffffff);
    i32(static_cast<std::int32_t>(v.size()));
    out_.append(v);
  }
  // nullopt is null. A template, so that a std::string or a literal is not taken for an optional.
  template <class Text>
  void buffer(const std::optional<Text>& v) {
    v ? buffer(std::string_view(*v)) : i32(-1);
  }
  void buffer(std::nullopt_t) { i32(-1); }
  void raw(std::string_view v) { out_.append(v); }

  std::size_t size() const { return out_.size(); }
  // Overwrites four bytes written earlier, for lengths that are known only at the end.
  void patch_i32(std::size_t at, std::int32_t v) { store_be(out_.data() + at, v); }

 private:
  template <class Int>
  void integer(Int v) {
    char bytes[sizeof(Int)];
    store_be(bytes, v);
    out_.append(bytes, sizeof bytes);
  }

  std::string& out_;
};

// Jute has signed integers only: ours travel as those of the same bits.
inline void put_u32(Writer& w, std::uint32_t v) { w.i32(static_cast<std::int32_t>(v)); }
inline std::uint32_t get_u32(Reader& r) { return static_cast<std::uint32_t>(r.i32()); }
inline void put_id(Writer& w, NodeId id) { w.i64(static_cast<std::int64_t>(id.value)); }
inline NodeId get_id(Reader& r) { return NodeId(static_cast<std::uint64_t>(r.i64())); }

// Room for `count` elements, but never more than the bytes that are left could hold: `min_size` is the shortest
// encoding of one element. A hostile length must not make us allocate.
template <class T>
void reserve_justified(std::vector<T>& out, const Reader& r, std::int32_t count, std::size_t min_size) {
  out.reserve(std::min(static_cast<std::size_t>(count), r.remaining() / min_size));
}

}  // namespace coord::wire
