// create*, delete, setData, setACL and check: the order of the tests is client-protocol.md section 3.1, row by row.
#include <algorithm>

#include "common/model/path.h"
#include "replica/tree/acl_check.h"
#include "replica/tree/prepare_step.h"

namespace coord::tree {

using wire::CreateMode;
using wire::Op;

bool is_create(Op op) {
  return op == Op::kCreate || op == Op::kCreate2 || op == Op::kCreateContainer || op == Op::kCreateTtl;
}

bool is_stock_mutation(Op op) { return is_create(op) || op == Op::kDelete || op == Op::kSetData || op == Op::kSetAcl; }

bool decode_stock(Op op, wire::Reader& reader, StockOp& out) {
  out.op = op;
  const auto path = reader.buffer();
  if (!path) return false;  // null too: the reference dereferences it
  out.path = *path;
  if (is_create(op)) {
    out.data = reader.buffer();
    out.acl = wire::read_acl(reader);
    out.flags = reader.i32();
    if (op == Op::kCreateTtl) out.ttl_ms = reader.i64();
    return !reader.failed();
  }
  if (op == Op::kSetData) out.data = reader.buffer();
  if (op == Op::kSetAcl) out.acl = wire::read_acl(reader);
  out.version = reader.i32();
  return !reader.failed();
}

namespace {

// The parent's path as the reference cuts it: "" (an alias of the root) for "/x" and for "/", "a" for "a/b". Nullopt
// for a path without a slash or with a NUL.
std::optional<std::string_view> cut_parent(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string_view::npos || path.find('\0') != std::string_view::npos) return std::nullopt;
  return path.substr(0, slash);
}

bool is_special(std::string_view path) {
  return path == "/" || path == "/zookeeper" || path == "/zookeeper/quota" || path == "/zookeeper/config";
}

Lifetime lifetime_of(Op op, CreateMode mode) {
  if (op == Op::kCreateContainer) return Lifetime::kContainer;
  if (op == Op::kCreateTtl) return Lifetime::kTtl;
  return is_ephemeral(mode) ? Lifetime::kEphemeral : Lifetime::kPersistent;
}

}  // namespace

Err Step::stock(const StockOp& op) {
  // Creates test their flags first.
  if (is_create(op.op)) return create(op);
  if (const Err err = check_session(); err != Err::kOk) return err;
  if (op.op == Op::kDelete) return remove(op);
  if (op.op == Op::kSetData) return set_data(op);
  if (op.op == Op::kSetAcl) return set_acl(op);
  return check(op);
}

Err Step::create(const StockOp& op) {
  if (op.flags < 0 || op.flags > 6) return Err::kBadArguments;
  const auto mode = static_cast<CreateMode>(op.flags);
  if (const Err err = check_ttl(mode, op.ttl_ms, op.op == Op::kCreateTtl); err != Err::kOk) return err;
  if (const Err err = check_session(); err != Err::kOk) return err;
  const auto parent_path = cut_parent(op.path);
  if (!parent_path) return Err::kBadArguments;
  auto acl = acl_to_store(op.acl, request_.ids);
  if (!acl) return acl.error();
  const Overlay::View parent = overlay_.find(*parent_path);
  if (!parent) return Err::kNoNode;
  if (!may(parent, perm::kCreate)) return Err::kNoAuth;

  std::string path(op.path);
  if (is_sequential(mode)) {
    if (parent.creates() > kSequenceMax) return Err::kBadArguments;
    append_sequence(path, parent.creates());
  }
  if (!valid_path(path)) return Err::kBadArguments;
  const std::string_view name = last_name(path);
  if (name.empty()) return Err::kNodeExists;  // "/" is the only valid path without a last name
  if (overlay_.child(parent.id(), name)) return Err::kNodeExists;
  if (parent.lifetime() == Lifetime::kEphemeral) return Err::kNoChildrenForEphemerals;
  const std::size_t size = op.data ? op.data->size() : 0;
  if (const Err err = room_for_create(parent, name, size); err != Err::kOk) return err;

  CreateTxn change;
  change.id = overlay_.next_node_id();
  change.parent = parent.id();
  change.name = name;
  change.null_data = !op.data;
  change.data = op.data.value_or(std::string_view());
  change.acl = std::move(*acl);
  change.lifetime = lifetime_of(op.op, mode);
  if (change.lifetime == Lifetime::kEphemeral) change.owner = request_.session;
  if (change.lifetime == Lifetime::kTtl) change.ttl_ms = op.ttl_ms;
  const bool dir = change.null_data && change.lifetime != Lifetime::kEphemeral;
  change.attributes.shape = dir ? Shape::kDir : Shape::kFile;
  change.attributes.exec = dir ? 0111 : 0;
  change.parent_creates = next_creates(parent);
  change.parent_becomes_dir = becomes_dir(parent);
  emit(std::move(change), true);
  return Err::kOk;
}

Err Step::remove(const StockOp& op) {
  const auto parent_path = cut_parent(op.path);
  if (!parent_path || is_special(op.path)) return Err::kBadArguments;
  const Overlay::View parent = overlay_.find(*parent_path);
  if (!parent) return Err::kNoNode;
  if (!may(parent, perm::kDelete)) return Err::kNoAuth;
  // By the whole path: "//a" is no spelling of "/a".
  const Overlay::View node = overlay_.find(op.path);
  if (!node) return Err::kNoNode;
  if (op.version != -1 && op.version != node.version()) return Err::kBadVersion;
  if (node.num_children() != 0) return Err::kNotEmpty;
  emit(DeleteTxn{node.id()});
  return Err::kOk;
}

Err Step::set_data(const StockOp& op) {
  if (!valid_path(op.path)) return Err::kBadArguments;
  const Overlay::View node = overlay_.find(op.path);
  if (!node) return Err::kNoNode;
  if (!may(node, perm::kWrite)) return Err::kNoAuth;
  if (const Err err = room_for_data(node, op.data ? op.data->size() : 0); err != Err::kOk) return err;
  if (op.version != -1 && op.version != node.version()) return Err::kBadVersion;
  emit(
      SetDataTxn{node.id(), !op.data, std::string(op.data.value_or(std::string_view())), next_version(node.version())});
  return Err::kOk;
}

Err Step::set_acl(const StockOp& op) {
  if (!valid_path(op.path)) return Err::kBadArguments;
  auto acl = acl_to_store(op.acl, request_.ids);
  if (!acl) return acl.error();
  const Overlay::View node = overlay_.find(op.path);
  if (!node) return Err::kNoNode;
  if (!may(node, perm::kAdmin)) return Err::kNoAuth;
  if (op.version != -1 && op.version != node.aversion()) return Err::kBadVersion;
  if (writes_refused_) return no_space();
  emit(SetAclTxn{node.id(), std::move(*acl), next_version(node.aversion())});
  return Err::kOk;
}

Err Step::check(const StockOp& op) {
  if (!valid_path(op.path)) return Err::kBadArguments;
  const Overlay::View node = overlay_.find(op.path);
  if (!node) return Err::kNoNode;
  if (!may(node, perm::kRead)) return Err::kNoAuth;
  if (op.version != -1 && op.version != node.version()) return Err::kBadVersion;
  txn_.changes.emplace_back(CheckTxn{node.id()});
  return Err::kOk;
}

}  // namespace coord::tree
