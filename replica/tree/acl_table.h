// ACLs stored once: nodes refer to them by index, and most nodes of a tree share a handful. Reference counted by the
// caller. Pure; not synchronised (state_machine.h). Source: ZooKeeper's ReferenceCountedACLCache.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/model/records.h"
#include "replica/tree/node_table.h"

namespace coord::tree {

class AclTable {
 public:
  static constexpr AclIndex kOpen = 0;  // world:anyone:cdrwa; always there, not counted

  AclTable();

  // The index of `acl`, with one more reference. Equal means the same entries in the same order.
  AclIndex intern(const Acl& acl);
  // The same from the encoded form (encoded()), as it stands in node records; nullopt: malformed.
  std::optional<AclIndex> intern_encoded(std::string_view content);
  static std::string encoded(const Acl& acl);
  void release(AclIndex index);

  const Acl& at(AclIndex index) const { return rows_[index].acl; }
  // The permissions that the entries of world:anyone give to everybody; all of them for an empty ACL. The quick answer
  // to most permission checks.
  std::int32_t world_perms(AclIndex index) const { return rows_[index].world_perms; }
  std::uint32_t hash(AclIndex index) const { return rows_[index].hash; }  // of the content, the same on every replica
  std::size_t size() const { return by_content_.size(); }

 private:
  struct Row {
    Acl acl;
    std::int32_t world_perms = 0;
    std::uint32_t hash = 0;
    std::uint64_t references = 0;
  };
  AclIndex add(const Acl& acl, std::string content);

  std::vector<Row> rows_;
  std::vector<AclIndex> free_;
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view s) const { return std::hash<std::string_view>()(s); }
  };
  std::unordered_map<std::string, AclIndex, Hash, std::equal_to<>> by_content_;
};

}  // namespace coord::tree
