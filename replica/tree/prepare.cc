#include "replica/tree/prepare.h"

#include <algorithm>

#include "common/model/path.h"
#include "replica/tree/prepare_step.h"

namespace coord::tree {

using wire::Op;

Txn Preparer::prepare(const Request& request, Zxid zxid, TimeMs now, bool writes_refused) {
  overlay_.begin(zxid);
  return Step(tree_, limits_, electorate_, overlay_, request, now, writes_refused).run();
}

Txn Step::run() {
  txn_.session = request_.session;
  txn_.xid = request_.xid;
  txn_.op = request_.op;
  txn_.time = now_;
  if (const Err err = dispatch(); err != Err::kOk) {
    txn_.changes.assign(1, ErrorTxn{err});
    txn_.subject = NodeId{};
  }
  return std::move(txn_);
}

Err Step::dispatch() {
  const Op op = request_.op;
  if (is_stock_mutation(op)) {
    wire::Reader reader(request_.body);
    StockOp decoded;
    return decode_stock(op, reader, decoded) ? stock(decoded) : Err::kMarshallingError;
  }
  if (op == Op::kMulti) return multi();
  if (op == Op::kCreateSession) return create_session();
  if (op == Op::kCloseSession) return close_session();
  if (op == Op::kDeleteContainer) return delete_container();
  if (op == Op::kEnrol) return enrol();
  if (op == Op::kReconfig) return reconfig();
  if (op == Op::kFeatureLevel) return feature_level();
  if (op == Op::kCapabilities) return reserve_ids();
  return extension();
}

Err Step::check_session() const {
  switch (overlay_.session(request_.session)) {
    case Overlay::SessionState::kOpen:
      return Err::kOk;
    case Overlay::SessionState::kClosing:
      return Err::kSessionExpired;
    case Overlay::SessionState::kUnknown:
      break;
  }
  return Err::kUnknownSession;
}

Err Step::create_session() {
  wire::Reader reader(request_.body);
  const std::int32_t timeout = reader.i32();
  const SessionId id{reader.i64()};
  if (reader.failed()) return Err::kMarshallingError;
  // Ids that ZooKeeper's ephemeralOwner markers take are never given (client-protocol.md sections 2.3 and 6).
  const auto bits = static_cast<std::uint64_t>(id.value);
  if (timeout <= 0 || bits == 0 || bits == (std::uint64_t{1} << 63) || (bits >> 56) == 0xff) return Err::kBadArguments;
  if (overlay_.session(id) != Overlay::SessionState::kUnknown) return Err::kSessionExpired;
  overlay_.create_session(id);
  txn_.changes.emplace_back(CreateSessionTxn{id, timeout});
  return Err::kOk;
}

Err Step::close_session() {
  if (overlay_.session(request_.session) != Overlay::SessionState::kOpen) {
    txn_.changes.emplace_back(ErrorTxn{Err::kOk});
    return Err::kOk;
  }
  overlay_.close_session(request_.session);
  txn_.changes.emplace_back(CloseSessionTxn{request_.session});
  return Err::kOk;
}

// From the reaper only. It looked at the applied tree; by now the node may have been used again or be another one.
Err Step::delete_container() {
  if (request_.session != SessionId{}) return Err::kUnimplemented;
  wire::Reader reader(request_.body);
  const std::string_view path = reader.string();
  if (reader.failed()) return Err::kMarshallingError;
  if (!valid_path(path)) return Err::kBadArguments;
  const Overlay::View node = overlay_.find(path);
  if (!node) return Err::kNoNode;
  if (is_reserved(node.id())) return Err::kBadArguments;
  if (node.num_children() != 0) return Err::kNotEmpty;
  const TimeMs age = age_ms(now_, node.mtime());
  const bool used = node.creates() > 0;
  const bool unused_too_long = limits_.container_never_used_ms > 0 && age > limits_.container_never_used_ms;
  const bool container_due = node.lifetime() == Lifetime::kContainer && (used || unused_too_long);
  const bool ttl_due = node.lifetime() == Lifetime::kTtl && age > node.owner_or_ttl();
  if (!container_due && !ttl_due) return Err::kBadVersion;
  emit(DeleteTxn{node.id()});
  return Err::kOk;
}

// From a leader only.
Err Step::enrol() {
  if (request_.session != SessionId{}) return Err::kUnimplemented;
  wire::Reader reader(request_.body);
  EnrolTxn change{read_directories(reader)};
  if (reader.failed() || reader.remaining() != 0) return Err::kMarshallingError;
  // Who was removed meanwhile must not leave a directory behind: it may come back with another one.
  if (const std::vector<Member>& members = overlay_.members(); !members.empty()) {
    std::erase_if(change.directories, [&](const auto& entry) {
      return std::none_of(members.begin(), members.end(), [&](const Member& m) { return m.sid == entry.first; });
    });
  }
  overlay_.enrol(change);
  txn_.changes.emplace_back(std::move(change));
  return Err::kOk;
}

Err Step::reserve_ids() {
  wire::Reader reader(request_.body);
  wire::CapabilitiesRequest r;
  wire::read(reader, r);
  if (reader.failed()) return Err::kMarshallingError;
  if (const Err err = check_session(); err != Err::kOk) return err;
  if (r.reserve_ids <= 0 || r.reserve_ids > kReserveIdsMax) return Err::kBadArguments;
  const ReserveIdsTxn change{overlay_.next_node_id(), r.reserve_ids};
  overlay_.reserve_ids(change);
  txn_.changes.emplace_back(change);
  return Err::kOk;
}

}  // namespace coord::tree
