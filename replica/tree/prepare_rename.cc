// rename: common/wire/extension.h (RenameRequest) and filesystem.md section 4. Which errors come first follows Linux:
// the names and their directories, then permission, then what kind the two nodes are.
#include "common/model/path.h"
#include "replica/tree/prepare_step.h"

namespace coord::tree {

namespace {

constexpr std::uint32_t kNoReplace = 1;
constexpr std::uint32_t kExchange = 2;

bool is_dir(const Overlay::View& node) { return node.attributes().shape == Shape::kDir; }

// NAME of it does not exist in a mount, only NAME@ does.
bool is_hidden_file(const Overlay::View& node) { return node.attributes().shape == Shape::kFile && node.null_data(); }

}  // namespace

Err Step::rename(const wire::RenameRequest& r) {
  if (r.flags != 0 && r.flags != kNoReplace && r.flags != kExchange) return Err::kBadArguments;
  if (r.new_name.size() > static_cast<std::size_t>(wire::kNameBytesMax) || !valid_name(r.new_name))
    return Err::kBadArguments;
  const Overlay::View source = overlay_.node(r.node);
  const Overlay::View parent = overlay_.node(r.new_parent);
  if (!source || !parent) return Err::kStaleNode;
  if (!is_at(source, r.at)) return Err::kNoNode;
  if (parent.attributes().shape == Shape::kSymlink) return Err::kNotDirectory;
  if (is_reserved(source.id())) return Err::kNotPermitted;
  if (const Err err = may_remove(overlay_.node(source.parent()), source); err != Err::kOk) return err;
  if (!unix_search(parent)) return Err::kNoAuth;

  const Overlay::View target = overlay_.child(parent.id(), r.new_name);
  if (r.flags == kExchange && !target) return Err::kNoNode;
  if (target && target.id() == source.id()) {
    if (r.flags == kNoReplace) return Err::kNodeExists;
    txn_.subject = source.id();
    txn_.changes.emplace_back(ErrorTxn{Err::kOk});
    return Err::kOk;
  }
  if (!unix_may(parent, perm::kCreate)) return Err::kNoAuth;
  if (overlay_.is_or_is_below(parent.id(), source.id())) return Err::kIntoItself;
  // Its ".." changes: Linux asks for write permission on the directory itself.
  const bool other_parent = parent.id() != source.parent();
  if (other_parent && is_dir(source) && !unix_may(source, perm::kCreate | perm::kDelete)) return Err::kNoAuth;

  if (!target) return rename_to_free_name(r, source, parent);
  if (const Err err = may_remove(parent, target); err != Err::kOk) return err;
  if (r.flags == kExchange) return rename_exchange(source, target);
  if (r.flags == kNoReplace && (is_dir(source) || !is_hidden_file(target))) return Err::kNodeExists;
  if (is_dir(source)) {
    if (!is_dir(target)) return Err::kNotDirectory;
    return target.num_children() != 0 ? Err::kNotEmpty : rename_instead_of(r, source, parent, target);
  }
  return is_dir(target) ? Err::kIsDirectory : rename_onto_file(r, source, parent, target);
}

Err Step::rename_exchange(const Overlay::View& source, const Overlay::View& target) {
  if (!unix_may(overlay_.node(source.parent()), perm::kCreate)) return Err::kNoAuth;
  if (overlay_.is_or_is_below(source.parent(), target.id())) return Err::kIntoItself;
  const bool other_parent = target.parent() != source.parent();
  if (other_parent && is_dir(target) && !unix_may(target, perm::kCreate | perm::kDelete)) return Err::kNoAuth;
  for (const Overlay::View& node : {source, target}) {
    if (node.num_children() == 0) continue;
    const Overlay::Subtree below = overlay_.measure(node.id(), static_cast<std::size_t>(wire::kRenameNodesMax));
    if (below.too_large || below.ephemerals) return Err::kSubtreeTooLarge;
  }
  if (writes_refused_) return no_space();
  txn_.subject = source.id();
  emit(ExchangeTxn{source.id(), target.id()});
  return Err::kOk;
}

// The target stays and gets the data, the source goes: watchers of the target see its data change.
Err Step::rename_onto_file(const wire::RenameRequest& r, const Overlay::View& source, const Overlay::View& parent,
                           const Overlay::View& target) {
  if (is_hidden_file(source)) return Err::kNoNode;
  // A file does not become a symlink, nor a symlink a file: who has it open has that inode. With children the target
  // cannot go, so there it does.
  if (source.attributes().shape != target.attributes().shape && target.num_children() == 0) {
    return rename_instead_of(r, source, parent, target);
  }
  if (source.num_children() != 0) return Err::kNotEmpty;
  // The data comes under the target's ACL. Who may not read it must not get it that way, and still may rename it as
  // POSIX has it: then the source's ACL comes along. So it does when one of them is a symlink, whose ACL is open to
  // all: the permissions of one kind mean nothing for the other.
  const bool reshape = target.attributes().shape != source.attributes().shape;
  const bool keeps_acl = !reshape && (is_owner(source) || unix_may(source, perm::kRead));
  const bool same_quota = tree_.quotas().empty() || tree_.quota_for(overlay_.path_of(source.id())) ==
                                                        tree_.quota_for(overlay_.path_of(target.id()));
  if (writes_refused_ || !same_quota) {
    if (const Err err = room_for_data(target, source.data().size()); err != Err::kOk) return err;
  }
  SetDataTxn data{target.id(), source.null_data(), std::string(source.data()), next_version(target.version())};
  Attributes attributes = target.attributes();
  attributes.mtime_ns = source.attributes().mtime_ns;
  attributes.shape = source.attributes().shape;
  if (!keeps_acl) attributes.exec = source.attributes().exec;
  const bool other_attributes = reshape || attributes.mtime_ns != 0 || attributes.exec != target.attributes().exec;
  std::optional<SetAclTxn> acl;
  if (!keeps_acl) acl = SetAclTxn{target.id(), source.acl(), next_version(target.aversion())};
  const NodeId target_id = target.id();
  const NodeId source_id = source.id();
  txn_.subject = target_id;
  emit(std::move(data));
  if (other_attributes) emit(SetAttributesTxn{target_id, attributes});
  if (acl) emit(*std::move(acl));
  emit(DeleteTxn{source_id});
  return Err::kOk;
}

Err Step::rename_to_free_name(const wire::RenameRequest& r, const Overlay::View& source, const Overlay::View& parent) {
  if (parent.lifetime() == Lifetime::kEphemeral) return Err::kNoChildrenForEphemerals;
  Overlay::Subtree moved{1, source.data().size(), false, false};
  if (source.num_children() != 0)
    moved = overlay_.measure(source.id(), static_cast<std::size_t>(wire::kRenameNodesMax));
  if (moved.too_large || moved.ephemerals) return Err::kSubtreeTooLarge;
  if (const Err err = room_for_move(source.id(), parent, r.new_name, moved); err != Err::kOk) return err;
  MoveTxn move{source.id(), parent.id(), r.new_name, next_creates(parent)};
  txn_.subject = source.id();
  if (becomes_dir(parent)) {
    Attributes attributes = parent.attributes();
    attributes.shape = Shape::kDir;
    attributes.exec |= 0111;
    emit(SetAttributesTxn{move.new_parent, attributes});
  }
  emit(std::move(move));
  return Err::kOk;
}

// The target, which has no children, goes, and the source takes its name: watchers of that path see it deleted and
// created.
Err Step::rename_instead_of(const wire::RenameRequest& r, const Overlay::View& source, const Overlay::View& parent,
                            const Overlay::View& target) {
  Overlay::Subtree moved{1, source.data().size(), false, false};
  if (source.num_children() != 0)
    moved = overlay_.measure(source.id(), static_cast<std::size_t>(wire::kRenameNodesMax));
  if (moved.too_large || moved.ephemerals) return Err::kSubtreeTooLarge;
  if (const Err err = room_for_move(source.id(), parent, r.new_name, moved); err != Err::kOk) return err;
  MoveTxn move{source.id(), parent.id(), r.new_name, next_creates(parent)};
  txn_.subject = source.id();
  emit(DeleteTxn{target.id()});
  emit(std::move(move));
  return Err::kOk;
}

}  // namespace coord::tree
