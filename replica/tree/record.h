// The records of the tree in the store: one for each node and session, one for the counters. Jute primitives behind a
// version byte. Pure. The store adds key and checksum.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "replica/tree/acl_table.h"
#include "replica/tree/data_tree.h"
#include "replica/tree/node_table.h"

namespace coord::tree {

std::string encode_node(const Node& node, const Acl& acl);
// Fills in everything but the id, the links and the ACL, which is left encoded (AclTable::intern_encoded).
struct NodeRecord {
  NodeId parent;
  std::string_view acl;  // points into the record
};
std::optional<NodeRecord> decode_node(std::string_view record, Node& node);

std::string encode_session(const Session& session);
std::optional<Session> decode_session(SessionId id, std::string_view record);

struct Counters {
  NodeId next_node_id;
  std::map<Sid, std::string> enrolled{};  // absent in records of before there were ensembles
  // Absent at feature level 1, so that what it wrote stays as it is.
  std::int32_t feature_level = 1;
  Zxid members_version{};
  std::vector<Member> members{};
};
std::string encode_counters(const Counters& counters);
// Of a level above kFeatureLevel, whatever follows it: only what stands before the level, and the level.
std::optional<Counters> decode_counters(std::string_view record);

}  // namespace coord::tree
