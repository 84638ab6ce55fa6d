// The nominee and leader: mints an epoch with a quorum (discovery), makes the logs of its learners equal to its own
// (synchronization), and then proposes and commits (broadcast). zab.md section 3.
//
// Each learner has a cursor, `sent`, the last entry queued on its link. Everything above it goes out in zxid order,
// from the log in memory (tail) or, what is not there any more, from the durable log in chunks; a learner that falls
// behind is only a cursor further back. Choosing the point of synchronization and forwarding what comes later is
// therefore one step. Learners that do not acknowledge (observers, stranded promises, disks not enrolled) get committed
// entries only.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "replica/zab/core.h"

namespace coord::zab {

class Leader {
 public:
  Leader(Core& core, std::set<Sid> supporters) : core_(core), supporters_(std::move(supporters)) {}

  void begin(std::uint64_t election_round);
  void end(const std::string& reason);  // closes all learner links

  void link_up(LinkId link, Sid peer);
  void link_down(LinkId link);
  void received(LinkId link, const Message& message);
  void heard(LinkId link);
  void notified(Sid from, const Notification& notification);
  void persisted(std::uint64_t id);
  void propose(const Propose& proposal);
  void log_read(const LogRead& read);
  void snapshot_sent(const SnapshotSent& sent);
  void confirm(std::uint64_t number);
  void resign();
  void electorate_changed();  // enrolments, members
  void tick(std::int64_t stopped_ms);

  bool accepts_proposals() const;
  bool acknowledges() const { return core_.self_counts(); }
  std::vector<Peer::LearnerView> learners() const;

 private:
  // Where a learner stands; each stage comes after the one before.
  enum class Stage : std::uint8_t {
    kLinked,     // nothing said yet
    kInfo,       // FollowerInfo came
    kOffered,    // LeaderInfo went out
    kPromised,   // AckEpoch came; waits for its synchronization
    kSnapshot,   // is being sent
    kDiff,       // entries up to sync_end
    kNewLeader,  // went out
    kSynced,     // was acknowledged
    kServing,    // UpToDate went out
  };
  struct Unacknowledged {
    Zxid last;
    std::size_t bytes;
    std::int64_t sent_at;
  };
  struct Learner {
    LinkId link;
    Sid sid;
    Stage stage = Stage::kLinked;
    FollowerInfo info;
    AckEpoch promise;
    bool damaged = false;
    std::int64_t heard_at = 0;
    Zxid common;   // of its log and ours, if entries above it are still here
    Zxid sent, sync_end;
    Zxid told;     // the highest commit it knows of
    Zxid acked;    // durable there, in this epoch
    Zxid new_leader_last;
    std::uint64_t read = 0;                // the ReadLog under way
    std::deque<std::uint64_t> chunk_pings;  // one behind each chunk read from the log, not answered yet
    std::uint64_t pong = 0;
    std::size_t diff_bytes = 0;
    bool snapshotted = false;
    std::deque<Unacknowledged> window;
    std::size_t window_bytes = 0;
  };
  enum class Progress : std::uint8_t { kGathering, kMinting, kPromising, kAdopting, kBroadcast };

  // --- discovery and establishment (leader.cc)
  bool is_voter(const Learner& learner) const;
  bool may_count(const Learner& learner) const;  // as far as its role and directory go
  bool counts(const Learner& learner) const;     // and its promise
  std::set<Sid> counted_at(Stage stage) const;   // this server too, if it counts; learners at this stage or beyond
  bool is_quorum(const std::set<Sid>& sids) const { return core_.voters.is_quorum(sids); }
  void check_directory(const Learner& learner);
  void try_mint();
  void offer_epoch(Learner& learner);
  bool surpasses(const Learner& learner) const;
  void leave_to(const Learner& learner);
  void try_synchronize();
  void try_establish();
  void establish();
  bool check_supporters() const;

  void on(Learner& learner, const FollowerInfo& info);
  void on(Learner& learner, const AckEpoch& ack);
  void on(Learner& learner, const AckNewLeader& ack);
  void on(Learner& learner, const Ack& ack);
  void on(Learner& learner, const Pong& pong);
  void refuse(Learner& learner, const std::string& why);  // its link is closed, it is gone
  Learner* at(LinkId link);
  void forget(LinkId link);

  // --- broadcast (leader_broadcast.cc)
  void advance_commit();
  void rebuild_acks();
  void trim_tail();
  bool draining() const;
  void hand_over_when_drained();
  void ask_enrolment();
  std::uint64_t ping_all();
  void pong_came();
  bool pong_quorum(std::uint64_t number) const;
  void watch_learners();
  void watch_quorum();
  void watch_nominee();
  void send_ping(Learner& learner, std::uint64_t number);
  std::size_t tail_index(Zxid after) const;
  bool idle() const;
  bool is_synced(const Learner& learner) const;
  void watch_strays();

  // --- feeding (leader_feed.cc)
  bool forwarded(const Learner& learner) const { return counts(learner); }
  Zxid limit(const Learner& learner) const;
  void begin_sync(Learner& learner);
  void start_snapshot(Learner& learner);
  void sync_from(Learner& learner, Zxid point);
  void pump(Learner& learner);
  void pump_all();
  bool feed(Learner& learner, Zxid up_to);
  void send_entries(Learner& learner, std::vector<LogEntry> entries, std::size_t bytes);
  void acknowledged(Learner& learner, Zxid up_to);
  void tell_committed(Learner& learner);
  void welcome(Learner& learner);

  Core& core_;
  std::set<Sid> supporters_;
  std::uint64_t election_round_ = 0;
  Progress progress_ = Progress::kGathering;
  std::map<LinkId, Learner> learners_;
  std::map<Sid, Vote> elsewhere_;         // voters that said, to this leader, that they follow another one
  std::map<Sid, std::int64_t> heard_at_;  // of voters that count, over reconnections
  std::uint64_t promise_id_ = 0, adopt_id_ = 0;
  bool promise_durable_ = false, adopted_ = false;
  Zxid history_end_;  // of the log when it was established
  std::optional<Zxid> purged_behind_;  // the durable log has no entry behind this, nor behind anything below
  std::int64_t progress_at_ = 0, quorum_linked_at_ = 0, pinged_at_ = 0, enrol_asked_at_ = 0, established_at_ = 0;
  std::set<Sid> enrol_asked_;
  Acks acks_;
  std::deque<LogEntry> tail_;  // of this epoch, up to the log's last
  Zxid tail_floor_;            // the entry before it
  std::size_t tail_bytes_ = 0;
  std::size_t outstanding_bytes_ = 0;
  bool resigning_ = false;
  struct Question {
    std::uint64_t number;
    Zxid committed;
  };
  std::vector<Question> asked_, asked_next_;  // answered by the ping under way, or by the one after it
  std::uint64_t question_ping_ = 0;
  std::uint64_t reconfirm_ping_ = 0;  // this process was stopped: no proposals before a quorum answered this ping
};

}  // namespace coord::zab
