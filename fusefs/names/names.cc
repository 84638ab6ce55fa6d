#include "fusefs/names/names.h"

#include <openssl/sha.h>

#include <array>
#include <cerrno>
#include <charconv>

#include "common/base/check.h"
#include "common/model/path.h"

namespace coord::fs {
namespace {

constexpr std::string_view kHashWord = "hash=";
constexpr std::string_view kTtlWord = "ttl=";
constexpr std::size_t kHashHexDigits = 40;
constexpr std::size_t kHashPrefixMax = 120;
constexpr std::array<std::string_view, 3> kControlNames = {kDataName, kZnodeName, kCoordName};
static_assert(kHashPrefixMax + 1 + kHashWord.size() + kHashHexDigits + 1 <= kShownBytesMax);

// base + '@' * run + word, where word is one of the suffix words (or empty) and run >= 1.
struct Tail {
  std::string_view base;
  std::size_t run = 0;
  std::string_view word;
};

bool is_word(std::string_view word) {
  return word.empty() || word == "ephemeral" || word == "seq" || word == "ephemeral+seq" || word == "container" ||
         word.starts_with(kTtlWord) || word.starts_with(kHashWord);
}

std::optional<Tail> split_tail(std::string_view name) {
  const std::size_t last = name.rfind('@');
  if (last == std::string_view::npos || !is_word(name.substr(last + 1))) return std::nullopt;
  std::size_t first = last;
  while (first > 0 && name[first - 1] == '@') --first;
  return Tail{name.substr(0, first), last - first + 1, name.substr(last + 1)};
}

// The number of '@' before a control name that ends the name; nullopt if the name is not of that form.
std::optional<std::size_t> control_escapes(std::string_view name) {
  const std::size_t first = name.find_first_not_of('@');
  if (first == std::string_view::npos) return std::nullopt;
  for (const std::string_view control : kControlNames) {
    if (name.substr(first) == control) return first;
  }
  return std::nullopt;
}

std::string join(std::string_view base, std::size_t run, std::string_view word) {
  std::string out(base);
  out.append(run, '@');
  out.append(word);
  return out;
}

std::string escape(std::string_view name) {
  if (control_escapes(name)) return "@" + std::string(name);
  if (const auto tail = split_tail(name)) return join(tail->base, 2 * tail->run, tail->word);
  return std::string(name);
}

// The inverse of escape; nullopt: not the escape of any name (it is special).
std::optional<std::string> unescape(std::string_view shown) {
  if (const auto escapes = control_escapes(shown)) {
    if (*escapes == 0) return std::nullopt;
    return std::string(shown.substr(1));
  }
  if (const auto tail = split_tail(shown)) {
    if (tail->run % 2 != 0) return std::nullopt;
    return join(tail->base, tail->run / 2, tail->word);
  }
  return std::string(shown);
}

Parsed invalid(int error) {
  Parsed p;
  p.error = error;
  return p;
}

Parsed of_kind(NameKind kind, std::string name) {
  Parsed p;
  p.kind = kind;
  p.znode_name = std::move(name);
  return p;
}

bool is_hash_name(const Tail& tail) {
  if (tail.run != 1 || !tail.word.starts_with(kHashWord)) return false;
  const std::string_view digits = tail.word.substr(kHashWord.size());
  return digits.size() == kHashHexDigits && digits.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// "30s", "500ms", "2d": nullopt if it is not a number with a unit, zero, or above the limit.
std::optional<std::int64_t> parse_ttl(std::string_view text) {
  std::int64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || number <= 0 || text.empty() || text.front() < '0' || text.front() > '9') {
    return std::nullopt;
  }
  const std::string_view unit(rest, static_cast<std::size_t>(end - rest));
  std::int64_t factor = 0;
  if (unit == "ms") factor = 1;
  if (unit == "s") factor = 1000;
  if (unit == "m") factor = 60 * 1000;
  if (unit == "h") factor = 60 * 60 * 1000;
  if (unit == "d") factor = 24 * 60 * 60 * 1000;
  if (factor == 0 || number > kTtlMsMax / factor) return std::nullopt;
  return number * factor;
}

CreateSuffix suffix_of(std::string_view word) {
  if (word == "ephemeral") return CreateSuffix::kEphemeral;
  if (word == "seq") return CreateSuffix::kSequential;
  if (word == "ephemeral+seq") return CreateSuffix::kEphemeralSequential;
  if (word == "container") return CreateSuffix::kContainer;
  return CreateSuffix::kTtl;
}

Parsed parse_create(const Tail& tail) {
  auto name = unescape(join(tail.base, tail.run - 1, {}));
  if (!name) return invalid(EINVAL);
  Parsed p;
  p.kind = NameKind::kCreate;
  p.mode = suffix_of(tail.word);
  if (p.mode == CreateSuffix::kTtl) {
    const auto ttl = parse_ttl(tail.word.substr(kTtlWord.size()));
    if (!ttl) return invalid(EINVAL);
    p.ttl_ms = *ttl;
  }
  const bool sequential = p.mode == CreateSuffix::kSequential || p.mode == CreateSuffix::kEphemeralSequential;
  const std::string sample = sequential ? *name + std::string(kSequenceDigits, '0') : *name;
  if (sample.size() > kShownBytesMax) return invalid(ENAMETOOLONG);
  if (!valid_name(sample)) return invalid(EINVAL);
  p.znode_name = std::move(*name);
  return p;
}

Parsed parse_special(const Tail& tail, std::string_view shown) {
  if (tail.word.starts_with(kHashWord)) {
    return is_hash_name(tail) ? of_kind(NameKind::kHashed, std::string(shown)) : invalid(EINVAL);
  }
  if (!tail.word.empty()) return parse_create(tail);
  // NAME@: what stands before the '@' is a whole spelling again.
  const std::string_view inner = shown.substr(0, shown.size() - 1);
  if (const auto inner_tail = split_tail(inner); inner_tail && is_hash_name(*inner_tail)) {
    return of_kind(NameKind::kHashedChildrenDir, std::string(inner));
  }
  auto name = unescape(inner);
  if (!name || !valid_name(*name)) return invalid(EINVAL);
  return of_kind(NameKind::kChildrenDir, std::move(*name));
}

// The end of the longest prefix of at most `limit` bytes that does not cut a UTF-8 character.
std::size_t whole_characters(std::string_view text, std::size_t limit) {
  if (text.size() <= limit) return text.size();
  while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xC0) == 0x80) --limit;
  return limit;
}

}  // namespace

std::string hash_name(std::string_view znode_name) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  SHA256(reinterpret_cast<const unsigned char*>(znode_name.data()), znode_name.size(), digest.data());
  std::string_view prefix = znode_name.substr(0, whole_characters(znode_name, kHashPrefixMax));
  while (prefix.ends_with('@')) prefix.remove_suffix(1);  // the '@' before "hash=" must stand alone
  std::string out = join(prefix, 1, kHashWord);
  for (std::size_t i = 0; i < kHashHexDigits / 2; ++i) {
    out += "0123456789abcdef"[digest[i] >> 4];
    out += "0123456789abcdef"[digest[i] & 15];
  }
  return out;
}

bool needs_hash(std::string_view znode_name) { return escape(znode_name).size() > kShownBytesMax; }

bool children_dir_needs_hash(std::string_view znode_name) { return escape(znode_name).size() + 1 > kShownBytesMax; }

std::string shown_name(std::string_view znode_name) {
  COORD_CHECK(!znode_name.empty());
  std::string shown = escape(znode_name);
  return shown.size() > kShownBytesMax ? hash_name(znode_name) : shown;
}

std::string children_dir_name(std::string_view znode_name) {
  COORD_CHECK(!znode_name.empty());
  std::string shown = escape(znode_name);
  if (shown.size() + 1 > kShownBytesMax) shown = hash_name(znode_name);
  return shown + "@";
}

Parsed parse_name(std::string_view shown, bool in_mount_root) {
  if (shown.size() > kShownBytesMax) return invalid(ENAMETOOLONG);
  if (shown == kDataName) return of_kind(NameKind::kDotData, {});
  if (shown == kZnodeName) return of_kind(NameKind::kDotZnode, {});
  if (shown == kCoordName) return in_mount_root ? of_kind(NameKind::kDotCoord, {}) : invalid(EINVAL);
  if (auto name = unescape(shown)) {
    return valid_name(*name) ? of_kind(NameKind::kNode, std::move(*name)) : invalid(EINVAL);
  }
  const auto tail = split_tail(shown);
  COORD_CHECK(tail.has_value());  // unescape refuses control names, dealt with above, and tails only
  return parse_special(*tail, shown);
}

bool resolves(const Parsed& parsed, std::string_view znode_name) {
  switch (parsed.kind) {
    case NameKind::kHashed:
      return needs_hash(znode_name) && hash_name(znode_name) == parsed.znode_name;
    case NameKind::kHashedChildrenDir:
      return children_dir_needs_hash(znode_name) && hash_name(znode_name) == parsed.znode_name;
    case NameKind::kNode:
    case NameKind::kChildrenDir:
    case NameKind::kDotData:
    case NameKind::kDotZnode:
    case NameKind::kDotCoord:
    case NameKind::kCreate:
    case NameKind::kInvalid:
      return false;
  }
  return false;
}

}  // namespace coord::fs
