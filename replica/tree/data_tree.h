// The replicated state as data: nodes, interned ACLs, sessions with their ephemerals and answers, quotas, counters, the
// digest and what changed since the last fold. Its mutators carry out one Change each, as decided by prepare.h, and
// keep all derived state right; they check nothing but invariants (a change that refers to a missing node aborts).
// Who is told about a change is apply.h's affair. Pure; not synchronised (state_machine.h).
//
// What prepare and apply agree on, besides txn.h:
// * MoveTxn: both parents get pzxid = zxid; the new parent's `creates` is the one in the transaction (it counts as one
//   more create, also within one parent); the old parent just loses a child.
// * ExchangeTxn: each of the two parents gets `creates` + 1 and pzxid = zxid (a common parent once). Neither node may
//   be an ancestor of the other. The reserved nodes are never moved, exchanged or deleted.
// * CreateTxn with id >= next_node_id() raises it to id + 1; smaller ids come from a reserved block.
// * A stock create (any but kCreateNode) makes a node with Node::from_client.
// * Txn::what of kCreateNode: 1 if the request said `hold`.
// * A repeated seq: changes = {ErrorTxn{kOk}}, seq and what set; the window has the answer when it is applied.
// * Sequence numbers answered: every transaction with seq >= acked_below leaves its answer in the window, refusals
//   too, unless the window is full (kAnswerWindowMax). kOutOfWindow is never kept.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/base/result.h"
#include "common/model/ids.h"
#include "common/model/records.h"
#include "replica/tree/acl_table.h"
#include "replica/tree/node_table.h"
#include "replica/tree/quota.h"
#include "replica/tree/txn.h"

namespace coord::tree {

// In every tree from the start, with the Stats of client-protocol.md section 6. Not in the store until they change.
inline constexpr NodeId kZookeeperNode{2};  // /zookeeper
inline constexpr NodeId kQuotaNode{3};      // /zookeeper/quota
inline constexpr NodeId kConfigNode{4};     // /zookeeper/config, world may read only
inline constexpr NodeId kFirstNodeId{16};   // of all others
inline constexpr bool is_reserved(NodeId id) { return id.value < kFirstNodeId.value; }

struct Answer {
  Err err = Err::kOk;
  std::string body;
};

struct Session {
  SessionId id;
  std::int32_t timeout_ms = 0;
  std::set<NodeId> ephemerals;  // derived from the nodes
  std::int64_t acked_below = 0;  // answers of smaller sequence numbers are gone: kOutOfWindow
  std::map<std::int64_t, Answer> answers;
};

struct Fold;  // state_machine.h

class DataTree {
 public:
  DataTree();
  DataTree(const DataTree&) = delete;
  DataTree& operator=(const DataTree&) = delete;

  // --- facts
  const NodeTable& nodes() const { return nodes_; }
  const Acl& acl(const Node& node) const { return acls_.at(node.acl); }
  std::int32_t world_perms(const Node& node) const { return acls_.world_perms(node.acl); }
  const Session* session(SessionId id) const;  // nullptr: none
  const std::unordered_map<SessionId, Session>& sessions() const { return sessions_; }
  NodeId next_node_id() const { return next_node_id_; }
  const std::map<Sid, std::string>& enrolled() const { return enrolled_; }
  const std::vector<Member>& members() const { return members_; }
  Zxid members_version() const { return members_version_; }
  std::int32_t feature_level() const { return feature_level_; }
  Zxid last_applied() const { return last_applied_; }
  std::size_t ephemeral_count() const { return ephemeral_count_; }
  std::size_t data_bytes() const { return data_bytes_; }

  // By the limited path. The deepest registered one that is `path` or above it, or end().
  using Quotas = std::map<std::string, Quota, std::less<>>;
  const Quotas& quotas() const { return quotas_; }
  Quotas::const_iterator quota_for(std::string_view path) const;

  // Nodes that may be due for reaping.
  const std::set<NodeId>& containers() const { return containers_; }
  const std::set<NodeId>& ttl_nodes() const { return ttl_nodes_; }

  // Sum of a hash of every node, every session and what is said of the ensemble; incremental, and from scratch (for
  // tests and scrubbing).
  std::uint64_t digest() const { return digest_; }
  std::uint64_t recomputed_digest() const;

  // --- changes; each within the transaction `zxid`
  // References to nodes stay good until the node is erased.
  Node& get(NodeId id);  // aborts if there is none
  Node& create(CreateTxn change, Zxid zxid, TimeMs time, bool from_client);
  void erase(Node& node, Zxid zxid);  // must have no children
  void set_data(Node& node, SetDataTxn change, Zxid zxid, TimeMs time);
  void set_acl(Node& node, const SetAclTxn& change);
  void set_attributes(Node& node, const Attributes& attributes);
  void move(Node& node, Node& new_parent, std::string new_name, std::uint32_t new_parent_creates, Zxid zxid);
  void exchange(Node& a, Node& b, Zxid zxid);
  void create_session(const CreateSessionTxn& change);
  void close_session(SessionId id);  // its ephemerals must be gone
  void reserve_ids(const ReserveIdsTxn& change);
  void enrol(const EnrolTxn& change);
  void reconfig(ReconfigTxn change, Zxid zxid);  // /zookeeper/config is the caller's affair
  void set_feature_level(std::int32_t level);
  void acknowledge(SessionId id, std::int64_t acked_below);  // prunes the answers; no such session: nothing
  void keep_answer(SessionId id, std::int64_t seq, Answer answer);
  void set_last_applied(Zxid zxid) { last_applied_ = zxid; }

  // --- store (record.h has the encoding)
  std::size_t dirty_nodes() const { return dirty_nodes_.size(); }
  std::size_t dirty_bytes() const { return dirty_bytes_; }
  void take_fold(Fold& fold);
  Result<bool, Fault> load_node(NodeId id, std::string_view record);
  Result<bool, Fault> load_session(SessionId id, std::string_view record);
  // `feature_level_known`: data of a higher level is a Fault.
  Result<bool, Fault> load_counters(std::string_view record, std::int32_t feature_level_known);
  Result<bool, Fault> finish_load(Zxid tree_durable);

 private:
  class Edit;
  struct Unlinked {
    Node* node;
    NodeId parent;
  };

  Node& add_reserved(NodeId id, Node& parent, const char* name, Shape shape);
  std::uint64_t node_hash(const Node& node) const;
  std::uint64_t ensemble_hash() const;
  void mark(Node& node);
  Session& get_session(SessionId id);
  void edit_session(Session& session, std::int64_t acked_below);
  void track(Node& node);    // derived state of a node that is new here
  void untrack(Node& node);  // and of one that goes
  void touch_parent(Node& parent, std::uint32_t creates, Zxid zxid);
  Result<bool, Fault> link_loaded();
  Result<bool, Fault> check_loaded() const;

  // quota_tree.cc
  void quota_created(const Node& node);
  void quota_erased(const Node& node);
  void quota_changed(const Node& node, std::int64_t bytes);
  void quota_moved(const Node& node);
  void count_subtree(const Node& top, std::int64_t sign);
  void add_usage(std::string_view path, std::int64_t count, std::int64_t bytes);
  void write_usage(Node& stats, std::int64_t count, std::int64_t bytes);
  void register_quotas();

  NodeTable nodes_;
  AclTable acls_;
  std::unordered_map<SessionId, Session> sessions_;
  Quotas quotas_;
  std::set<NodeId> containers_;
  std::set<NodeId> ttl_nodes_;
  NodeId next_node_id_ = kFirstNodeId;
  std::map<Sid, std::string> enrolled_;
  std::vector<Member> members_;
  Zxid members_version_;
  std::int32_t feature_level_ = 1;
  Zxid last_applied_;
  std::uint64_t digest_ = 0;
  std::size_t ephemeral_count_ = 0;
  std::size_t data_bytes_ = 0;

  std::vector<NodeId> dirty_nodes_;  // those with Node::dirty, and those that went; each once
  std::set<SessionId> dirty_sessions_;
  std::size_t dirty_bytes_ = 0;
  std::vector<Unlinked> loading_;  // until finish_load
};

}  // namespace coord::tree
