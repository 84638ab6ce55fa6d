#include "replica/tree/apply.h"

#include <utility>
#include <variant>

#include "common/base/check.h"
#include "common/model/path.h"
#include "replica/tree/mutation.h"
#include "replica/tree/node_info.h"

namespace coord::tree {
namespace {

using wire::Op;

bool is_stock(Op op) { return static_cast<std::int32_t>(op) < static_cast<std::int32_t>(Op::kCapabilities); }
Err visible(Op op, Err err) { return is_stock(op) ? stock_code(err) : err; }

void write_error_result(Err err, wire::Writer& w) {
  wire::write(w, wire::MultiHeader{-1, false, static_cast<std::int32_t>(err)});
  w.i32(static_cast<std::int32_t>(err));
}

// The op's number in the result of a multi: all creates that answer with a Stat have the number of create2.
Op result_type(Op op) { return op == Op::kCreateContainer || op == Op::kCreateTtl ? Op::kCreate2 : op; }

}  // namespace

Application::Application(DataTree& tree, Watches& watches, Interest& interest, const Limits& limits, Sink& sink,
                         Zxid zxid)
    : tree_(tree),
      watches_(watches),
      interest_(interest),
      skip_acl_(limits.skip_acl),
      feature_level_known_(limits.feature_level_known),
      sink_(sink),
      zxid_(zxid) {}

Applied Application::run(Txn txn, bool want_reply, const Origin& origin) {
  COORD_CHECK_MSG(zxid_ > tree_.last_applied(), "transactions are applied out of order");
  Applied out{txn.session, txn.xid, txn.op, Err::kOk, {}};
  session_ = txn.session;
  seq_ = txn.seq;
  time_ = txn.time;
  from_client_ = txn.op != Op::kCreateNode;
  deliver_drop_alls();
  if (txn.seq != 0) tree_.acknowledge(txn.session, txn.acked_below);
  if (!repeated(txn, origin, out)) {
    out.err = carry_out(txn, want_reply || txn.seq != 0, origin, out.body);
    if (txn.seq != 0 && out.err != Err::kOutOfWindow) {
      tree_.keep_answer(txn.session, txn.seq, Answer{out.err, out.body});
    }
  }
  tree_.set_last_applied(zxid_);
  deliver_events();
  for (const SessionId id : closed_) sink_.session_closed(id, zxid_);
  return out;
}

// A sequence number that was answered before gets the same answer; nothing else happens.
bool Application::repeated(const Txn& txn, const Origin& origin, Applied& out) {
  if (txn.seq == 0 || txn.changes.size() != 1 || COORD_TREE_MUTANT(kFirstAnswerLost)) return false;
  const auto* error = std::get_if<ErrorTxn>(&txn.changes.front());
  if (error == nullptr || error->err != Err::kOk) return false;
  const Session* session = tree_.session(txn.session);
  if (session == nullptr) return false;
  const auto kept = session->answers.find(txn.seq);
  if (kept == session->answers.end()) return false;
  out.err = kept->second.err;
  out.body = kept->second.body;
  if (txn.op == Op::kCreateNode && txn.what == 1 && out.err == Err::kOk && origin.conn.value != 0) {
    wire::Reader r(out.body);
    const NodeId id(static_cast<std::uint64_t>(r.i64()));  // the first field of NodeInfo
    if (tree_.nodes().find(id) != nullptr) interest_.hold(origin.conn, id);
  }
  return true;
}

Err Application::carry_out(Txn& txn, bool want_body, const Origin& origin, std::string& body) {
  if (txn.op == Op::kMulti && txn.multi_ops.size() == txn.changes.size()) {
    multi(txn, want_body, body);
    return Err::kOk;
  }
  for (Change& c : txn.changes) {
    std::visit([this](auto& alternative) { change(alternative); }, c);
  }
  if (err_ != Err::kOk) return visible(txn.op, err_);
  if (txn.op == Op::kCreateNode && txn.what == 1 && origin.conn.value != 0) interest_.hold(origin.conn, txn.subject);
  if (want_body) {
    wire::Writer w(body);
    write_reply(txn, origin, w);
  }
  return Err::kOk;
}

void Application::multi(Txn& txn, bool want_body, std::string& body) {
  wire::Writer w(body);
  for (std::size_t i = 0; i < txn.changes.size(); ++i) {
    if (const auto* error = std::get_if<ErrorTxn>(&txn.changes[i])) {
      if (want_body) write_error_result(visible(txn.op, error->err), w);
      continue;
    }
    std::visit([this](auto& alternative) { change(alternative); }, txn.changes[i]);
    if (!want_body) continue;
    wire::write(w, wire::MultiHeader{static_cast<std::int32_t>(result_type(txn.multi_ops[i])), false, 0});
    write_result(txn.multi_ops[i], w);
  }
  if (want_body) wire::write(w, wire::MultiHeader{-1, true, -1});
}

// What a stock operation answers, alone or in a multi.
void Application::write_result(Op op, wire::Writer& w) const {
  const bool is_create = op == Op::kCreate || op == Op::kCreate2 || op == Op::kCreateContainer || op == Op::kCreateTtl;
  const bool has_stat = op != Op::kCreate && (is_create || op == Op::kSetData || op == Op::kSetAcl);
  if (!is_create && !has_stat) return;
  COORD_CHECK_MSG(node_ != nullptr, "a transaction without the node that its reply shows");
  if (is_create) w.buffer(std::string_view(tree_.nodes().path_of(*node_)));
  if (has_stat) wire::write(w, node_->stat());
}

void Application::write_reply(const Txn& txn, const Origin& origin, wire::Writer& w) const {
  if (txn.op == Op::kCapabilities) {
    wire::CapabilitiesReply reply;
    reply.first_id = reserved_first_;
    reply.id_count = reserved_count_;
    reply.trusted = origin.trusted;
    reply.peer_uid = origin.uid;
    reply.peer_gid = origin.gid;
    wire::write(w, reply);
  } else if (txn.op == Op::kDeleteNode) {
    w.i8(txn.what);
  } else if (txn.op == Op::kReconfig) {
    w.buffer(std::string_view(config_text(tree_.members(), tree_.members_version())));
    wire::write(w, tree_.nodes().find(kConfigNode)->stat());
  } else if (txn.op == Op::kFeatureLevel) {
    w.i32(tree_.feature_level());
  } else if (is_stock(txn.op)) {
    write_result(txn.op, w);
  } else if (const Node* node = tree_.nodes().find(txn.subject)) {
    write_node_info(w, tree_, *node, false);
  }
}

void Application::change(CreateTxn& c) {
  const Shape parent_shape = tree_.get(c.parent).shape;
  Node& node = tree_.create(std::move(c), zxid_, time_, from_client_);
  node_ = &node;
  if (const std::string path = watched_path(node); !path.empty()) {
    fire(WatchTable::kData, path, WatchType::kCreated, node);
    fire(WatchTable::kChild, parent_path(path), WatchType::kChildrenChanged, *node.parent);
  }
  if (interest_.idle()) return;
  if (node.parent->shape != parent_shape) note(wire::ChangeKind::kAttributes, *node.parent);
  note(wire::ChangeKind::kCreated, node);
}

void Application::change(DeleteTxn& c) { erase(tree_.get(c.id)); }

void Application::erase(Node& node) {
  // Watchers first: they are judged by the ACL of the node that goes. They cannot look before the lock is released.
  if (const std::string path = watched_path(node); !path.empty()) {
    fire_deleted(node, path);
    fire(WatchTable::kChild, parent_path(path), WatchType::kChildrenChanged, *node.parent);
  }
  const Node& parent = *node.parent;
  const NodeId id = node.id;
  node_ = nullptr;
  if (interest_.idle()) {
    tree_.erase(node, zxid_);
    return;
  }
  const wire::NodeInfo before = node_info(tree_, node);
  tree_.erase(node, zxid_);
  note_deleted(before, parent);
  interest_.gone(id);
}

void Application::change(SetDataTxn& c) {
  Node& node = tree_.get(c.id);
  tree_.set_data(node, std::move(c), zxid_, time_);
  node_ = &node;
  if (!watches_.idle(WatchTable::kData)) {
    fire(WatchTable::kData, tree_.nodes().path_of(node), WatchType::kDataChanged, node);
  }
  note(wire::ChangeKind::kData, node);
}

void Application::change(SetAclTxn& c) {
  Node& node = tree_.get(c.id);
  tree_.set_acl(node, c);
  node_ = &node;
  note(wire::ChangeKind::kAttributes, node);
}

void Application::change(SetAttributesTxn& c) {
  Node& node = tree_.get(c.id);
  tree_.set_attributes(node, c.attributes);
  node_ = &node;
  note(wire::ChangeKind::kAttributes, node);
}

void Application::change(CheckTxn& c) { node_ = &tree_.get(c.id); }

void Application::change(CreateSessionTxn& c) { tree_.create_session(c); }

void Application::change(CloseSessionTxn& c) {
  const Session* session = tree_.session(c.id);
  COORD_CHECK_MSG(session != nullptr, "a session is closed that does not exist");
  const std::vector<NodeId> ids(session->ephemerals.begin(), session->ephemerals.end());
  for (const NodeId id : ids) erase(tree_.get(id));
  tree_.close_session(c.id);
  closed_.push_back(c.id);
}

void Application::change(ReserveIdsTxn& c) {
  tree_.reserve_ids(c);
  reserved_first_ = c.first;
  reserved_count_ = c.count;
}

void Application::change(ErrorTxn& c) { err_ = c.err; }

void Application::change(EnrolTxn& c) { tree_.enrol(c); }

void Application::change(ReconfigTxn& c) {
  tree_.reconfig(std::move(c), zxid_);
  SetDataTxn text{kConfigNode, false, config_text(tree_.members(), zxid_), -1};  // its version stays -1 for ever
  change(text);
}

void Application::change(FeatureLevelTxn& c) {
  COORD_CHECK_MSG(c.level <= feature_level_known_, above_known(c.level, feature_level_known_).c_str());
  tree_.set_feature_level(c.level);
}

}  // namespace coord::tree
