// Whole numbers in text that a person or a peer has written. Pure; nullopt for everything that is none.
#pragma once

#include <charconv>
#include <concepts>
#include <optional>
#include <string_view>

namespace coord {

// All of `text` is a number that Int can hold: digits, before them a '-' if Int has a sign; no blanks, no '+', no rest.
template <std::integral Int>
std::optional<Int> parse_number(std::string_view text, int base = 10) {
  Int number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// And it lies from `low` to `high`.
template <std::integral Int>
std::optional<Int> parse_number(std::string_view text, Int low, Int high) {
  const auto number = parse_number<Int>(text);
  return number && *number >= low && *number <= high ? number : std::nullopt;
}

}  // namespace coord
