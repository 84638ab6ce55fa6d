#include "tests/sim/describe.h"

#include "common/base/overloaded.h"
#include "tests/sim/random.h"

namespace coord::sim {

namespace {

std::string number(std::uint64_t n) { return std::to_string(n); }

std::string shape(const zab::LogShape& log) {
  std::string text = "[" + to_string(log.floor);
  for (const Zxid end : log.epoch_ends) text += " " + to_string(end);
  return text + "]";
}

std::string range(const std::vector<zab::LogEntry>& entries) {
  if (entries.empty()) return "none";
  return to_string(entries.front().zxid) + ".." + to_string(entries.back().zxid) + " behind " +
         to_string(entries.front().previous);
}

}  // namespace

std::string name_of(zab::Role role, zab::Phase phase) {
  static constexpr const char* kRoles[] = {"looking", "leading", "following", "observing"};
  static constexpr const char* kPhases[] = {"election", "discovery", "synchronization", "broadcast"};
  return std::string(kRoles[static_cast<int>(role)]) + "/" + kPhases[static_cast<int>(phase)];
}

std::string describe(const zab::Message& message) {
  return std::visit(
      Overloaded{
          [](const zab::Notification& m) {
            return "NOTIFICATION state " + number(static_cast<std::uint64_t>(m.state)) + " round " + number(m.round) +
                   " vote " + number(m.vote.leader.value) + "@" + to_string(m.vote.zxid) + "/" + number(m.vote.epoch) +
                   " accepted " + number(m.accepted_epoch) + " members " + to_string(m.members) +
                   (m.wants_answer ? " ?" : "");
          },
          [](const zab::FollowerInfo& m) {
            return "FOLLOWERINFO accepted " + number(m.accepted_epoch) + " from " + number(m.accepted_from.value) +
                   (m.virgin ? " virgin" : "") + (m.damaged ? " damaged" : "") + (m.voter ? "" : " observer");
          },
          [](const zab::AckEpoch& m) {
            return "ACKEPOCH " + number(m.epoch) + (m.counts ? "" : " does not count") + " current " +
                   number(m.current_epoch) + " log " + shape(m.log) + " applied " + to_string(m.last_applied);
          },
          [](const zab::AckNewLeader& m) { return "ACK NEWLEADER " + number(m.epoch); },
          [](const zab::Ack& m) { return "ACK " + to_string(m.up_to); },
          [](const zab::Pong& m) { return "PONG " + number(m.number); },
          [](const zab::LeaderInfo& m) { return "LEADERINFO " + number(m.epoch); },
          [](const zab::SyncFrom& m) { return "SYNCFROM " + to_string(m.point); },
          [](const zab::SnapshotBegin& m) {
            return "SNAPSHOT " + to_string(m.zxid) + " members " + to_string(m.membership.version);
          },
          [](const zab::SnapshotChunk&) { return std::string("SNAPSHOT CHUNK"); },
          [](const zab::SnapshotEnd&) { return std::string("SNAPSHOT END"); },
          [](const zab::Proposal& m) {
            return "PROPOSAL " + range(m.entries) + " committed " + to_string(m.committed);
          },
          [](const zab::NewLeader& m) { return "NEWLEADER " + number(m.epoch) + " last " + to_string(m.last); },
          [](const zab::UpToDate& m) { return "UPTODATE " + to_string(m.committed); },
          [](const zab::Commit& m) { return "COMMIT " + to_string(m.up_to); },
          [](const zab::Ping& m) { return "PING " + number(m.number); },
          [](const zab::Passed&) { return std::string("PASSED"); },
          [](const zab::Bye& m) { return "BYE " + m.reason; }},
      message);
}

std::string describe(const zab::Action& action) {
  return std::visit(
      Overloaded{[](const zab::Persist& a) {
                   return "persist " + number(a.id) + (a.install_snapshot ? " snapshot" : "") +
                          (a.truncate_after ? " truncate " + to_string(*a.truncate_after) : "") + " append " +
                          range(a.append) + (a.accepted_epoch ? " accepted " + number(*a.accepted_epoch) : "") +
                          (a.current_epoch ? " current " + number(*a.current_epoch) : "") +
                          (a.repaired ? " repaired" : "");
                 },
                 [](const zab::Deliver& a) { return "deliver " + to_string(a.up_to); },
                 [](const zab::Discard& a) { return "discard after " + to_string(a.after); },
                 [](const zab::Appended& a) { return "appended " + range(a.entries); },
                 [](const zab::Reload& a) { return "reload " + to_string(a.zxid); },
                 [](const zab::PhaseChanged& a) {
                   return "phase " + name_of(a.role, a.phase) + " epoch " + number(a.epoch) + " leader " +
                          number(a.leader.value);
                 },
                 [](const zab::Send& a) { return "send on " + number(a.link.value) + " " + describe(a.message); },
                 [](const zab::DialLearner& a) { return "dial " + number(a.leader.value); },
                 [](const zab::CloseLink& a) { return "close " + number(a.link.value) + ": " + a.reason; },
                 [](const zab::ReadLog& a) { return "read log " + to_string(a.after) + " .. " + to_string(a.up_to); },
                 [](const zab::SendSnapshot& a) { return "send snapshot on " + number(a.link.value); },
                 [](const zab::ReceiveSnapshot& a) { return "receive snapshot on " + number(a.link.value); },
                 [](const zab::DropSnapshot&) { return std::string("drop snapshot"); },
                 [](const zab::PassedUp& a) { return "passed up from " + number(a.from.value); },
                 [](const zab::LearnerChanged& a) {
                   return "learner " + number(a.sid.value) + (a.serving ? " serves" : " does not serve");
                 },
                 [](const zab::LeadershipConfirmed& a) { return "leadership confirmed " + number(a.number); },
                 [](const zab::Enrol& a) { return "enrol " + number(a.directories.size()); },
                 [](const zab::Alarm& a) { return (a.over ? "alarm over: " : "ALARM ") + a.text; }},
      action);
}

std::uint64_t key_of(const zab::Message& message) {
  const std::uint64_t kind = message.index();
  if (const auto* proposal = std::get_if<zab::Proposal>(&message)) {
    return mix(kind, proposal->entries.empty() ? 0 : proposal->entries.back().zxid.value);
  }
  if (const auto* ack = std::get_if<zab::Ack>(&message)) return mix(kind, ack->up_to.value);
  if (const auto* commit = std::get_if<zab::Commit>(&message)) return mix(kind, commit->up_to.value);
  if (const auto* vote = std::get_if<zab::Notification>(&message))
    return mix(mix(kind, vote->round), vote->vote.leader.value);
  return kind;
}

}  // namespace coord::sim
