// The identifiers of the project, as distinct types so that swapped arguments do not compile.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <string>

namespace coord {

// A strongly typed integer. Compares and hashes like `Rep`; conversion is explicit, through `value`.
template <class Tag, class Rep>
struct NamedInt {
  Rep value{};
  constexpr NamedInt() = default;
  constexpr explicit NamedInt(Rep v) : value(v) {}
  friend constexpr auto operator<=>(NamedInt, NamedInt) = default;
};

// (epoch << 32) | counter; compared as unsigned. zab.md section 1.3. 0 = "nothing yet".
struct Zxid {
  std::uint64_t value = 0;
  constexpr Zxid() = default;
  constexpr explicit Zxid(std::uint64_t v) : value(v) {}
  constexpr Zxid(std::uint32_t epoch, std::uint32_t counter)
      : value((static_cast<std::uint64_t>(epoch) << 32) | counter) {}
  constexpr std::uint32_t epoch() const { return static_cast<std::uint32_t>(value >> 32); }
  constexpr std::uint32_t counter() const { return static_cast<std::uint32_t>(value); }
  constexpr std::int64_t wire() const { return static_cast<std::int64_t>(value); }
  friend constexpr auto operator<=>(Zxid, Zxid) = default;
};

// "epoch:counter" in hex, the one spelling in logs, tests and tools.
std::string to_string(Zxid z);

using Sid = NamedInt<struct SidTag, std::uint32_t>;              // server id, 1..254
using SessionId = NamedInt<struct SessionTag, std::int64_t>;     // client-protocol.md section 2.3; 0 = none
using NodeId = NamedInt<struct NodeTag, std::uint64_t>;          // replicated, never reused; 1 = the root, 0 = none
using ConnId = NamedInt<struct ConnTag, std::uint64_t>;          // one connection to this replica; never reused
using TimeMs = std::int64_t;                                     // wall clock, ms since 1970, decided by the leader

// How long ago `then` was; the ends of the range where that cannot be said: a time that a user set may be any number.
inline std::int64_t age_ms(TimeMs now, TimeMs then) {
  std::int64_t age = 0;
  if (!__builtin_sub_overflow(now, then, &age)) return age;
  return then < 0 ? INT64_MAX : INT64_MIN;
}

inline constexpr NodeId kRootNode{1};

}  // namespace coord

template <class Tag, class Rep>
struct std::hash<coord::NamedInt<Tag, Rep>> {
  std::size_t operator()(coord::NamedInt<Tag, Rep> id) const noexcept { return std::hash<Rep>()(id.value); }
};
template <>
struct std::hash<coord::Zxid> {
  std::size_t operator()(coord::Zxid z) const noexcept { return std::hash<std::uint64_t>()(z.value); }
};
