// What has been prepared but not yet applied, projected onto the tree: prepare.h validates against this. Keyed by node
// id and by (parent id, name), so that a renamed directory needs one entry and not one for each node below it.
//
// An entry holds everything that rules ask of a node and lives until the last transaction that touched it has been
// applied; what a transaction leaves alone (data, ACL, name) is read from the tree, where it cannot change meanwhile.
// With nothing outstanding every look-up goes straight to the tree.
//
// A multi is projected operation by operation between begin_multi() and commit_multi() or rollback_multi(); the latter
// restores exactly what was before (ZOOKEEPER-1624). Everything else validates first and projects then.
//
// Pure; core thread only. Source: zab.md section 4.1 (outstanding changes).
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "replica/tree/data_tree.h"
#include "replica/tree/txn.h"

namespace coord::tree {

class Overlay {
  struct Entry;

 public:
  explicit Overlay(const DataTree& tree) : tree_(tree) {}
  Overlay(const Overlay&) = delete;
  Overlay& operator=(const Overlay&) = delete;

  // One node as it will be when everything prepared is applied; false when there is none. Good until the next
  // projection; what its references refer to, too.
  class View {
   public:
    View() = default;
    explicit operator bool() const { return entry_ != nullptr ? entry_->exists : node_ != nullptr; }
    NodeId id() const { return id_; }
    NodeId parent() const { return entry_ != nullptr ? entry_->parent : node_->parent->id; }
    std::string_view name() const { return entry_ != nullptr && entry_->name ? *entry_->name : node_->name; }
    std::int32_t version() const { return entry_ != nullptr ? entry_->version : node_->version; }
    std::int32_t aversion() const { return entry_ != nullptr ? entry_->aversion : node_->aversion; }
    std::uint32_t creates() const { return entry_ != nullptr ? entry_->creates : node_->creates; }
    std::uint32_t num_children() const { return entry_ != nullptr ? entry_->num_children : node_->num_children; }
    TimeMs mtime() const { return entry_ != nullptr ? entry_->mtime : node_->mtime; }
    Lifetime lifetime() const { return entry_ != nullptr ? entry_->lifetime : node_->lifetime; }
    std::int64_t owner_or_ttl() const { return entry_ != nullptr ? entry_->owner_or_ttl : node_->owner_or_ttl; }
    bool null_data() const { return entry_ != nullptr ? entry_->null_data : node_->null_data; }
    bool from_client() const { return entry_ != nullptr ? entry_->from_client : node_->from_client; }
    Attributes attributes() const { return entry_ != nullptr ? entry_->attributes : node_->attributes(); }
    std::string_view data() const { return entry_ != nullptr && entry_->data ? *entry_->data : node_->data; }
    const Acl& acl() const { return entry_ != nullptr && entry_->acl ? *entry_->acl : tree_->acl(*node_); }
    // Do the entries of world:anyone alone grant any of `perms`? The quick answer to most checks; false says nothing.
    bool world_allows(std::int32_t perms) const {
      return (entry_ == nullptr || !entry_->acl) && (tree_->world_perms(*node_) & perms) != 0;
    }

   private:
    friend class Overlay;
    View(const DataTree& tree, NodeId id, const Entry* entry, const Node* node)
        : tree_(&tree), id_(id), entry_(entry), node_(node) {}
    const DataTree* tree_ = nullptr;
    NodeId id_;
    const Entry* entry_ = nullptr;
    const Node* node_ = nullptr;
  };

  // --- looking
  View node(NodeId id) const;
  View child(NodeId parent, std::string_view name) const;
  // By a path as ZooKeeper's string-keyed table knows it: "" and "/" are the root, anything that is not a valid
  // spelling of an existing path ("/a/", "/a//b", "a/b") is no node.
  View find(std::string_view path) const;
  std::string path_of(NodeId id) const;  // "/" for the root
  bool is_or_is_below(NodeId id, NodeId top) const;
  NodeId next_node_id() const { return std::max(next_id_, tree_.next_node_id()); }

  struct Subtree {
    std::size_t nodes = 0;    // the top included
    std::size_t bytes = 0;    // of data
    bool too_large = false;   // more than the limit; the rest is not counted
    bool ephemerals = false;  // below the top
  };
  Subtree measure(NodeId top, std::size_t max_nodes) const;

  // --- projecting; everything until the next begin() belongs to `zxid`, which is above all before
  void begin(Zxid zxid) { zxid_ = zxid; }
  void create(const CreateTxn& change, TimeMs now, bool from_client);
  void erase(NodeId id);
  void set_data(const SetDataTxn& change, TimeMs now);
  void set_acl(const SetAclTxn& change);
  void set_attributes(const SetAttributesTxn& change);
  void move(const MoveTxn& change);
  void exchange(const ExchangeTxn& change);
  void reserve_ids(const ReserveIdsTxn& change);

  void begin_multi();
  void commit_multi();
  void rollback_multi();

  // --- sessions
  enum class SessionState { kUnknown, kOpen, kClosing };
  SessionState session(SessionId id) const;
  void create_session(SessionId id);
  void close_session(SessionId id);  // its ephemerals go, wherever they came from

  // --- answer windows of extension mutations (common/wire/extension.h)
  enum class Seq { kNew, kRepeated, kOutOfWindow, kWindowFull };
  Seq classify(SessionId id, std::int64_t seq, std::int64_t acked_below) const;
  // `seq` 0: a repeated one, which only acknowledges.
  void use_seq(SessionId id, std::int64_t seq, std::int64_t acked_below);

  // --- the ensemble
  const std::vector<Member>& members() const { return ensemble_ ? ensemble_->members : tree_.members(); }
  std::int32_t feature_level() const { return ensemble_ ? ensemble_->feature_level : tree_.feature_level(); }
  const std::map<Sid, std::string>& enrolled() const { return ensemble_ ? ensemble_->enrolled : tree_.enrolled(); }
  bool reconfig_outstanding() const { return reconfig_ != Zxid{}; }
  void reconfig(const ReconfigTxn& change);
  void set_feature_level(std::int32_t level);
  void enrol(const EnrolTxn& change);

  // --- letting go
  void applied(Zxid zxid);  // everything up to it stands in the tree
  void clear();             // nothing of what was prepared will be applied
  bool empty() const { return entries_.empty() && names_.empty() && sessions_.empty() && !ensemble_; }

  // Everything in it, in a fixed order: for tests, which compare what a rolled back multi left.
  std::string describe() const;

 private:
  struct Entry {
    Zxid zxid;  // of the last transaction that touched it
    bool exists = true;
    NodeId parent;
    std::int32_t version = 0;
    std::int32_t aversion = 0;
    std::uint32_t creates = 0;
    std::uint32_t num_children = 0;
    TimeMs mtime = 0;
    std::int64_t owner_or_ttl = 0;
    Attributes attributes;
    Lifetime lifetime = Lifetime::kPersistent;
    bool null_data = false;
    bool from_client = false;
    // Null: as in the tree.
    std::shared_ptr<const std::string> name;
    std::shared_ptr<const std::string> data;
    std::shared_ptr<const Acl> acl;
  };
  struct NameRef {
    NodeId parent;
    std::string_view name;
  };
  struct NameKey {
    NodeId parent;
    std::string name;
  };
  struct NameHash {
    using is_transparent = void;
    std::size_t operator()(const NameRef& k) const noexcept {
      return std::hash<std::string_view>()(k.name) ^ (k.parent.value * 0x9e3779b97f4a7c15u);
    }
    std::size_t operator()(const NameKey& k) const noexcept { return (*this)(NameRef{k.parent, k.name}); }
  };
  struct NameEqual {
    using is_transparent = void;
    template <class A, class B>
    bool operator()(const A& a, const B& b) const noexcept {
      return a.parent == b.parent && a.name == b.name;
    }
  };
  struct NameSlot {
    Zxid zxid;
    NodeId child;  // 0: the name is free
  };
  struct SessionEntry {
    Zxid zxid;
    enum class Change { kNone, kCreated, kClosing } change = Change::kNone;
    std::int64_t acked_below = 0;  // as far as prepared requests say; 0: as in the tree
    std::set<std::int64_t> seqs;   // prepared, not applied
  };
  struct Ensemble {
    Zxid zxid;  // of the last transaction that touched it
    std::vector<Member> members;
    std::int32_t feature_level = 1;
    std::map<Sid, std::string> enrolled;
  };
  // How it was before a multi touched it; nullopt: not there.
  struct EntryUndo {
    NodeId id;
    std::optional<Entry> before;
  };
  struct NameUndo {
    NameKey key;
    std::optional<NameSlot> before;
  };

  std::pair<NodeId, const Node*> step(NodeId parent, std::string_view name) const;
  const Entry* entry(NodeId id) const;
  View view(NodeId id, const Node* node) const;
  Entry& touch(NodeId id);
  void put_name(NodeId parent, std::string_view name, NodeId child);
  void index(NodeId id, const Entry& entry);
  void unindex(NodeId id, const Entry& entry);
  SessionEntry& touch_session(SessionId id, std::int64_t seq);
  Ensemble& touch_ensemble();

  const DataTree& tree_;
  Zxid zxid_;
  NodeId next_id_;  // meaningful while above the tree's
  std::unordered_map<NodeId, Entry> entries_;
  std::unordered_map<NameKey, NameSlot, NameHash, NameEqual> names_;
  std::unordered_map<SessionId, SessionEntry> sessions_;
  std::set<std::pair<SessionId, NodeId>> ephemerals_;  // those of entries_ that exist
  std::optional<Ensemble> ensemble_;                   // no multi touches it
  Zxid reconfig_;                                      // prepared and not applied; 0: none

  // What each transaction touched, in order: one element for each entry and transaction.
  std::deque<std::pair<Zxid, NodeId>> touched_nodes_;
  std::deque<std::pair<Zxid, const NameKey*>> touched_names_;  // keys stay where they are in names_
  struct TouchedSession {
    Zxid zxid;
    SessionId id;
    std::int64_t seq;  // 0: none
  };
  std::deque<TouchedSession> touched_sessions_;

  bool in_multi_ = false;
  std::vector<EntryUndo> entry_undo_;
  std::vector<NameUndo> name_undo_;
  std::size_t touched_nodes_before_ = 0;
  std::size_t touched_names_before_ = 0;
  NodeId next_id_before_;
};

}  // namespace coord::tree
