#include "replica/tree/read_ops.h"

#include <vector>

#include "replica/tree/acl_check.h"

namespace coord::tree {
namespace {

using wire::Op;
using wire::Reader;
using wire::Writer;

void write_data(Writer& w, const Node& node) {
  if (node.null_data) {
    w.i32(-1);
  } else {
    w.buffer(std::string_view(node.data));
  }
}

constexpr std::size_t kMultiReadMax = 128u << 20;  // bytes of an answer

std::size_t descendants(const Node& top) {
  std::size_t count = 0;
  const Node* node = &top;
  for (;;) {
    if (node->first_child != nullptr) {
      node = node->first_child;
      ++count;
      continue;
    }
    while (node != &top && node->next_sibling == nullptr) node = node->parent;
    if (node == &top) return count;
    node = node->next_sibling;
    ++count;
  }
}

// The root answers to "" as well; a watch is kept under its true path.
std::string_view watch_path(std::string_view path) { return path.empty() ? std::string_view("/") : path; }

}  // namespace

bool ReadOps::is_read(Op op) {
  switch (op) {
    case Op::kExists:
    case Op::kGetData:
    case Op::kGetAcl:
    case Op::kGetChildren:
    case Op::kGetChildren2:
    case Op::kCheckWatches:
    case Op::kRemoveWatches:
    case Op::kMultiRead:
    case Op::kSetWatches:
    case Op::kSetWatches2:
    case Op::kGetEphemerals:
    case Op::kGetAllChildrenNumber:
    case Op::kAddWatch:
    case Op::kWhoAmI:
    case Op::kCapabilities:
    case Op::kLookup:
    case Op::kReadDir:
    case Op::kReadNode:
    case Op::kForget:
    case Op::kResume:
      return true;
    case Op::kNotification:
    case Op::kCreate:
    case Op::kDelete:
    case Op::kSetData:
    case Op::kSetAcl:
    case Op::kSync:
    case Op::kPing:
    case Op::kCheck:
    case Op::kMulti:
    case Op::kCreate2:
    case Op::kReconfig:
    case Op::kCreateContainer:
    case Op::kDeleteContainer:
    case Op::kCreateTtl:
    case Op::kAuth:
    case Op::kSasl:
    case Op::kCreateSession:
    case Op::kCloseSession:
    case Op::kError:
    case Op::kCreateNode:
    case Op::kSetNodeData:
    case Op::kDeleteNode:
    case Op::kSetAttributes:
    case Op::kRename:
    case Op::kInterest:
    case Op::kEnrol:
    case Op::kFeatureLevel:
      return false;
  }
  return false;
}

Err ReadOps::read(const Peer& peer, Op op, std::string_view body, std::string& out, const EarlyEvent& early) const {
  const std::size_t start = out.size();
  Reader r(body);
  Writer w(out);
  const Err err = dispatch(peer, op, r, w, early);
  if (err != Err::kOk) out.resize(start);
  return err;
}

Err ReadOps::dispatch(const Peer& peer, Op op, Reader& r, Writer& w, const EarlyEvent& early) const {
  if (op == Op::kGetData) return get_data(peer, r, w, true);  // the most frequent one
  if (!is_read(op)) return Err::kUnimplemented;
  if (op == Op::kExists) return exists(peer, r, w);
  if (op == Op::kGetChildren) return get_children(peer, r, w, true, false);
  if (op == Op::kGetChildren2) return get_children(peer, r, w, true, true);
  if (op == Op::kGetAcl) return get_acl(peer, r, w);
  if (op == Op::kMultiRead) return multi_read(peer, r, w);
  if (op == Op::kGetEphemerals) return get_ephemerals(peer, r, w);
  if (op == Op::kGetAllChildrenNumber) return get_all_children_number(peer, r, w);
  if (op == Op::kWhoAmI) return who_am_i(peer, w);
  if (op == Op::kSetWatches) return set_watches(peer, r, false, early);
  if (op == Op::kSetWatches2) return set_watches(peer, r, true, early);
  if (op == Op::kAddWatch) return add_watch(peer, r, w);
  if (op == Op::kCheckWatches) return remove_watches(peer, r, true);
  if (op == Op::kRemoveWatches) return remove_watches(peer, r, false);
  if (op == Op::kLookup) return lookup(peer, r, w);
  if (op == Op::kReadDir) return read_dir(peer, r, w);
  if (op == Op::kReadNode) return read_node(peer, r, w);
  if (op == Op::kForget) return forget(peer, r);
  if (op == Op::kResume) return resume(peer, r, w);
  if (op == Op::kCapabilities) return capabilities(peer, r, w);
  return Err::kUnimplemented;
}

bool ReadOps::allowed(const Peer& peer, const Node& node, std::int32_t perms) const {
  if (limits_.skip_acl || (tree_.world_perms(node) & perms) != 0) return true;
  return acl_allows(tree_.acl(node), peer.ids, perms);
}

Err ReadOps::exists(const Peer& peer, Reader& r, Writer& w) const {
  const auto path = r.buffer();
  const bool watch = r.boolean();
  if (r.failed() || !path) return Err::kMarshallingError;
  if (path->find('\0') != std::string_view::npos) return Err::kBadArguments;
  const Node* node = tree_.nodes().find(*path);
  if (node != nullptr && !allowed(peer, *node, perm::kRead)) return Err::kNoAuth;
  if (watch) watches_.arm(peer.conn, WatchTable::kData, watch_path(*path), watch_mode::kStandard);
  if (node == nullptr) return Err::kNoNode;
  wire::write(w, node->stat());
  return Err::kOk;
}

Err ReadOps::get_data(const Peer& peer, Reader& r, Writer& w, bool may_watch) const {
  const auto path = r.buffer();
  const bool watch = r.boolean();
  if (r.failed() || !path) return Err::kMarshallingError;
  const Node* node = tree_.nodes().find(*path);
  if (node == nullptr) return Err::kNoNode;
  if (!allowed(peer, *node, perm::kRead)) return Err::kNoAuth;
  if (watch && may_watch) watches_.arm(peer.conn, WatchTable::kData, watch_path(*path), watch_mode::kStandard);
  write_data(w, *node);
  wire::write(w, node->stat());
  return Err::kOk;
}

Err ReadOps::get_children(const Peer& peer, Reader& r, Writer& w, bool may_watch, bool with_stat) const {
  const auto path = r.buffer();
  const bool watch = r.boolean();
  if (r.failed() || !path) return Err::kMarshallingError;
  const Node* node = tree_.nodes().find(*path);
  if (node == nullptr) return Err::kNoNode;
  if (!allowed(peer, *node, perm::kRead)) return Err::kNoAuth;
  if (watch && may_watch) watches_.arm(peer.conn, WatchTable::kChild, watch_path(*path), watch_mode::kStandard);
  w.i32(static_cast<std::int32_t>(node->num_children));
  for (const Node* child = node->first_child; child != nullptr; child = child->next_sibling) {
    w.buffer(std::string_view(child->name));
  }
  if (with_stat) wire::write(w, node->stat());
  return Err::kOk;
}

Err ReadOps::get_acl(const Peer& peer, Reader& r, Writer& w) const {
  const auto path = r.buffer();
  if (r.failed() || !path) return Err::kMarshallingError;
  const Node* node = tree_.nodes().find(*path);
  if (node == nullptr) return Err::kNoNode;
  if (!allowed(peer, *node, perm::kRead | perm::kAdmin)) return Err::kNoAuth;
  Acl acl = tree_.acl(*node);
  if (!allowed(peer, *node, perm::kAdmin)) {
    for (AclEntry& entry : acl) {
      const std::size_t colon = entry.id.id.find(':');
      if (entry.id.scheme == "digest" && colon != std::string::npos) entry.id.id = entry.id.id.substr(0, colon) + ":x";
    }
  }
  wire::write(w, acl);
  wire::write(w, node->stat());
  return Err::kOk;
}

Err ReadOps::get_ephemerals(const Peer& peer, Reader& r, Writer& w) const {
  const std::string_view prefix = r.string();
  if (r.failed()) return Err::kMarshallingError;
  const bool all = prefix == "/" || prefix.find_first_not_of(" \t\r\n") == std::string_view::npos;
  std::vector<std::string> paths;
  if (const Session* session = tree_.session(peer.session)) {
    for (const NodeId id : session->ephemerals) {
      std::string path = tree_.nodes().path_of(*tree_.nodes().find(id));
      if (all || path.starts_with(prefix)) paths.push_back(std::move(path));
    }
  }
  wire::write_strings(w, paths);
  return Err::kOk;
}

Err ReadOps::get_all_children_number(const Peer& peer, Reader& r, Writer& w) const {
  const auto path = r.buffer();
  if (r.failed() || !path) return Err::kMarshallingError;
  const Node* node = tree_.nodes().find(*path);
  if (node == nullptr) return Err::kNoNode;
  if (!allowed(peer, *node, perm::kRead)) return Err::kNoAuth;
  const std::size_t count = node == &tree_.nodes().root() ? tree_.nodes().size() - 1 : descendants(*node);
  w.i32(static_cast<std::int32_t>(count));
  return Err::kOk;
}

Err ReadOps::who_am_i(const Peer& peer, Writer& w) const {
  w.i32(static_cast<std::int32_t>(peer.ids.size()));
  for (const AuthId& id : peer.ids) {
    w.buffer(std::string_view(id.scheme));
    const std::string_view user(id.id);
    w.buffer(id.scheme == "digest" ? user.substr(0, user.find(':')) : user);
  }
  return Err::kOk;
}

Err ReadOps::multi_read(const Peer& peer, Reader& r, Writer& w) const {
  const std::size_t start = w.size();
  for (;;) {
    // One request of 1 MB can name a node of 1 MB forty thousand times.
    if (w.size() - start > kMultiReadMax) return Err::kSystemError;
    const wire::MultiHeader head = wire::read_multi_header(r);
    if (r.failed()) return Err::kMarshallingError;
    if (head.done) break;
    const auto op = static_cast<Op>(head.type);
    if (op != Op::kGetData && op != Op::kGetChildren) return Err::kMarshallingError;
    const std::size_t at = w.size();
    wire::write(w, wire::MultiHeader{head.type, false, 0});
    const Err err = op == Op::kGetData ? get_data(peer, r, w, false) : get_children(peer, r, w, false, false);
    if (err == Err::kMarshallingError) return err;
    if (err == Err::kOk) continue;
    // Nothing but the header has been written; it becomes that of an error result.
    w.patch_i32(at, -1);
    w.patch_i32(at + 5, static_cast<std::int32_t>(err));
    w.i32(static_cast<std::int32_t>(err));
  }
  wire::write(w, wire::MultiHeader{-1, true, -1});
  return Err::kOk;
}

}  // namespace coord::tree
