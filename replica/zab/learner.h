// The follower and the observer: promises the leader's epoch, takes over its history and then its proposals. zab.md
// section 3.
//
// Everything of the synchronization is staged and becomes one atomic Persist at NEWLEADER, together with currentEpoch:
// no crash leaves a log without its epoch or an epoch without its log (section 3.2; ZOOKEEPER-3911, 4643, 4646, 4785).
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "replica/zab/core.h"

namespace coord::zab {

class Learner {
 public:
  Learner(Core& core, Sid leader) : core_(core), leader_(leader) {}

  void begin();
  void end(const std::string& reason);

  bool wants(Sid peer) const { return peer == leader_ && !link_; }  // a dialed link
  void link_up(LinkId link);
  void link_down(LinkId link);
  void dial_failed(std::uint64_t number);
  void received(LinkId link, const Message& message);
  void heard(LinkId link);
  void persisted(std::uint64_t id);
  void snapshot_staged(const SnapshotStaged& staged);
  void tick();

  // The role follows from the members.
  void set_phase(Phase phase);

  bool broadcasting() const { return stage_ == Stage::kBroadcast; }
  LinkId link() const { return link_.value_or(LinkId{}); }
  bool acknowledges() const { return counts_ && core_.self_counts(); }

 private:
  enum class Stage : std::uint8_t {
    kDialing,
    kInfo,       // FollowerInfo went out
    kPromising,  // the promise is being made durable
    kPromised,   // AckEpoch went out; SyncFrom or a snapshot is to come
    kSnapshot,   // is coming
    kEntries,    // SyncFrom came; entries up to NewLeader
    kStaged,     // NewLeader came; the snapshot is not complete on disk yet
    kAdopting,   // all of it is being made durable
    kAdopted,    // AckNewLeader went out
    kBroadcast,  // UpToDate came
  };

  void on(const LeaderInfo& m);
  void on(const SnapshotBegin& m);
  void on(const SnapshotChunk& m);
  void on(const SnapshotEnd& m);
  void on(const SyncFrom& m);
  void on(const Proposal& m);
  void on(const NewLeader& m);
  void on(const UpToDate& m);
  void on(const Commit& m);

  void violation(const std::string& what);  // of the protocol, by the leader: the link is given up
  void send_promise();
  void reset_staging();
  bool stage_entry(const LogEntry& entry);
  bool take_identity(const NewLeader& m, Persist& persist);
  void adopt();
  void adopted();
  void hold(const Proposal& m);
  void append(std::vector<LogEntry> entries);
  bool known(const LogEntry& entry) const;
  bool acceptable(const LogEntry& entry, Zxid end);
  void take_committed(Zxid up_to);
  void acknowledge();

  Core& core_;
  const Sid leader_;
  Stage stage_ = Stage::kDialing;
  std::uint64_t dial_ = 0;
  std::optional<LinkId> link_;
  std::int64_t heard_at_ = 0;
  std::uint32_t epoch_ = 0;
  bool counts_ = false;
  std::uint64_t promise_id_ = 0, adopt_id_ = 0;
  // Staged.
  std::optional<Zxid> snapshot_;         // SnapshotBegin came; of what
  std::optional<Zxid> snapshot_staged_;  // complete on disk
  Membership snapshot_membership_;
  std::uint64_t chunks_ = 0;
  Zxid point_, staged_end_;
  std::vector<LogEntry> staged_;
  std::size_t staged_bytes_ = 0;
  std::optional<NewLeader> new_leader_;
  std::vector<Proposal> held_;  // came behind NewLeader before the snapshot was complete on disk
  Zxid known_committed_;  // told so far; delivered from UpToDate on
  Zxid acked_;
};

}  // namespace coord::zab
