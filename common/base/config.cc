#include "common/base/config.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>

namespace coord {
namespace {

constexpr std::size_t kFileSizeMax = 1 << 20;

std::string_view trim(std::string_view s) {
  constexpr std::string_view kBlanks = " \t\f\r";
  const std::size_t begin = s.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return s.substr(begin, s.find_last_not_of(kBlanks) - begin + 1);
}

// An odd number of backslashes at the end continues the line, as in Java.
bool continues(std::string_view line) {
  std::size_t backslashes = 0;
  while (backslashes < line.size() && line[line.size() - 1 - backslashes] == '\\') ++backslashes;
  return backslashes % 2 == 1;
}

void append_utf8(std::string& out, std::uint32_t c) {
  if (c < 0x80) {
    out.push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    out.push_back(static_cast<char>(0xc0u | (c >> 6)));
    out.push_back(static_cast<char>(0x80u | (c & 0x3fu)));
  } else {
    out.push_back(static_cast<char>(0xe0u | (c >> 12)));
    out.push_back(static_cast<char>(0x80u | ((c >> 6) & 0x3fu)));
    out.push_back(static_cast<char>(0x80u | (c & 0x3fu)));
  }
}

// Four hex digits; nullopt otherwise, and for surrogates.
std::optional<std::uint32_t> hex4(std::string_view digits) {
  if (digits.size() < 4) return std::nullopt;
  std::uint32_t c = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    const char d = digits[i];
    const int v = d >= '0' && d <= '9'   ? d - '0'
                  : d >= 'a' && d <= 'f' ? d - 'a' + 10
                  : d >= 'A' && d <= 'F' ? d - 'A' + 10
                                         : -1;
    if (v < 0) return std::nullopt;
    c = c * 16 + static_cast<std::uint32_t>(v);
  }
  if (c == 0 || (c >= 0xd800 && c <= 0xdfff)) return std::nullopt;
  return c;
}

// Java's escapes; nullopt: a bad \u.
std::optional<std::string> unescape(std::string_view s) {
  std::string out;
  out.reserve(s.size());
  for (std::size_t i = 0; i < s.size(); ++i) {
    if (s[i] != '\\' || i + 1 == s.size()) {
      out.push_back(s[i]);
      continue;
    }
    const char c = s[++i];
    if (c == 'u') {
      const std::optional<std::uint32_t> code = hex4(s.substr(i + 1));
      if (!code) return std::nullopt;
      append_utf8(out, *code);
      i += 4;
    } else {
      out.push_back(c == 't' ? '\t' : c == 'n' ? '\n' : c == 'r' ? '\r' : c == 'f' ? '\f' : c);
    }
  }
  return out;
}

struct Lines {
  std::string_view rest;
  int number = 0;  // of the line that next() gave last

  bool next(std::string_view& line) {
    if (rest.empty()) return false;
    const std::size_t end = rest.find('\n');
    line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    ++number;
    return true;
  }
};

Fault fault_at(std::string_view file, int line, std::string_view why) {
  return Fault{std::string(file) + ":" + std::to_string(line) + ": " + std::string(why)};
}

Result<ConfigEntry, Fault> parse_line(std::string_view text, std::string_view file, int line) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\t' && c != '\f') || byte == 0x7f) {
      return fail(fault_at(file, line, "a control character, which no setting can contain"));
    }
  }
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos) {
    return fail(fault_at(file, line, "expected key=value, found \"" + std::string(trim(text)) + "\""));
  }
  const std::optional<std::string> key = unescape(trim(text.substr(0, equals)));
  const std::optional<std::string> value = unescape(trim(text.substr(equals + 1)));
  if (!key || !value) return fail(fault_at(file, line, "\\u must be followed by four hex digits of a character"));
  if (key->empty()) return fail(fault_at(file, line, "no key before '='"));
  if (key->find_first_of(" \t") != std::string::npos) {
    return fail(fault_at(file, line, "blanks inside the key \"" + *key + "\""));
  }
  return ConfigEntry{*key, *value, line};
}

}  // namespace

Result<std::vector<ConfigEntry>, Fault> parse_config(std::string_view text, std::string_view file_name) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);  // a byte order mark
  std::vector<ConfigEntry> entries;
  Lines lines{text};
  std::string_view line;
  while (lines.next(line)) {
    const std::string_view content = trim(line);
    if (content.empty() || content[0] == '#' || content[0] == '!') continue;
    const int number = lines.number;
    std::string whole(line);
    while (continues(whole)) {
      whole.pop_back();
      if (!lines.next(line)) return fail(fault_at(file_name, lines.number, "the file ends after a backslash"));
      whole += trim(line);
    }
    Result<ConfigEntry, Fault> entry = parse_line(whole, file_name, number);
    if (!entry) return fail(entry.error());
    entries.push_back(std::move(*entry));
  }
  return entries;
}

Result<std::vector<ConfigEntry>, Fault> read_config_file(const std::string& path) {
  const auto text = read_small_file(path);
  if (text) return parse_config(*text, path);
  if (text.error() == EFBIG) return fail(Fault{path + ": larger than 1 MiB, which no configuration file is"});
  return fail(Fault{path + ": " + std::strerror(text.error())});
}

Result<std::string, int> read_small_file(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"), &std::fclose);
  if (!file) return fail(errno != 0 ? errno : EIO);
  std::string text(kFileSizeMax + 1, '\0');
  errno = 0;
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get()) != 0) return fail(errno != 0 ? errno : EIO);
  if (text.size() > kFileSizeMax) return fail(EFBIG);
  return text;
}

}  // namespace coord
