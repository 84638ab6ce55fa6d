#include "replica/tree/data_tree.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "common/base/crc32c.h"
#include "replica/tree/mutation.h"

namespace coord::tree {
namespace {

// A word into a running hash. The digest is a sum over records, so each record's hash must be well mixed at its end.
inline std::uint64_t add(std::uint64_t h, std::uint64_t word) {
  h = (h ^ word) * 0x9e3779b97f4a7c15ULL;
  return h ^ (h >> 29);
}
inline std::uint64_t add(std::uint64_t h, std::int64_t word) { return add(h, static_cast<std::uint64_t>(word)); }
inline std::uint64_t finish(std::uint64_t h) {
  h *= 0xbf58476d1ce4e5b9ULL;
  h ^= h >> 32;
  h *= 0x94d049bb133111ebULL;
  return h ^ (h >> 31);
}

std::uint64_t pair_of(std::uint32_t high, std::uint32_t low) { return static_cast<std::uint64_t>(high) << 32 | low; }

std::uint64_t enrolment_hash(const std::pair<const Sid, std::string>& enrolment) {
  std::uint64_t h = add(0xe401, std::uint64_t{enrolment.first.value});
  for (const char c : enrolment.second) h = add(h, std::uint64_t{static_cast<unsigned char>(c)});
  return finish(h);
}

std::uint64_t member_hash(const Member& member) {
  std::uint64_t h = add(0x3e3b, pair_of(member.sid.value, member.observer ? 1 : 0));
  h = add(h, pair_of(member.port, member.election_port));
  h = add(h, pair_of(crc32c(member.host), crc32c(member.client)));
  return finish(h);
}

std::uint64_t session_hash(const Session& session) {
  std::uint64_t h = add(0x5e55, session.id.value);
  h = add(h, std::int64_t{session.timeout_ms});
  return finish(add(h, session.acked_below));
}

std::uint64_t answer_hash(SessionId id, std::int64_t seq, const Answer& answer) {
  std::uint64_t h = add(0xa115, id.value);
  h = add(h, seq);
  return finish(add(h, pair_of(static_cast<std::uint32_t>(answer.err), crc32c(answer.body))));
}

std::size_t record_estimate(const Node& node) { return 160 + node.name.size() + node.data.size(); }

}  // namespace

std::uint64_t DataTree::node_hash(const Node& node) const {
  std::uint64_t h = add(0x0de, node.id.value);
  h = add(h, node.parent->id.value);
  h = add(h, pair_of(crc32c(node.name), node.data_crc));
  h = add(h, static_cast<std::uint64_t>(node.data.size()));
  h = add(h, node.czxid);
  h = add(h, node.mzxid);
  h = add(h, node.pzxid);
  h = add(h, node.ctime);
  h = add(h, node.mtime);
  h = add(h, node.owner_or_ttl);
  h = add(h, node.mtime_ns);
  h = add(h, pair_of(static_cast<std::uint32_t>(node.version), static_cast<std::uint32_t>(node.aversion)));
  h = add(h, pair_of(node.creates, acls_.hash(node.acl)));
  const std::uint32_t shape = static_cast<std::uint32_t>(node.shape) << 8;
  const std::uint32_t flags = static_cast<std::uint32_t>(node.exec) << 16 | shape |
                              static_cast<std::uint32_t>(node.lifetime) << 4 | (node.null_data ? 2U : 0U) |
                              (node.from_client ? 1U : 0U);
  return finish(add(h, std::uint64_t{flags}));
}

// Level, version and list; nothing at level 1, which the first release knows nothing of.
std::uint64_t DataTree::ensemble_hash() const {
  if (feature_level_ == 1 && members_.empty()) return 0;
  std::uint64_t h = add(0x1e7e, std::int64_t{feature_level_});
  h = add(h, members_version_.value);
  for (const Member& member : members_) h = add(h, member_hash(member));
  return finish(h);
}

// Brackets every change of a node: keeps the digest and the set of changed nodes right.
class DataTree::Edit {
 public:
  Edit(DataTree& tree, Node& node) : tree_(tree), node_(node) { tree_.digest_ -= tree_.node_hash(node_); }
  ~Edit() {
    tree_.digest_ += tree_.node_hash(node_);
    tree_.mark(node_);
  }
  Edit(const Edit&) = delete;
  Edit& operator=(const Edit&) = delete;

 private:
  DataTree& tree_;
  Node& node_;
};

DataTree::DataTree() {
  Node& root = nodes_.root();
  root.shape = Shape::kDir;
  Node& zookeeper = add_reserved(kZookeeperNode, root, "zookeeper", Shape::kDir);
  add_reserved(kQuotaNode, zookeeper, "quota", Shape::kDir);
  Node& config = add_reserved(kConfigNode, zookeeper, "config", Shape::kFile);
  config.acl = acls_.intern({AclEntry{perm::kRead, AuthId{"world", "anyone"}}});
  config.aversion = -1;
  data_bytes_ += 1;  // the root's path
  digest_ = recomputed_digest();
}

Node& DataTree::add_reserved(NodeId id, Node& parent, const char* name, Shape shape) {
  Node& node = nodes_.insert(id, parent, name);
  node.shape = shape;
  data_bytes_ += node.name.size() + 1;
  return node;
}

const Session* DataTree::session(SessionId id) const {
  const auto at = sessions_.find(id);
  return at == sessions_.end() ? nullptr : &at->second;
}

Session& DataTree::get_session(SessionId id) {
  const auto at = sessions_.find(id);
  COORD_CHECK_MSG(at != sessions_.end(), "a transaction refers to a session that does not exist");
  return at->second;
}

Node& DataTree::get(NodeId id) {
  Node* node = nodes_.find(id);
  COORD_CHECK_MSG(node != nullptr, "a transaction refers to a node that does not exist");
  return *node;
}

std::uint64_t DataTree::recomputed_digest() const {
  std::uint64_t sum = 0;
  const Node* node = &nodes_.root();
  for (;;) {
    sum += node_hash(*node);
    if (node->first_child != nullptr) {
      node = node->first_child;
      continue;
    }
    while (node->next_sibling == nullptr && node != &nodes_.root()) node = node->parent;
    if (node == &nodes_.root()) break;
    node = node->next_sibling;
  }
  for (const auto& [id, session] : sessions_) {
    sum += session_hash(session);
    for (const auto& [seq, answer] : session.answers) sum += answer_hash(id, seq, answer);
  }
  for (const auto& enrolment : enrolled_) sum += enrolment_hash(enrolment);
  return sum + ensemble_hash();
}

void DataTree::mark(Node& node) {
  if (node.dirty) return;
  node.dirty = true;
  dirty_nodes_.push_back(node.id);
  dirty_bytes_ += record_estimate(node);
}

void DataTree::track(Node& node) {
  data_bytes_ += node.name.size() + 1 + node.data.size();
  switch (node.lifetime) {
    case Lifetime::kPersistent:
      break;
    case Lifetime::kEphemeral:
      get_session(SessionId(node.owner_or_ttl)).ephemerals.insert(node.id);
      ++ephemeral_count_;
      break;
    case Lifetime::kContainer:
      containers_.insert(node.id);
      break;
    case Lifetime::kTtl:
      ttl_nodes_.insert(node.id);
      break;
  }
}

void DataTree::untrack(Node& node) {
  data_bytes_ -= node.name.size() + 1 + node.data.size();
  switch (node.lifetime) {
    case Lifetime::kPersistent:
      break;
    case Lifetime::kEphemeral:
      COORD_CHECK(get_session(SessionId(node.owner_or_ttl)).ephemerals.erase(node.id) == 1);
      --ephemeral_count_;
      break;
    case Lifetime::kContainer:
      containers_.erase(node.id);
      break;
    case Lifetime::kTtl:
      ttl_nodes_.erase(node.id);
      break;
  }
}

void DataTree::touch_parent(Node& parent, std::uint32_t creates, Zxid zxid) {
  const Edit edit(*this, parent);
  parent.creates = creates;
  parent.pzxid = zxid.wire();
}

Node& DataTree::create(CreateTxn change, Zxid zxid, TimeMs time, bool from_client) {
  Node& parent = get(change.parent);
  Node& node = nodes_.insert(change.id, parent, std::move(change.name));
  node.czxid = node.mzxid = node.pzxid = zxid.wire();
  node.ctime = node.mtime = time;
  node.mtime_ns = change.attributes.mtime_ns;
  node.exec = change.attributes.exec;
  node.shape = change.attributes.shape;
  node.lifetime = change.lifetime;
  node.from_client = from_client;
  node.null_data = change.null_data;
  node.data = std::move(change.data);
  node.data_crc = crc32c(node.data);
  node.acl = acls_.intern(change.acl);
  if (change.lifetime == Lifetime::kEphemeral) node.owner_or_ttl = change.owner.value;
  if (change.lifetime == Lifetime::kTtl) node.owner_or_ttl = change.ttl_ms;
  if (change.id >= next_node_id_) next_node_id_ = NodeId(change.id.value + 1);
  track(node);
  digest_ += node_hash(node);
  mark(node);
  {
    const Edit edit(*this, parent);
    parent.creates = change.parent_creates;
    parent.pzxid = zxid.wire();
    if (change.parent_becomes_dir) {
      parent.shape = Shape::kDir;
      parent.exec |= 0111;
    }
  }
  quota_created(node);
  return node;
}

void DataTree::erase(Node& node, Zxid zxid) {
  COORD_CHECK_MSG(!is_reserved(node.id), "a reserved node is deleted");
  COORD_CHECK_MSG(node.num_children == 0, "a node with children is deleted");
  quota_erased(node);
  digest_ -= node_hash(node);
  untrack(node);
  acls_.release(node.acl);
  if (!node.dirty) dirty_nodes_.push_back(node.id);
  Node& parent = *node.parent;
  nodes_.erase(node);
  touch_parent(parent, parent.creates, zxid);
}

void DataTree::set_data(Node& node, SetDataTxn change, Zxid zxid, TimeMs time) {
  const auto before = static_cast<std::int64_t>(node.data.size());
  {
    const Edit edit(*this, node);
    if (node.dirty) dirty_bytes_ += change.data.size();
    data_bytes_ += change.data.size() - node.data.size();
    node.data = std::move(change.data);
    node.data_crc = crc32c(node.data);
    node.null_data = change.null_data;
    node.version = change.version;
    node.mzxid = zxid.wire();
    node.mtime = time;
    node.mtime_ns = 0;
  }
  quota_changed(node, static_cast<std::int64_t>(node.data.size()) - before);
}

void DataTree::set_acl(Node& node, const SetAclTxn& change) {
  const Edit edit(*this, node);
  const AclIndex before = node.acl;
  node.acl = acls_.intern(change.acl);
  acls_.release(before);
  node.aversion = change.aversion;
}

void DataTree::set_attributes(Node& node, const Attributes& attributes) {
  const Edit edit(*this, node);
  node.shape = attributes.shape;
  node.exec = attributes.exec;
  node.mtime_ns = attributes.mtime_ns;
}

void DataTree::move(Node& node, Node& new_parent, std::string new_name, std::uint32_t new_parent_creates, Zxid zxid) {
  COORD_CHECK_MSG(!is_reserved(node.id), "a reserved node is moved");
  count_subtree(node, -1);
  Node& old_parent = *node.parent;
  {
    const Edit edit(*this, node);
    data_bytes_ += new_name.size() - node.name.size();
    nodes_.move(node, new_parent, std::move(new_name));
  }
  touch_parent(old_parent, old_parent.creates, zxid);
  touch_parent(new_parent, new_parent_creates, zxid);
  count_subtree(node, 1);
  quota_moved(node);
}

void DataTree::exchange(Node& a, Node& b, Zxid zxid) {
  COORD_CHECK_MSG(!is_reserved(a.id) && !is_reserved(b.id), "a reserved node is exchanged");
  count_subtree(a, -1);
  count_subtree(b, -1);
  Node& a_parent = *a.parent;
  Node& b_parent = *b.parent;
  {
    const Edit edit_a(*this, a);
    const Edit edit_b(*this, b);
    std::string a_name = a.name;
    std::string b_name = b.name;
    nodes_.move(a, a_parent, "/");  // a name that no node can have
    nodes_.move(b, a_parent, std::move(a_name));
    nodes_.move(a, b_parent, std::move(b_name));
  }
  touch_parent(a_parent, a_parent.creates + 1, zxid);
  if (&b_parent != &a_parent) touch_parent(b_parent, b_parent.creates + 1, zxid);
  count_subtree(a, 1);
  count_subtree(b, 1);
  quota_moved(a);
  quota_moved(b);
}

void DataTree::create_session(const CreateSessionTxn& change) {
  const auto [at, is_new] = sessions_.try_emplace(change.id);
  COORD_CHECK_MSG(is_new, "a session is created twice");
  at->second.id = change.id;
  at->second.timeout_ms = change.timeout_ms;
  digest_ += session_hash(at->second);
  dirty_sessions_.insert(change.id);
}

void DataTree::close_session(SessionId id) {
  Session& session = get_session(id);
  COORD_CHECK_MSG(session.ephemerals.empty(), "a session is closed before its ephemerals are gone");
  digest_ -= session_hash(session);
  for (const auto& [seq, answer] : session.answers) digest_ -= answer_hash(id, seq, answer);
  sessions_.erase(id);
  dirty_sessions_.insert(id);
}

void DataTree::reserve_ids(const ReserveIdsTxn& change) {
  COORD_CHECK_MSG(change.count > 0 && change.first >= next_node_id_, "a block of node ids is given twice");
  next_node_id_ = NodeId(change.first.value + static_cast<std::uint64_t>(change.count));
}

void DataTree::enrol(const EnrolTxn& change) {
  for (const auto& [sid, directory] : change.directories) {
    const auto at = enrolled_.find(sid);
    if (at != enrolled_.end()) digest_ -= enrolment_hash(*at);
    digest_ += enrolment_hash(*enrolled_.insert_or_assign(sid, directory).first);
  }
}

void DataTree::reconfig(ReconfigTxn change, Zxid zxid) {
  COORD_CHECK_MSG(!change.members.empty(), "a reconfig leaves no member");
  for (const auto& enrolment : enrolled_) digest_ -= enrolment_hash(enrolment);
  digest_ -= ensemble_hash();
  enrol_members(change, enrolled_);
  members_ = std::move(change.members);
  members_version_ = zxid;
  digest_ += ensemble_hash();
  for (const auto& enrolment : enrolled_) digest_ += enrolment_hash(enrolment);
}

void DataTree::set_feature_level(std::int32_t level) {
  digest_ -= ensemble_hash();
  feature_level_ = level;
  digest_ += ensemble_hash();
}

void DataTree::edit_session(Session& session, std::int64_t acked_below) {
  digest_ -= session_hash(session);
  session.acked_below = acked_below;
  digest_ += session_hash(session);
  dirty_sessions_.insert(session.id);
}

void DataTree::acknowledge(SessionId id, std::int64_t acked_below) {
  const auto at = sessions_.find(id);
  if (at == sessions_.end() || at->second.acked_below >= acked_below) return;
  Session& session = at->second;
  edit_session(session, acked_below);
  const std::int64_t gone_below = COORD_TREE_MUTANT(kWindowTooShort) ? acked_below + 1 : acked_below;
  while (!session.answers.empty() && session.answers.begin()->first < gone_below) {
    const auto oldest = session.answers.begin();
    digest_ -= answer_hash(id, oldest->first, oldest->second);
    session.answers.erase(oldest);
  }
}

void DataTree::keep_answer(SessionId id, std::int64_t seq, Answer answer) {
  const auto at = sessions_.find(id);
  if (at == sessions_.end()) return;
  Session& session = at->second;
  if (seq < session.acked_below || session.answers.size() >= wire::kAnswerWindowMax) return;
  const auto [kept, is_new] = session.answers.try_emplace(seq, std::move(answer));
  if (!is_new) return;
  digest_ += answer_hash(id, seq, kept->second);
  dirty_sessions_.insert(id);
}

}  // namespace coord::tree
