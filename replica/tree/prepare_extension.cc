// The extension mutations but rename: common/wire/extension.h says what each may answer. Permission as Linux decides
// it: search on the parent before anything about its children is told.
#include <algorithm>
#include <type_traits>

#include "common/model/path.h"
#include "common/model/posix.h"
#include "replica/tree/acl_check.h"
#include "replica/tree/prepare_step.h"

namespace coord::tree {

using wire::CreateMode;
using wire::Op;

Err Step::extension() {
  is_extension_ = true;
  const Op op = request_.op;
  if (op == Op::kCreateNode) return mutation(&Step::create_node);
  if (op == Op::kSetNodeData) return mutation(&Step::set_node_data);
  if (op == Op::kDeleteNode) return mutation(&Step::delete_node);
  if (op == Op::kSetAttributes) return mutation(&Step::set_attributes);
  if (op == Op::kRename) return mutation(&Step::rename);
  return Err::kUnimplemented;
}

template <class Body>
Err Step::mutation(Err (Step::*part)(const Body&)) {
  wire::Reader reader(request_.body);
  Body body;
  wire::read(reader, body);
  if (reader.failed()) return Err::kMarshallingError;
  if (const Err err = check_session(); err != Err::kOk) return err;
  who_ = request_.trusted ? std::move(body.header.who) : request_.credentials;
  if constexpr (std::is_same_v<Body, wire::CreateNodeRequest>) txn_.what = body.hold ? 1 : 0;
  if (const Err err = open_window(body.header); err != Err::kOk) return err;
  // A repeated one is answered when it is applied, from the window.
  return txn_.changes.empty() ? (this->*part)(body) : Err::kOk;
}

Err Step::open_window(const wire::MutationHeader& header) {
  if (header.seq <= 0) return Err::kBadArguments;
  const Overlay::Seq found = overlay_.classify(request_.session, header.seq, header.acked_below);
  if (found == Overlay::Seq::kOutOfWindow) return Err::kOutOfWindow;
  if (found == Overlay::Seq::kWindowFull) return Err::kBadArguments;
  const bool repeated = found == Overlay::Seq::kRepeated;
  overlay_.use_seq(request_.session, repeated ? 0 : header.seq, header.acked_below);
  txn_.seq = header.seq;
  txn_.acked_below = header.acked_below;
  if (repeated) txn_.changes.emplace_back(ErrorTxn{Err::kOk});
  return Err::kOk;
}

namespace {

bool valid_new_name(std::string_view name) {
  return name.size() <= static_cast<std::size_t>(wire::kNameBytesMax) && valid_name(name);
}

// Only root gives nodes away: anybody else owns what it makes, with a group of its own.
void own(Acl& acl, Attributes& attributes, const Credentials& who) {
  if (who.uid == 0) return;
  const PosixView view = posix_view(acl, attributes, attributes.shape == Shape::kDir);
  const bool in_group =
      view.gid == who.gid || std::find(who.groups.begin(), who.groups.end(), view.gid) != who.groups.end();
  const auto gid = in_group ? std::nullopt : std::optional<std::uint32_t>(who.gid);
  if (view.uid != who.uid || gid) apply_mode_and_owner(acl, attributes, std::nullopt, who.uid, gid);
}

}  // namespace

Err Step::create_node(const wire::CreateNodeRequest& r) {
  if (const Err err = check_ttl(r.mode, r.ttl_ms, is_ttl(r.mode)); err != Err::kOk) return err;
  if (r.attributes.shape == Shape::kSymlink && !r.data) return Err::kBadArguments;
  const Overlay::View parent = overlay_.node(r.parent);
  if (!parent) return Err::kStaleNode;
  std::string name = r.name;
  if (is_sequential(r.mode)) {
    if (parent.creates() > kSequenceMax) return Err::kBadArguments;
    append_sequence(name, parent.creates());
  }
  if (!valid_new_name(name)) return Err::kBadArguments;
  auto acl = acl_to_store(r.acl, request_.ids);
  if (!acl) return acl.error();
  if (parent.attributes().shape == Shape::kSymlink) return Err::kNotDirectory;
  if (!unix_search(parent)) return Err::kNoAuth;
  if (const Overlay::View node = overlay_.child(parent.id(), name); node) return fill_null(r, parent, node);
  if (!unix_may(parent, perm::kCreate)) return Err::kNoAuth;
  if (parent.lifetime() == Lifetime::kEphemeral) return Err::kNoChildrenForEphemerals;
  const NodeId next = overlay_.next_node_id();
  if (r.id != NodeId{} && (is_reserved(r.id) || r.id >= next || overlay_.node(r.id))) return Err::kBadArguments;
  if (const Err err = room_for_create(parent, name, r.data ? r.data->size() : 0); err != Err::kOk) return err;

  CreateTxn change;
  change.id = r.id == NodeId{} ? next : r.id;
  change.parent = parent.id();
  change.name = std::move(name);
  change.null_data = !r.data;
  change.data = r.data.value_or(std::string());
  change.acl = std::move(*acl);
  change.attributes = r.attributes;
  own(change.acl, change.attributes, who_);
  if (is_ephemeral(r.mode)) {
    change.lifetime = Lifetime::kEphemeral;
    change.owner = request_.session;
  } else if (is_ttl(r.mode)) {
    change.lifetime = Lifetime::kTtl;
    change.ttl_ms = r.ttl_ms;
  } else if (r.mode == CreateMode::kContainer) {
    change.lifetime = Lifetime::kContainer;
  }
  change.parent_creates = next_creates(parent);
  change.parent_becomes_dir = becomes_dir(parent);
  txn_.subject = change.id;
  emit(std::move(change), false);
  return Err::kOk;
}

// NAME of a file-shaped node with null data does not exist for the mount, only NAME@ does: creating it fills the node.
Err Step::fill_null(const wire::CreateNodeRequest& r, const Overlay::View& parent, const Overlay::View& node) {
  const bool fits = r.fill_null && r.data && r.mode == CreateMode::kPersistent && r.attributes.shape == Shape::kFile &&
                    node.null_data() && node.attributes().shape == Shape::kFile;
  if (!fits) return Err::kNodeExists;
  if (!unix_may(parent, perm::kCreate) || !unix_may(node, perm::kWrite)) return Err::kNoAuth;
  if (const Err err = room_for_data(node, r.data->size()); err != Err::kOk) return err;
  txn_.subject = node.id();
  emit(SetDataTxn{node.id(), false, *r.data, next_version(node.version())});
  return Err::kOk;
}

Err Step::set_node_data(const wire::SetNodeDataRequest& r) {
  const Overlay::View node = overlay_.node(r.node);
  if (!node) return Err::kStaleNode;
  if (!unix_may(node, perm::kWrite)) return Err::kNoAuth;
  if (const Err err = room_for_data(node, r.data ? r.data->size() : 0); err != Err::kOk) return err;
  if (r.version != -1 && r.version != node.version()) return Err::kBadVersion;
  txn_.subject = node.id();
  emit(SetDataTxn{node.id(), !r.data, r.data.value_or(std::string()), next_version(node.version())});
  return Err::kOk;
}

// unlink, rmdir, and the old and the replaced name of a rename.
Err Step::may_remove(const Overlay::View& parent, const Overlay::View& node) const {
  if (is_reserved(node.id())) return Err::kNotPermitted;
  if (!unix_search(parent) || !unix_may(parent, perm::kDelete)) return Err::kNoAuth;
  const bool sticky = (parent.attributes().exec & 01000) != 0;
  return !sticky || is_owner(node) || is_owner(parent) ? Err::kOk : Err::kNoAuth;
}

bool Step::is_at(const Overlay::View& node, const wire::NodePlace& at) {
  return at.parent == NodeId{} || (node.parent() == at.parent && node.name() == at.name);
}

Err Step::delete_node(const wire::DeleteNodeRequest& r) {
  constexpr std::int8_t kNothing = 0;
  constexpr std::int8_t kNode = 1;
  constexpr std::int8_t kData = 2;
  const Overlay::View node = overlay_.node(r.node);
  if (!node) return Err::kStaleNode;
  if (!is_at(node, r.at)) return Err::kNoNode;
  if (const Err err = may_remove(overlay_.node(node.parent()), node); err != Err::kOk) return err;
  const bool has_children = node.num_children() != 0;
  const bool dir = node.attributes().shape == Shape::kDir;
  switch (r.half) {
    case wire::DeleteHalf::kWhole:
      if (has_children) return Err::kNotEmpty;
      break;
    case wire::DeleteHalf::kData:
      if (dir) return Err::kIsDirectory;
      if (node.null_data()) return Err::kNoNode;
      if (!has_children) break;
      txn_.what = kData;
      txn_.subject = node.id();
      emit(SetDataTxn{node.id(), true, "", next_version(node.version())});
      return Err::kOk;
    case wire::DeleteHalf::kChildren:
      if (dir) return Err::kNoNode;  // NAME@ is not a name of it
      if (has_children) return Err::kNotEmpty;
      if (node.null_data()) break;
      txn_.what = kNothing;
      txn_.changes.emplace_back(ErrorTxn{Err::kOk});
      return Err::kOk;
  }
  txn_.what = kNode;
  emit(DeleteTxn{node.id()});
  return Err::kOk;
}

Err Step::set_attributes(const wire::SetAttributesRequest& r) {
  const Overlay::View node = overlay_.node(r.node);
  if (!node) return Err::kStaleNode;
  Acl acl = node.acl();
  if (const Err err = may_change_owner_or_mode(acl, who_, r.mode.has_value(), r.uid, r.gid); err != Err::kOk)
    return err;
  const Attributes before = node.attributes();
  Attributes after = before;
  const auto mode = r.mode ? std::optional<std::uint32_t>(*r.mode & 01777u) : std::nullopt;
  apply_mode_and_owner(acl, after, mode, r.uid, r.gid);
  if (r.mtime_ns) {
    const bool to_now = *r.mtime_ns == -1;
    if (!is_owner(node)) {
      if (!to_now) return Err::kNotPermitted;
      if (!unix_may(node, perm::kWrite)) return Err::kNoAuth;
    }
    after.mtime_ns = to_now ? now_ * 1'000'000 : *r.mtime_ns;
    if (after.mtime_ns == 0) after.mtime_ns = 1;
  }

  txn_.subject = node.id();
  const bool owner_or_mode = after.exec != before.exec || acl != node.acl();
  if (!owner_or_mode && after == before) {
    txn_.changes.emplace_back(ErrorTxn{Err::kOk});
    return Err::kOk;
  }
  if (writes_refused_) return no_space();
  const NodeId id = node.id();
  const std::int32_t aversion = next_version(node.aversion());
  if (owner_or_mode) emit(SetAclTxn{id, std::move(acl), aversion});
  if (after != before) emit(SetAttributesTxn{id, after});
  return Err::kOk;
}

}  // namespace coord::tree
