#include <algorithm>
#include <charconv>

#include "common/model/posix.h"
#include "replica/tree/acl_check.h"
#include "replica/tree/prepare_step.h"
#include "replica/tree/quota.h"

namespace coord::tree {

bool Step::may(const Overlay::View& node, std::int32_t perms) const {
  return limits_.skip_acl || node.world_allows(perms) || acl_allows(node.acl(), request_.ids, perms);
}

bool Step::unix_may(const Overlay::View& node, std::int32_t perms) const {
  return limits_.skip_acl || unix_allows(node.acl(), who_, perms);
}

bool Step::unix_search(const Overlay::View& node) const {
  return limits_.skip_acl || unix_may_search(node.acl(), node.attributes(), who_);
}

bool Step::is_owner(const Overlay::View& node) const { return unix_is_owner(node.acl(), who_); }

Err Step::no_space() const { return is_extension_ ? Err::kNoSpace : Err::kQuotaExceeded; }

// ZooKeeperServer.checkQuota: against the usage as applied, so that pipelined writes can overshoot.
Err Step::quota(std::string_view path, std::int64_t count, std::int64_t bytes) const {
  if (path == "/zookeeper" || path.starts_with("/zookeeper/")) return Err::kOk;
  const auto at = tree_.quota_for(path);
  if (at == tree_.quotas().end()) return Err::kOk;
  const Node* limits = tree_.nodes().find(at->second.limits);
  const Node* stats = tree_.nodes().find(at->second.stats);
  if (limits == nullptr || stats == nullptr) return Err::kOk;
  const QuotaText limit = parse_quota(limits->data);
  const QuotaText usage = parse_quota(stats->data);
  if (count != 0 && limit.count_hard_limit > -1 && usage.count + count > limit.count_hard_limit)
    return Err::kQuotaExceeded;
  if (bytes != 0 && limit.byte_hard_limit > -1 && usage.bytes + bytes > limit.byte_hard_limit)
    return Err::kQuotaExceeded;
  return Err::kOk;
}

Err Step::room_for_create(const Overlay::View& parent, std::string_view name, std::size_t bytes) const {
  if (writes_refused_) return no_space();
  if (!limits_.enforce_quota || tree_.quotas().empty()) return Err::kOk;
  std::string path = overlay_.path_of(parent.id());
  if (path.size() > 1) path += '/';
  path += name;
  return quota(path, 1, static_cast<std::int64_t>(bytes));
}

Err Step::room_for_data(const Overlay::View& node, std::size_t bytes) const {
  if (writes_refused_ && bytes != 0 && bytes >= node.data().size()) return no_space();
  if (!limits_.enforce_quota || tree_.quotas().empty()) return Err::kOk;
  const auto more = static_cast<std::int64_t>(bytes) - static_cast<std::int64_t>(node.data().size());
  return quota(overlay_.path_of(node.id()), 0, more);
}

Err Step::room_for_move(NodeId source, const Overlay::View& new_parent, std::string_view new_name,
                        const Overlay::Subtree& moved) const {
  if (writes_refused_) return no_space();
  if (!limits_.enforce_quota || tree_.quotas().empty()) return Err::kOk;
  std::string path = overlay_.path_of(new_parent.id());
  if (path.size() > 1) path += '/';
  path += new_name;
  // Within one quota nothing is added.
  if (tree_.quota_for(overlay_.path_of(source)) == tree_.quota_for(path)) return Err::kOk;
  return quota(path, static_cast<std::int64_t>(moved.nodes), static_cast<std::int64_t>(moved.bytes));
}

bool Step::becomes_dir(const Overlay::View& parent) {
  return parent.from_client() && parent.attributes().shape == Shape::kFile && parent.creates() == 0 &&
         parent.data().empty();
}

std::uint32_t Step::next_creates(const Overlay::View& parent) {
  return parent.creates() == 0xffffffffu ? parent.creates() : parent.creates() + 1;
}

std::int32_t Step::next_version(std::int32_t version) {
  const auto next = static_cast<std::int32_t>(static_cast<std::uint32_t>(version) + 1);
  return next == -1 ? 0 : next;  // -1 means "any version" in requests
}

Err Step::check_ttl(wire::CreateMode mode, std::int64_t ttl_ms, bool has_ttl) const {
  if (!is_ttl(mode)) return has_ttl ? Err::kBadArguments : Err::kOk;
  if (!limits_.extended_types) return Err::kUnimplemented;
  return has_ttl && ttl_ms > 0 && ttl_ms <= kTtlMax ? Err::kOk : Err::kBadArguments;
}

void append_sequence(std::string& name, std::uint32_t creates) {
  char digits[10];
  const auto end = std::to_chars(digits, digits + sizeof digits, creates).ptr;
  const auto length = static_cast<std::size_t>(end - digits);
  name.append(sizeof digits - length, '0').append(digits, length);
}

void Step::emit(CreateTxn change, bool from_client) {
  overlay_.create(change, now_, from_client);
  txn_.changes.emplace_back(std::move(change));
}
void Step::emit(DeleteTxn change) {
  overlay_.erase(change.id);
  txn_.changes.emplace_back(change);
}
void Step::emit(SetDataTxn change) {
  overlay_.set_data(change, now_);
  txn_.changes.emplace_back(std::move(change));
}
void Step::emit(SetAclTxn change) {
  overlay_.set_acl(change);
  txn_.changes.emplace_back(std::move(change));
}
void Step::emit(SetAttributesTxn change) {
  overlay_.set_attributes(change);
  txn_.changes.emplace_back(change);
}
void Step::emit(MoveTxn change) {
  overlay_.move(change);
  txn_.changes.emplace_back(std::move(change));
}
void Step::emit(ExchangeTxn change) {
  overlay_.exchange(change);
  txn_.changes.emplace_back(change);
}

}  // namespace coord::tree
