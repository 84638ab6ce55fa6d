#include "replica/tree/acl_table.h"

#include <utility>

#include "common/base/check.h"
#include "common/base/crc32c.h"
#include "common/wire/protocol.h"

namespace coord::tree {
namespace {

std::int32_t world_perms_of(const Acl& acl) {
  if (acl.empty()) return perm::kAll;
  std::int32_t perms = 0;
  for (const AclEntry& entry : acl) {
    if (entry.id.scheme == "world" && entry.id.id == "anyone") perms |= entry.perms;
  }
  return perms;
}

}  // namespace

std::string AclTable::encoded(const Acl& acl) {
  std::string content;
  wire::Writer w(content);
  wire::write(w, acl);
  return content;
}

AclTable::AclTable() {
  const Acl open = open_acl();
  COORD_CHECK(add(open, encoded(open)) == kOpen);
}

AclIndex AclTable::add(const Acl& acl, std::string content) {
  AclIndex index = 0;
  if (free_.empty()) {
    index = static_cast<AclIndex>(rows_.size());
    rows_.emplace_back();
  } else {
    index = free_.back();
    free_.pop_back();
  }
  Row& row = rows_[index];
  row.acl = acl;
  row.world_perms = world_perms_of(acl);
  row.hash = crc32c(content);
  row.references = 0;
  by_content_.emplace(std::move(content), index);
  return index;
}

AclIndex AclTable::intern(const Acl& acl) {
  static const Acl open = open_acl();
  if (acl == open) return kOpen;
  std::string content = encoded(acl);
  const auto at = by_content_.find(content);
  const AclIndex index = at != by_content_.end() ? at->second : add(acl, std::move(content));
  ++rows_[index].references;
  return index;
}

std::optional<AclIndex> AclTable::intern_encoded(std::string_view content) {
  const auto at = by_content_.find(content);
  if (at != by_content_.end()) {
    if (at->second != kOpen) ++rows_[at->second].references;
    return at->second;
  }
  wire::Reader r(content);
  const Acl acl = wire::read_acl(r);
  if (r.failed() || r.remaining() != 0) return std::nullopt;
  return intern(acl);
}

void AclTable::release(AclIndex index) {
  if (index == kOpen) return;
  Row& row = rows_[index];
  COORD_CHECK(row.references > 0);
  if (--row.references > 0) return;
  by_content_.erase(encoded(row.acl));
  row = Row();
  free_.push_back(index);
}

}  // namespace coord::tree
