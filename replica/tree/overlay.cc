#include "replica/tree/overlay.h"

#include <algorithm>
#include <map>

#include "common/base/check.h"
#include "replica/tree/mutation.h"

namespace coord::tree {

// --- looking

const Overlay::Entry* Overlay::entry(NodeId id) const {
  if (entries_.empty()) return nullptr;
  const auto it = entries_.find(id);
  return it == entries_.end() ? nullptr : &it->second;
}

Overlay::View Overlay::view(NodeId id, const Node* node) const {
  const Entry* found = entry(id);
  if (node == nullptr && found != nullptr) node = tree_.nodes().find(id);
  return {tree_, id, found, node};
}

Overlay::View Overlay::node(NodeId id) const { return view(id, tree_.nodes().find(id)); }

// The child of that name; its tree node when that was found on the way.
std::pair<NodeId, const Node*> Overlay::step(NodeId parent, std::string_view name) const {
  if (!names_.empty()) {
    const auto it = names_.find(NameRef{parent, name});
    if (it != names_.end()) return {it->second.child, nullptr};
  }
  const Node* child = tree_.nodes().child(parent, name);
  return child == nullptr ? std::pair<NodeId, const Node*>{} : std::pair{child->id, child};
}

Overlay::View Overlay::child(NodeId parent, std::string_view name) const {
  const auto [id, found] = step(parent, name);
  if (id == NodeId{}) return {};
  return found != nullptr ? view(id, found) : node(id);
}

Overlay::View Overlay::find(std::string_view path) const {
  if (path.empty() || path == "/") return view(kRootNode, &tree_.nodes().root());
  if (path[0] != '/') return {};
  NodeId id = kRootNode;
  const Node* found = nullptr;
  for (std::size_t begin = 1;;) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    if (end == begin) return {};
    std::tie(id, found) = step(id, path.substr(begin, end - begin));
    if (id == NodeId{}) return {};
    if (end == path.size()) break;
    begin = end + 1;
  }
  return found != nullptr ? view(id, found) : node(id);
}

std::string Overlay::path_of(NodeId id) const {
  std::vector<std::string_view> names;
  for (View v = node(id); v.id() != kRootNode; v = node(v.parent())) {
    COORD_CHECK(v);
    names.push_back(v.name());
  }
  std::string path;
  for (auto name = names.rbegin(); name != names.rend(); ++name) path.append("/").append(*name);
  return path.empty() ? "/" : path;
}

bool Overlay::is_or_is_below(NodeId id, NodeId top) const {
  while (id != top && id != kRootNode) {
    const View v = node(id);
    COORD_CHECK(v);
    id = v.parent();
  }
  return id == top;
}

Overlay::Subtree Overlay::measure(NodeId top, std::size_t max_nodes) const {
  // Children that the tree's own lists do not show: created or moved there by what is outstanding.
  std::unordered_map<NodeId, std::vector<NodeId>> added;
  for (const auto& [id, e] : entries_) {
    if (!e.exists) continue;
    const Node* in_tree = tree_.nodes().find(id);
    if (in_tree == nullptr || in_tree->parent->id != e.parent) added[e.parent].push_back(id);
  }
  Subtree out;
  std::vector<NodeId> todo{top};
  while (!todo.empty()) {
    const View v = node(todo.back());
    todo.pop_back();
    if (++out.nodes > max_nodes) {
      out.too_large = true;
      return out;
    }
    out.bytes += v.data().size();
    out.ephemerals |= v.id() != top && v.lifetime() == Lifetime::kEphemeral;
    if (v.num_children() == 0) continue;
    if (const auto it = added.find(v.id()); it != added.end())
      todo.insert(todo.end(), it->second.begin(), it->second.end());
    const Node* in_tree = tree_.nodes().find(v.id());
    const Node* c = in_tree == nullptr ? nullptr : in_tree->first_child;
    for (; c != nullptr && out.nodes + todo.size() <= max_nodes; c = c->next_sibling) {
      const Entry* e = entry(c->id);
      if (e == nullptr || (e->exists && e->parent == v.id())) todo.push_back(c->id);
    }
  }
  return out;
}

// --- projecting

void Overlay::index(NodeId id, const Entry& e) {
  if (e.exists && e.lifetime == Lifetime::kEphemeral) ephemerals_.emplace(SessionId{e.owner_or_ttl}, id);
}

void Overlay::unindex(NodeId id, const Entry& e) {
  if (e.exists && e.lifetime == Lifetime::kEphemeral) ephemerals_.erase({SessionId{e.owner_or_ttl}, id});
}

// The entry of `id`, made from the tree's node (or as a node that does not exist) if there is none.
Overlay::Entry& Overlay::touch(NodeId id) {
  const auto [it, inserted] = entries_.try_emplace(id);
  Entry& e = it->second;
  if (in_multi_) entry_undo_.push_back({id, inserted ? std::nullopt : std::optional<Entry>(e)});
  if (inserted) {
    const Node* node = tree_.nodes().find(id);
    e.exists = node != nullptr;
    if (node != nullptr) {
      e.parent = node->parent->id;
      e.version = node->version;
      e.aversion = node->aversion;
      e.creates = node->creates;
      e.num_children = node->num_children;
      e.mtime = node->mtime;
      e.owner_or_ttl = node->owner_or_ttl;
      e.attributes = node->attributes();
      e.lifetime = node->lifetime;
      e.null_data = node->null_data;
      e.from_client = node->from_client;
      index(id, e);
    }
  }
  if (e.zxid != zxid_) {
    e.zxid = zxid_;
    touched_nodes_.emplace_back(zxid_, id);
  }
  return e;
}

void Overlay::put_name(NodeId parent, std::string_view name, NodeId child) {
  auto it = names_.find(NameRef{parent, name});
  const bool inserted = it == names_.end();
  if (inserted) it = names_.emplace(NameKey{parent, std::string(name)}, NameSlot{}).first;
  NameSlot& slot = it->second;
  if (in_multi_) name_undo_.push_back({it->first, inserted ? std::nullopt : std::optional<NameSlot>(slot)});
  slot.child = child;
  if (slot.zxid != zxid_) {
    slot.zxid = zxid_;
    touched_names_.emplace_back(zxid_, &it->first);
  }
}

void Overlay::create(const CreateTxn& change, TimeMs now, bool from_client) {
  Entry& parent = touch(change.parent);
  COORD_CHECK(parent.exists);
  parent.creates = change.parent_creates;
  ++parent.num_children;
  if (change.parent_becomes_dir) {
    parent.attributes.shape = Shape::kDir;
    parent.attributes.exec |= 0111;
  }
  Entry& e = touch(change.id);
  COORD_CHECK(!e.exists);
  const Zxid zxid = e.zxid;
  e = Entry{};
  e.zxid = zxid;
  e.parent = change.parent;
  e.mtime = now;
  e.owner_or_ttl = change.lifetime == Lifetime::kEphemeral ? change.owner.value : change.ttl_ms;
  e.attributes = change.attributes;
  e.lifetime = change.lifetime;
  e.null_data = change.null_data;
  e.from_client = from_client;
  e.name = std::make_shared<const std::string>(change.name);
  e.data = std::make_shared<const std::string>(change.data);
  e.acl = std::make_shared<const Acl>(change.acl);
  index(change.id, e);
  put_name(change.parent, change.name, change.id);
  if (change.id >= next_node_id()) next_id_ = NodeId{change.id.value + 1};
}

void Overlay::erase(NodeId id) {
  Entry& e = touch(id);
  COORD_CHECK(e.exists);
  COORD_CHECK(e.num_children == 0);
  put_name(e.parent, node(id).name(), NodeId{});
  unindex(id, e);
  e.exists = false;
  --touch(e.parent).num_children;
}

void Overlay::set_data(const SetDataTxn& change, TimeMs now) {
  Entry& e = touch(change.id);
  e.version = change.version;
  e.mtime = now;
  e.null_data = change.null_data;
  e.data = std::make_shared<const std::string>(change.data);
  e.attributes.mtime_ns = 0;
}

void Overlay::set_acl(const SetAclTxn& change) {
  Entry& e = touch(change.id);
  e.aversion = change.aversion;
  e.acl = std::make_shared<const Acl>(change.acl);
}

void Overlay::set_attributes(const SetAttributesTxn& change) { touch(change.id).attributes = change.attributes; }

void Overlay::move(const MoveTxn& change) {
  Entry& e = touch(change.id);
  put_name(e.parent, node(change.id).name(), NodeId{});
  --touch(e.parent).num_children;
  Entry& parent = touch(change.new_parent);
  ++parent.num_children;
  parent.creates = change.new_parent_creates;
  e.parent = change.new_parent;
  e.name = std::make_shared<const std::string>(change.new_name);
  put_name(e.parent, *e.name, change.id);
}

void Overlay::exchange(const ExchangeTxn& change) {
  const auto name_a = std::make_shared<const std::string>(node(change.a).name());
  const auto name_b = std::make_shared<const std::string>(node(change.b).name());
  Entry& a = touch(change.a);
  Entry& b = touch(change.b);
  ++touch(a.parent).creates;
  if (a.parent != b.parent) ++touch(b.parent).creates;
  std::swap(a.parent, b.parent);
  a.name = name_b;
  b.name = name_a;
  put_name(a.parent, *a.name, change.a);
  put_name(b.parent, *b.name, change.b);
}

void Overlay::reserve_ids(const ReserveIdsTxn& change) {
  next_id_ = NodeId{change.first.value + static_cast<std::uint64_t>(change.count)};
}

void Overlay::begin_multi() {
  COORD_CHECK(!in_multi_);
  in_multi_ = true;
  touched_nodes_before_ = touched_nodes_.size();
  touched_names_before_ = touched_names_.size();
  next_id_before_ = next_id_;
}

void Overlay::commit_multi() {
  COORD_CHECK(in_multi_);
  in_multi_ = false;
  entry_undo_.clear();
  name_undo_.clear();
}

void Overlay::rollback_multi() {
  COORD_CHECK(in_multi_);
  touched_nodes_.resize(touched_nodes_before_);
  touched_names_.resize(touched_names_before_);
  for (auto undo = entry_undo_.rbegin(); undo != entry_undo_.rend(); ++undo) {
    const auto it = entries_.find(undo->id);
    unindex(undo->id, it->second);
    if (undo->before) {
      it->second = std::move(*undo->before);
      index(undo->id, it->second);
    } else {
      entries_.erase(it);
    }
  }
  for (auto undo = name_undo_.rbegin(); undo != name_undo_.rend(); ++undo) {
    const auto it = names_.find(undo->key);
    if (undo->before) {
      it->second = *undo->before;
    } else {
      names_.erase(it);
    }
  }
  next_id_ = next_id_before_;
  commit_multi();
}

// --- sessions and answer windows

Overlay::SessionEntry& Overlay::touch_session(SessionId id, std::int64_t seq) {
  SessionEntry& e = sessions_[id];
  e.zxid = zxid_;
  touched_sessions_.push_back({zxid_, id, seq});
  return e;
}

Overlay::SessionState Overlay::session(SessionId id) const {
  if (!sessions_.empty()) {
    const auto it = sessions_.find(id);
    if (it != sessions_.end() && it->second.change == SessionEntry::Change::kClosing) return SessionState::kClosing;
    if (it != sessions_.end() && it->second.change == SessionEntry::Change::kCreated) return SessionState::kOpen;
  }
  return tree_.session(id) != nullptr ? SessionState::kOpen : SessionState::kUnknown;
}

void Overlay::create_session(SessionId id) { touch_session(id, 0).change = SessionEntry::Change::kCreated; }

void Overlay::close_session(SessionId id) {
  touch_session(id, 0).change = SessionEntry::Change::kClosing;
  std::vector<NodeId> doomed;
  for (auto it = ephemerals_.lower_bound({id, NodeId{}}); it != ephemerals_.end() && it->first == id; ++it) {
    doomed.push_back(it->second);
  }
  if (const Session* in_tree = tree_.session(id); in_tree != nullptr) {
    for (const NodeId ephemeral : in_tree->ephemerals) {
      if (entry(ephemeral) == nullptr) doomed.push_back(ephemeral);
    }
  }
  for (const NodeId ephemeral : doomed) erase(ephemeral);
}

Overlay::Seq Overlay::classify(SessionId id, std::int64_t seq, std::int64_t acked_below) const {
  const Session* in_tree = tree_.session(id);
  const auto it = sessions_.find(id);
  const SessionEntry* prepared = it == sessions_.end() ? nullptr : &it->second;

  std::int64_t floor = in_tree == nullptr ? 0 : in_tree->acked_below;
  if (prepared != nullptr) floor = std::max(floor, prepared->acked_below);
  if (seq < floor || seq < acked_below) return Seq::kOutOfWindow;
  if (prepared != nullptr && prepared->seqs.contains(seq)) return Seq::kRepeated;
  const bool answered = in_tree != nullptr && in_tree->answers.contains(seq);
  if (answered && !COORD_TREE_MUTANT(kWindowForgotten)) return Seq::kRepeated;

  std::size_t kept =
      (in_tree == nullptr ? 0 : in_tree->answers.size()) + (prepared == nullptr ? 0 : prepared->seqs.size());
  if (kept < wire::kAnswerWindowMax) return Seq::kNew;
  floor = std::max(floor, acked_below);
  kept = 0;
  if (in_tree != nullptr) {
    kept += static_cast<std::size_t>(std::distance(in_tree->answers.lower_bound(floor), in_tree->answers.end()));
  }
  if (prepared != nullptr) {
    kept += static_cast<std::size_t>(std::distance(prepared->seqs.lower_bound(floor), prepared->seqs.end()));
  }
  return kept < wire::kAnswerWindowMax ? Seq::kNew : Seq::kWindowFull;
}

void Overlay::use_seq(SessionId id, std::int64_t seq, std::int64_t acked_below) {
  SessionEntry& e = touch_session(id, seq);
  if (seq != 0) e.seqs.insert(seq);
  e.acked_below = std::max(e.acked_below, acked_below);
}

// --- the ensemble

Overlay::Ensemble& Overlay::touch_ensemble() {
  if (!ensemble_) ensemble_ = Ensemble{zxid_, tree_.members(), tree_.feature_level(), tree_.enrolled()};
  ensemble_->zxid = zxid_;
  return *ensemble_;
}

void Overlay::reconfig(const ReconfigTxn& change) {
  Ensemble& ensemble = touch_ensemble();
  ensemble.members = change.members;
  enrol_members(change, ensemble.enrolled);
  reconfig_ = zxid_;
}

void Overlay::set_feature_level(std::int32_t level) { touch_ensemble().feature_level = level; }

void Overlay::enrol(const EnrolTxn& change) {
  Ensemble& ensemble = touch_ensemble();
  for (const auto& [sid, directory] : change.directories) ensemble.enrolled[sid] = directory;
}

// --- letting go

void Overlay::applied(Zxid zxid) {
  while (!touched_nodes_.empty() && touched_nodes_.front().first <= zxid) {
    const auto [touched, id] = touched_nodes_.front();
    touched_nodes_.pop_front();
    const auto it = entries_.find(id);
    if (it == entries_.end() || it->second.zxid != touched) continue;
    unindex(id, it->second);
    entries_.erase(it);
  }
  while (!touched_names_.empty() && touched_names_.front().first <= zxid) {
    const auto [touched, key] = touched_names_.front();
    touched_names_.pop_front();
    const auto it = names_.find(*key);
    if (it->second.zxid == touched) names_.erase(it);
  }
  while (!touched_sessions_.empty() && touched_sessions_.front().zxid <= zxid) {
    const TouchedSession touched = touched_sessions_.front();
    touched_sessions_.pop_front();
    const auto it = sessions_.find(touched.id);
    if (touched.seq != 0) it->second.seqs.erase(touched.seq);
    if (it->second.zxid == touched.zxid) sessions_.erase(it);
  }
  if (ensemble_ && ensemble_->zxid <= zxid) ensemble_.reset();
  if (reconfig_ <= zxid) reconfig_ = {};
}

void Overlay::clear() {
  touched_nodes_.clear();
  touched_names_.clear();
  touched_sessions_.clear();
  entries_.clear();
  names_.clear();
  sessions_.clear();
  ephemerals_.clear();
  ensemble_.reset();
  reconfig_ = {};
  next_id_ = NodeId{};
}

std::string Overlay::describe() const {
  std::map<std::uint64_t, std::string> nodes;
  for (const auto& [id, e] : entries_) {
    std::string& s = nodes[id.value];
    for (const std::int64_t v :
         {static_cast<std::int64_t>(e.zxid.value), std::int64_t{e.exists}, static_cast<std::int64_t>(e.parent.value),
          std::int64_t{e.version}, std::int64_t{e.aversion}, std::int64_t{e.creates}, std::int64_t{e.num_children},
          e.mtime, e.owner_or_ttl, std::int64_t{e.attributes.exec}, static_cast<std::int64_t>(e.attributes.shape),
          e.attributes.mtime_ns, static_cast<std::int64_t>(e.lifetime), std::int64_t{e.null_data},
          std::int64_t{e.from_client}}) {
      s += std::to_string(v) + ' ';
    }
    s += e.name ? "name=" + *e.name : "";
    s += e.data ? " data=" + *e.data : "";
    for (const AclEntry& a : e.acl ? *e.acl : Acl{}) s += ' ' + std::to_string(a.perms) + a.id.scheme + ':' + a.id.id;
  }
  std::map<std::string, std::string> names;
  for (const auto& [key, slot] : names_) {
    names[std::to_string(key.parent.value) + '/' + key.name] =
        std::to_string(slot.zxid.value) + ' ' + std::to_string(slot.child.value);
  }
  std::string out = "next " + std::to_string(next_node_id().value) + '\n';
  for (const auto& [id, text] : nodes) out += "node " + std::to_string(id) + ' ' + text + '\n';
  for (const auto& [key, text] : names) out += "name " + key + ' ' + text + '\n';
  for (const auto& [session, id] : ephemerals_) {
    out += "ephemeral " + std::to_string(session.value) + ' ' + std::to_string(id.value) + '\n';
  }
  for (const auto& [zxid, id] : touched_nodes_)
    out += "touched " + std::to_string(zxid.value) + ' ' + std::to_string(id.value) + '\n';
  for (const auto& [zxid, key] : touched_names_)
    out += "touched " + std::to_string(zxid.value) + ' ' + key->name + '\n';
  return out;
}

}  // namespace coord::tree
