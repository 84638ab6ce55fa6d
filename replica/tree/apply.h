// Carries out a committed transaction: changes the tree, tells whoever watches or holds what changed, makes the reply.
// Deterministic in all that is replicated. Pure; under the caller's exclusive lock (state_machine.h).
//
// Order of what the sink gets: pending "drop everything" events; the watch events of all changes in their order
// (client-protocol.md section 7.1 within one); the change events of all changes in their order; closed sessions.
#pragma once

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "replica/tree/data_tree.h"
#include "replica/tree/interest.h"
#include "replica/tree/state_machine.h"
#include "replica/tree/txn.h"
#include "replica/tree/watches.h"

namespace coord::tree {

// The connection of this replica that speaks for the transaction's session; conn 0: there is none.
struct Origin {
  ConnId conn;
  bool trusted = false;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
};

class Application {
 public:
  Application(DataTree& tree, Watches& watches, Interest& interest, const Limits& limits, Sink& sink, Zxid zxid);

  // Once.
  Applied run(Txn txn, bool want_reply, const Origin& origin);

 private:
  // Each carries out one change and leaves the node that a reply would show in node_.
  void change(CreateTxn& c);
  void change(DeleteTxn& c);
  void change(SetDataTxn& c);
  void change(SetAclTxn& c);
  void change(SetAttributesTxn& c);
  void change(MoveTxn& c);
  void change(ExchangeTxn& c);
  void change(CheckTxn& c);
  void change(CreateSessionTxn& c);
  void change(CloseSessionTxn& c);
  void change(ReserveIdsTxn& c);
  void change(ErrorTxn& c);
  void change(EnrolTxn& c);
  void change(ReconfigTxn& c);
  void change(FeatureLevelTxn& c);
  void erase(Node& node);

  Err carry_out(Txn& txn, bool want_body, const Origin& origin, std::string& body);
  void multi(Txn& txn, bool want_body, std::string& body);
  void write_result(wire::Op op, wire::Writer& w) const;
  void write_reply(const Txn& txn, const Origin& origin, wire::Writer& w) const;
  bool repeated(const Txn& txn, const Origin& origin, Applied& out);

  // Watches. `node` is the one whose ACL decides who may learn of it.
  void fire(WatchTable table, std::string_view path, WatchType type, const Node& node, bool keep_told = false);
  void fire_deleted(const Node& node, std::string_view path);
  std::string watched_path(const Node& node) const;  // empty if nobody watches anything
  // Change events. Holders of the node or of any of the parents are told.
  std::vector<ConnId> holders_of(NodeId node, std::initializer_list<const Node*> parents) const;
  static const Node* listing_with(const Node& parent, std::uint32_t children_now);
  void note(wire::ChangeKind kind, const Node& node);
  void note_deleted(const wire::NodeInfo& before, const Node& parent);
  void note_renamed(const Node& node, const Node& old_parent, std::string old_name);
  void queue(wire::ChangeEvent event, std::vector<ConnId> holders);
  void deliver_drop_alls();
  void deliver_events();

  DataTree& tree_;
  Watches& watches_;
  Interest& interest_;
  const bool skip_acl_;
  const std::int32_t feature_level_known_;
  Sink& sink_;
  const Zxid zxid_;

  SessionId session_;
  std::int64_t seq_ = 0;
  TimeMs time_ = 0;
  bool from_client_ = false;
  const Node* node_ = nullptr;
  Err err_ = Err::kOk;
  NodeId reserved_first_;
  std::int32_t reserved_count_ = 0;
  std::vector<SessionId> closed_;
  std::vector<std::pair<wire::ChangeEvent, std::vector<ConnId>>> events_;
  std::vector<ConnId> told_;
  std::vector<ConnId> skip_;
};

}  // namespace coord::tree
