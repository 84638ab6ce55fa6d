// The store's side of DataTree: what changed since the last fold, and the way back from records to a tree.
#include <algorithm>
#include <string>
#include <utility>

#include "common/base/check.h"
#include "replica/tree/data_tree.h"
#include "replica/tree/record.h"
#include "replica/tree/state_machine.h"

namespace coord::tree {

namespace {

std::string name_of(NodeId id) { return "node record " + std::to_string(id.value); }
std::string name_of(SessionId id) { return "session record " + std::to_string(id.value); }

tl::unexpected<Fault> broken(const std::string& record, const std::string& what) {
  return fail(
      Fault{record + ": " + what + "; the data directory is damaged, restore it or refill it from the ensemble"});
}

}  // namespace

void DataTree::take_fold(Fold& fold) {
  fold.tree_durable = last_applied_;
  std::sort(dirty_nodes_.begin(), dirty_nodes_.end());  // ascending keys are what the store writes fastest
  fold.nodes.reserve(dirty_nodes_.size());
  for (const NodeId id : dirty_nodes_) {
    Node* node = nodes_.find(id);
    if (node == nullptr) {
      fold.nodes.emplace_back(id, std::nullopt);
      continue;
    }
    node->dirty = false;
    fold.nodes.emplace_back(id, encode_node(*node, acl(*node)));
  }
  for (const SessionId id : dirty_sessions_) {
    const Session* session = this->session(id);
    if (session == nullptr) {
      fold.sessions.emplace_back(id, std::nullopt);
    } else {
      fold.sessions.emplace_back(id, encode_session(*session));
    }
  }
  fold.counters = encode_counters(Counters{next_node_id_, enrolled_, feature_level_, members_version_, members_});
  dirty_nodes_.clear();
  dirty_sessions_.clear();
  dirty_bytes_ = 0;
}

Result<bool, Fault> DataTree::load_node(NodeId id, std::string_view record) {
  Node* node = nullptr;
  if (is_reserved(id)) {
    node = nodes_.find(id);
    if (node == nullptr) return broken(name_of(id), "an id that is not in use");
    Node image;
    const auto head = decode_node(record, image);
    if (!head || head->parent != node->parent->id || image.name != node->name ||
        image.lifetime != Lifetime::kPersistent) {
      return broken(name_of(id), "not the reserved node");
    }
  } else {
    node = nodes_.add_unlinked(id);
  }
  const auto head = decode_node(record, *node);
  if (!head) return broken(name_of(id), "cannot be decoded");
  const auto index = acls_.intern_encoded(head->acl);
  if (!index) return broken(name_of(id), "its ACL cannot be decoded");
  acls_.release(node->acl);
  node->acl = *index;
  if (!is_reserved(id)) loading_.push_back({node, head->parent});
  return true;
}

Result<bool, Fault> DataTree::load_session(SessionId id, std::string_view record) {
  auto session = decode_session(id, record);
  if (!session) return broken(name_of(id), "cannot be decoded");
  if (!sessions_.emplace(id, *std::move(session)).second) return broken(name_of(id), "there twice");
  return true;
}

Result<bool, Fault> DataTree::load_counters(std::string_view record, std::int32_t feature_level_known) {
  auto counters = decode_counters(record);
  if (!counters) return broken("the record of the counters", "cannot be decoded");
  if (counters->feature_level > std::min(feature_level_known, kFeatureLevel)) {
    return fail(Fault{above_known(counters->feature_level, std::min(feature_level_known, kFeatureLevel))});
  }
  next_node_id_ = counters->next_node_id;
  enrolled_ = std::move(counters->enrolled);
  feature_level_ = counters->feature_level;
  members_version_ = counters->members_version;
  members_ = std::move(counters->members);
  return true;
}

Result<bool, Fault> DataTree::link_loaded() {
  if (const Node* twice = nodes_.index_unlinked()) return broken(name_of(twice->id), "there twice");
  Node* parent = &nodes_.root();  // records come in the order of ids, so that siblings are often neighbours
  for (const Unlinked& entry : loading_) {
    Node& node = *entry.node;
    const auto parent_text = [&] { return std::to_string(entry.parent.value); };
    if (parent == nullptr || parent->id != entry.parent) parent = nodes_.find(entry.parent);
    if (parent == nullptr) return broken(name_of(node.id), "its parent " + parent_text() + " is not there");
    if (!nodes_.attach(node, *parent)) {
      return broken(name_of(node.id), "its name is empty or taken in its parent " + parent_text());
    }
    if (node.id >= next_node_id_) return broken(name_of(node.id), "above the counter of node ids");
    if (node.lifetime == Lifetime::kEphemeral && session(SessionId(node.owner_or_ttl)) == nullptr) {
      return broken(name_of(node.id), "the session that owns it is not there");
    }
    track(node);
    digest_ += node_hash(node);
  }
  return true;
}

// Is everything below the root? What is not hangs together in a circle, and going round one, ids cannot always fall: so
// only nodes with a smaller id than their parent's, which only a rename can make, need to be followed upwards.
Result<bool, Fault> DataTree::check_loaded() const {
  for (const Unlinked& entry : loading_) {
    if (entry.node->id > entry.parent) continue;
    std::size_t steps = 0;
    const Node* above = entry.node;
    while (above != &nodes_.root() && ++steps < nodes_.size()) above = above->parent;
    if (above != &nodes_.root()) return broken(name_of(entry.node->id), "not below the root");
  }
  return true;
}

Result<bool, Fault> DataTree::finish_load(Zxid tree_durable) {
  // What stands there from the start: the reserved nodes, now with what was loaded for them.
  digest_ = recomputed_digest();
  data_bytes_ = 0;
  for (std::uint64_t id = kRootNode.value; id <= kConfigNode.value; ++id) track(get(NodeId(id)));
  if (auto linked = link_loaded(); !linked) return linked;
  if (auto checked = check_loaded(); !checked) return checked;
  loading_ = {};
  register_quotas();
  last_applied_ = tree_durable;
  return true;
}

}  // namespace coord::tree
