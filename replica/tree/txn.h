// Transactions as they are logged and replicated: results, not operations (zab.md section 4.1). Applying one twice, or
// a prefix of the log again from an older fold, ends in the same state. Encoded with the jute primitives; the first
// field is a version byte. A refused request is a transaction too (kError): it consumed a zxid and carries its code.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/base/error.h"
#include "common/model/ids.h"
#include "common/model/records.h"
#include "common/wire/codec.h"
#include "common/wire/extension.h"
#include "common/wire/protocol.h"
#include "replica/tree/ensemble.h"

namespace coord::tree {

// What made a node removable or owned: persisted instead of ZooKeeper's ephemeralOwner markers.
enum class Lifetime : std::uint8_t { kPersistent = 0, kEphemeral = 1, kContainer = 2, kTtl = 3 };

struct CreateTxn {
  NodeId id;
  NodeId parent;
  std::string name;  // final, digits of a sequential mode included
  bool null_data = false;
  std::string data;
  Acl acl;
  Attributes attributes;
  Lifetime lifetime = Lifetime::kPersistent;
  SessionId owner;             // kEphemeral
  std::int64_t ttl_ms = 0;     // kTtl
  std::uint32_t parent_creates = 0;  // the parent's creates counter afterwards
  bool parent_becomes_dir = false;   // first child of an empty client-made file (filesystem.md section 2)
};
struct DeleteTxn {
  NodeId id;
};
struct SetDataTxn {
  NodeId id;
  bool null_data = false;
  std::string data;
  std::int32_t version = 0;  // afterwards
};
struct SetAclTxn {  // setACL, chmod, chown
  NodeId id;
  Acl acl;
  std::int32_t aversion = 0;  // afterwards
};
struct SetAttributesTxn {  // exec bits, mtime, shape
  NodeId id;
  Attributes attributes;
};
struct MoveTxn {  // rename to a free name; `id` keeps its id and all below it
  NodeId id;
  NodeId new_parent;
  std::string new_name;
  std::uint32_t new_parent_creates = 0;
};
struct ExchangeTxn {
  NodeId a;
  NodeId b;
};
struct CheckTxn {  // of a multi; changes nothing
  NodeId id;
};
struct CreateSessionTxn {
  SessionId id;
  std::int32_t timeout_ms = 0;
};
// The session and all its ephemerals, which are looked up when it is applied (zab.md 4306: no unbounded list). They
// are deleted in ascending order of node id.
struct CloseSessionTxn {
  SessionId id;
};
struct ReserveIdsTxn {
  NodeId first;
  std::int32_t count = 0;
};
// Data directories that may acknowledge from here on, by server id (replica/README.md, who counts).
struct EnrolTxn {
  std::map<Sid, std::string> directories;
};
// The members from here on, all of them, ascending by id; `directories`: of servers that are new, enrolled with it. The
// enrolments of servers that are not in the list any more go. Feature level 2.
struct ReconfigTxn {
  std::vector<Member> members;
  std::map<Sid, std::string> directories;
};
struct FeatureLevelTxn {  // feature level 2
  std::int32_t level = 0;
};
struct ErrorTxn {
  Err err = Err::kOk;  // kOk: nothing had to change (chmod to the same mode, a repeated sequence number)
};

using Change =
    std::variant<CreateTxn, DeleteTxn, SetDataTxn, SetAclTxn, SetAttributesTxn, MoveTxn, ExchangeTxn, CheckTxn,
                 CreateSessionTxn, CloseSessionTxn, ReserveIdsTxn, ErrorTxn, EnrolTxn, ReconfigTxn, FeatureLevelTxn>;

struct Txn {
  SessionId session;         // who asked; 0: the replica itself
  std::int32_t xid = 0;
  wire::Op op = wire::Op::kError;  // of the request, which decides the form of the reply
  TimeMs time = 0;           // one timestamp for all changes
  std::int64_t seq = 0;      // MutationHeader of an extension mutation; 0: none
  std::int64_t acked_below = 0;
  // A multi has one change for each of its operations, in order, with `multi_ops` naming them; a failed multi has one
  // ErrorTxn for each instead. Other requests: the changes that together make the operation (a rename onto a file is
  // SetDataTxn and DeleteTxn); what the reply shows is `subject`.
  std::vector<Change> changes;
  std::vector<wire::Op> multi_ops;  // only for kMulti
  NodeId subject;                   // extension mutations: the node whose NodeInfo is answered
  std::int8_t what = 0;             // kDeleteNode: the reply's `what`
};

// The body of a kEnrol request, and of the change: a vector of (i32 server id, buffer directory id).
void write_directories(wire::Writer& w, const std::map<Sid, std::string>& directories);
std::map<Sid, std::string> read_directories(wire::Reader& r);
void write_members(wire::Writer& w, const std::vector<Member>& members);
std::vector<Member> read_members(wire::Reader& r);  // not ascending, or without an id: fails the reader

// What a reconfig leaves of the enrolments, and adds to them.
void enrol_members(const ReconfigTxn& change, std::map<Sid, std::string>& enrolled);

void encode(const Txn& txn, std::string& out);
// nullopt: not a transaction of a version we know. Never throws; bounded by the input.
std::optional<Txn> decode(std::string_view bytes);
// The ReconfigTxn in an encoded transaction; nullopt: there is none. Cheap for all others: looks at the op only.
std::optional<ReconfigTxn> reconfig_of(std::string_view bytes);
// The same of an EnrolTxn, and of a FeatureLevelTxn.
std::optional<EnrolTxn> enrolment_of(std::string_view bytes);
std::optional<FeatureLevelTxn> feature_level_of(std::string_view bytes);

}  // namespace coord::tree
