#include "replica/tree/acl_check.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <string>
#include <unordered_set>

#include "common/base/number.h"

namespace coord::tree {
namespace {

struct Address {
  std::array<unsigned char, 16> bytes{};
  unsigned bits = 0;  // 32 or 128
};

std::optional<Address> parse_address(std::string_view text) {
  char buffer[INET6_ADDRSTRLEN];
  if (text.empty() || text.size() >= sizeof buffer || text.find('\0') != std::string_view::npos) return std::nullopt;
  std::memcpy(buffer, text.data(), text.size());
  buffer[text.size()] = '\0';
  Address out;
  if (inet_pton(AF_INET, buffer, out.bytes.data()) == 1) {
    out.bits = 32;
    return out;
  }
  if (inet_pton(AF_INET6, buffer, out.bytes.data()) == 1) {
    out.bits = 128;
    return out;
  }
  return std::nullopt;
}

struct Range {
  Address address;
  unsigned bits = 0;
};

std::optional<Range> parse_range(std::string_view text) {
  const std::size_t slash = text.find('/');
  const auto address = parse_address(text.substr(0, slash));
  if (!address) return std::nullopt;
  Range out{*address, address->bits};
  if (slash == std::string_view::npos) return out;
  const auto bits = parse_number<decltype(out.bits)>(text.substr(slash + 1));
  if (!bits || *bits > address->bits) return std::nullopt;
  out.bits = *bits;
  return out;
}

// "user:hash" as Java's split(":") sees it: empty parts at the end do not count, exactly two parts remain.
bool valid_digest_id(std::string_view id) {
  while (!id.empty() && id.back() == ':') id.remove_suffix(1);
  return std::count(id.begin(), id.end(), ':') == 1;
}

// "u:UID" or "g:GID" in the one spelling of the number, because entries are compared as text. (uid_t)-1 is nobody.
bool valid_unix_id(std::string_view id) {
  if (!id.starts_with("u:") && !id.starts_with("g:")) return false;
  const std::string_view digits = id.substr(2);
  if (digits.empty() || (digits[0] == '0' && digits.size() > 1)) return false;
  const auto value = parse_number<std::uint32_t>(digits);
  return value && *value != 0xffffffffu;
}

// An identity that somebody has proved, as opposed to where a connection comes from.
bool is_authenticated(const AuthId& id) {
  return id.scheme == "digest" || (id.scheme == "unix" && id.id.starts_with("u:"));
}

bool is_world_or_unix(const AclEntry& entry) { return entry.id.scheme == "world" || entry.id.scheme == "unix"; }

bool matches(const AuthId& who, const AuthId& entry) {
  if (who.scheme != entry.scheme) return false;
  return who.scheme == "ip" ? ip_matches(who.id, entry.id) : who.id == entry.id;
}

// Collects entries without exact duplicates. A frame holds tens of thousands of entries, which must not cost the square
// of it, so long lists are looked up in a set.
class UniqueAcl {
 public:
  void add(AclEntry entry) {
    if (acl_.size() < kShort) {
      if (std::find(acl_.begin(), acl_.end(), entry) != acl_.end()) return;
    } else {
      for (; in_set_ < acl_.size(); ++in_set_) seen_.insert(key(acl_[in_set_]));
      if (!seen_.insert(key(entry)).second) return;
      ++in_set_;
    }
    acl_.push_back(std::move(entry));
  }
  Acl take() { return std::move(acl_); }

 private:
  static constexpr std::size_t kShort = 16;
  // Unambiguous, because no scheme that passes valid_acl_id has a NUL in it.
  static std::string key(const AclEntry& entry) {
    return std::to_string(entry.perms) + '\0' + entry.id.scheme + '\0' + entry.id.id;
  }
  Acl acl_;
  std::unordered_set<std::string> seen_;
  std::size_t in_set_ = 0;
};

}  // namespace

bool ip_matches(std::string_view address, std::string_view range) {
  const auto peer = parse_address(address);
  const auto wanted = parse_range(range);
  if (!peer || !wanted || peer->bits != wanted->address.bits) return false;
  const std::size_t whole = wanted->bits / 8;
  if (std::memcmp(peer->bytes.data(), wanted->address.bytes.data(), whole) != 0) return false;
  const unsigned rest = wanted->bits % 8;
  if (rest == 0) return true;
  return ((peer->bytes[whole] ^ wanted->address.bytes[whole]) >> (8 - rest)) == 0;
}

bool valid_acl_id(std::string_view scheme, std::string_view id) {
  if (scheme == "world") return id == "anyone";
  if (scheme == "digest") return valid_digest_id(id);
  if (scheme == "ip") return parse_range(id).has_value();
  if (scheme == "unix") return valid_unix_id(id);
  return false;
}

bool acl_allows(const Acl& acl, const std::vector<AuthId>& ids, std::int32_t perms) {
  if (acl.empty()) return true;
  bool root = false;
  for (const AuthId& who : ids) {
    if (who.scheme == "super") return true;
    if (who.scheme == "unix" && who.id == "u:0") root = true;
  }
  if (root && std::all_of(acl.begin(), acl.end(), is_world_or_unix)) return true;
  for (const AclEntry& entry : acl) {
    if ((entry.perms & perms) == 0) continue;
    if (entry.id.scheme == "world" && entry.id.id == "anyone") return true;
    if (root && entry.id.scheme == "unix") return true;
    for (const AuthId& who : ids) {
      if (matches(who, entry.id)) return true;
    }
  }
  return false;
}

Result<Acl> acl_to_store(const Acl& requested, const std::vector<AuthId>& ids) {
  if (requested.empty()) return fail(Err::kInvalidAcl);
  UniqueAcl out;
  for (const AclEntry& entry : requested) {
    if (entry.id.scheme != "auth") {
      if (!valid_acl_id(entry.id.scheme, entry.id.id)) return fail(Err::kInvalidAcl);
      out.add(entry);
      continue;
    }
    bool any = false;
    for (const AuthId& who : ids) {
      if (!is_authenticated(who)) continue;
      any = true;
      out.add({entry.perms, who});
    }
    if (!any) return fail(Err::kInvalidAcl);
  }
  return out.take();
}

}  // namespace coord::tree
