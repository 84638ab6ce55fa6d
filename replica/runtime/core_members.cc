// Who is a member, at run time: what the leader knows when it prepares a change, what a change that was applied means
// to this server, the first list of an ensemble, the feature level (replica/README.md).
#include <utility>

#include "common/base/log.h"
#include "replica/runtime/core.h"
#include "replica/runtime/membership.h"
#include "replica/tree/txn.h"

namespace coord::runtime {
namespace {

using wire::Op;

// What a learner knows it says with its first table, at once when it serves. Who does not is not waited for longer.
constexpr std::int64_t kLevelsWaitMs = 1000;

}  // namespace

Result<bool, Fault> Core::check_members() {
  const auto& members = tree_->members();
  if (members.empty()) return true;
  if (alone_) {
    return fail(Fault{fmt::format("{}: this data belongs to an ensemble of {} servers, and the configuration names no "
                                  "other server; give it the server lines of the ensemble ({})",
                                  config_.data_dir, members.size(), lines_of_tree())});
  }
  const std::string text = difference(config_.members, members);
  if (!text.empty()) {
    // The status shows a note for as long as it is so.
    log::warn(
        "core",
        "the server lines of the file are not the members of the ensemble, which hold: {}; make them the lines of "
        "/zookeeper/config, or change the members with coordctl reconfig",
        text);
  }
  return true;
}

std::string Core::lines_of_tree() const {
  std::string text;
  for (const Member& member : tree_->members()) text += (text.empty() ? "" : " ") + to_text(member);
  return text;
}

// Who is dialed, who is let in.
void Core::announce_members() {
  if (tree_->members_version() != Zxid{}) {
    links_.set_members(tree_->members_version(), addresses(tree_->members()));
    if (announced_version_ != tree_->members_version()) {
      log::info("core", "members version={} list=\"{}\"", to_string(tree_->members_version()), lines_of_tree());
    }
    announced_version_ = tree_->members_version();
  }
  links_.set_feature_level(tree_->feature_level());
  last_status_ms_ = 0;
}

// A list that is in the log and not applied names servers that may be needed to settle it: after a restart, when nobody
// leads, nothing above the tree is applied.
void Core::announce_candidates() {
  const zab::Membership* pending = peer_->pending_membership();
  const std::pair now(peer_->membership().version, pending == nullptr ? Zxid{} : pending->version);
  if (now == candidates_of_) return;
  candidates_of_ = now;
  std::map<Sid, peers::PeerAddress> candidates;
  for (const Outstanding& entry : outstanding_) {
    const auto change = tree::reconfig_of(*entry.payload);
    if (!change) continue;
    for (auto& [sid, address] : addresses(change->members)) candidates.insert_or_assign(sid, address);
  }
  links_.set_candidates(std::move(candidates));
}

void Core::members_applied() {
  step(zab::Enrolled{tree_->enrolled()});
  announce_members();
  look_at_low();
}

void Core::prepare_electorate() {
  tree::Electorate electorate;
  electorate.alone = alone_;
  electorate.reconfig_enabled = config_.reconfig_enabled;
  electorate.pending = peer_->pending_membership() != nullptr;
  electorate.synced[self_] = store_->meta().directory_id;
  electorate.feature_levels[self_] = config_.feature_level_max;
  for (const zab::Peer::LearnerView& learner : peer_->learners()) {
    if (learner.synced) electorate.synced[learner.sid] = learner.directory_id;
  }
  for (const auto& [sid, learner] : learners_) {
    if (learner.feature_level != 0) electorate.feature_levels[sid] = learner.feature_level;
  }
  // Without a replicated list those of the file are the members; who has not said what it knows knows nothing.
  for (const Member& member : config_.members) {
    if (tree_->members().empty()) electorate.feature_levels.try_emplace(member.sid, 0);
  }
  tree_->set_electorate(std::move(electorate));
}

void Core::propose_feature_level(std::int32_t level) {
  tree::Request request;
  request.op = Op::kFeatureLevel;
  wire::Writer writer(request.body);
  writer.i32(level);
  propose(std::move(request), {}, 0);
}

// With the first enrolment, for which the voters were waited for: an ensemble that begins begins at what all know.
// True: wait, somebody has not said what it knows.
bool Core::begin_level(std::int64_t now) {
  if (!tree_->enrolled().empty() || tree_->feature_level() > 1 || level_proposed_) return false;
  std::int32_t known = config_.feature_level_max;
  for (const auto& [sid, learner] : learners_) {
    if (learner.feature_level == 0) {
      if (now - serving_ms_ < kLevelsWaitMs) return true;
      known = 1;
    } else {
      known = std::min(known, learner.feature_level);
    }
  }
  level_proposed_ = true;
  if (known > 1) propose_feature_level(known);
  return false;
}

// The list of the files becomes version one, as soon as the feature level allows.
void Core::write_first_list() {
  if (alone_ || first_list_proposed_ || tree_->members_version() != Zxid{} ||
      tree_->feature_level() < tree::kFeatureLevelReconfig) {
    return;
  }
  first_list_proposed_ = true;
  tree::Request request;
  request.op = Op::kReconfig;
  wire::Writer writer(request.body);
  writer.buffer(std::nullopt);
  writer.buffer(std::nullopt);
  writer.buffer(std::string_view(lines_of(config_.members)));
  writer.i64(-1);
  propose(std::move(request), {}, 0);
}

void Core::look_at_members() {
  if (!may_propose()) return;
  if (enrol_early_) enrol(*std::exchange(enrol_early_, std::nullopt));
  write_first_list();
}

}  // namespace coord::runtime
