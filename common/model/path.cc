#include "common/model/path.h"

#include <cstddef>
#include <cstdint>

namespace coord {
namespace {

constexpr std::uint32_t kInvalid = 0xffffffff;

// The code point at text[at], which moves behind it; kInvalid for anything that is not well-formed UTF-8 of at most
// three bytes (Unicode 15, table 3-7): stray and missing continuation bytes, overlong forms, longer sequences.
std::uint32_t next_code_point(std::string_view text, std::size_t& at) {
  const auto byte = [&](std::size_t i) -> std::uint32_t {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  const auto continues = [&](std::size_t i) { return (byte(i) & 0xc0u) == 0x80u; };
  const std::uint32_t first = byte(at);
  if (first < 0x80) {
    ++at;
    return first;
  }
  if (first >= 0xc2 && first < 0xe0 && continues(at + 1)) {
    const std::uint32_t c = ((first & 0x1fu) << 6) | (byte(at + 1) & 0x3fu);
    at += 2;
    return c;
  }
  if (first >= 0xe0 && first < 0xf0 && continues(at + 1) && continues(at + 2)) {
    const std::uint32_t c = ((first & 0x0fu) << 12) | ((byte(at + 1) & 0x3fu) << 6) | (byte(at + 2) & 0x3fu);
    at += 3;
    return c < 0x800 ? kInvalid : c;
  }
  return kInvalid;
}

bool allowed(std::uint32_t c) {
  if (c <= 0x1f || (c >= 0x7f && c <= 0x9f)) return false;
  if (c >= 0xd800 && c <= 0xf8ff) return false;  // surrogates and private use
  return c < 0xfff0;                             // U+FFF0..U+FFFF and kInvalid
}

}  // namespace

bool valid_name(std::string_view name) {
  if (name.empty() || name == "." || name == "..") return false;
  for (std::size_t at = 0; at < name.size();) {
    const std::uint32_t c = next_code_point(name, at);
    if (!allowed(c) || c == '/') return false;
  }
  return true;
}

bool valid_path(std::string_view path) {
  if (path.empty() || path.front() != '/') return false;
  if (path.size() == 1) return true;
  for (std::size_t begin = 1;;) {
    const std::size_t end = path.find('/', begin);
    if (!valid_name(path.substr(begin, end == std::string_view::npos ? end : end - begin))) return false;
    if (end == std::string_view::npos) return true;
    begin = end + 1;
  }
}

std::string_view parent_path(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string_view::npos || slash == 0) return "/";
  return path.substr(0, slash);
}

std::string_view last_name(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

}  // namespace coord
