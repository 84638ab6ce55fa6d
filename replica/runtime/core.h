// The driver of a replica: feeds requests to prepare or to the leader, proposals and messages to the ZAB core, batches
// to the store, and committed transactions to the tree; tracks sessions and their connections. A shell: it decides
// nothing about the protocol. The simulator runs this same object over its own executor, store and links.
//
// Threading: everything but the members marked [any thread] runs on the core thread (the executor's). The state machine
// is guarded by `tree_lock()`: shared for reads on any thread, exclusive for apply on the core thread. With an executor
// of one thread and a store whose completions come in order it is deterministic.
//
// Lifetime: the executor, the links and what the environment refers to outlive it, and the executor runs nothing of its
// any more once it is gone.
//
// Source: replica/README.md; zab.md sections 4.2, 4.3; client-protocol.md section 2.
// The files: core.cc turns and storage; core_requests.cc requests, delivery, replies; core_sessions.cc connections,
// sessions, time; core_ensemble.cc links, what replicas say to each other, status; core_members.cc who is a member;
// core_snapshot.cc snapshots, reload.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "replica/net/executor.h"
#include "replica/peers/links.h"
#include "replica/runtime/client_conn.h"
#include "replica/runtime/config.h"
#include "replica/runtime/ensemble_status.h"
#include "replica/runtime/environment.h"
#include "replica/runtime/forward.h"
#include "replica/runtime/session_owner.h"
#include "replica/runtime/tree_lock.h"
#include "replica/store/store.h"
#include "replica/tree/state_machine.h"
#include "replica/zab/peer.h"

namespace coord::runtime {

class Core final : private tree::Sink, private peers::LinksUser {
 public:
  // `store` is open and not yet loaded. The members of the ensemble are `config.members`; none: alone.
  Core(const Config& config, net::Executor& executor, std::unique_ptr<store::Store> store, peers::Links& links,
       Environment environment);
  ~Core() override;

  // Loads the tree and replays the committed log. Before the executor runs. Fault: damaged data.
  Result<bool, Fault> load();
  // Starts the timers, the links and the ZAB core; `on_serving` is called once, when the replica has become able to
  // serve for the first time.
  void start(std::function<void()> on_serving);
  // No more requests; closes all connections and links. The store's destructor writes what is queued.
  void stop();

  // --- connections
  void opened(std::shared_ptr<ClientConn> conn);                       // [any thread]
  void closed(std::shared_ptr<ClientConn> conn);                       // [any thread]
  void connect(std::shared_ptr<ClientConn> conn, wire::ConnectRequest request);  // [any thread]
  // Writes, and `sync` when sync_asks_leader().
  void submit(std::shared_ptr<ClientConn> conn, std::vector<tree::Request> requests);  // [any thread]
  bool sync_asks_leader() const { return !alone_; }                     // [any thread]

  // --- for reads and the four-letter words
  tree::StateMachine& tree() { return *tree_; }              // under tree_lock(): a snapshot replaces it
  const tree::StateMachine& tree() const { return *tree_; }
  TreeLock& tree_lock() { return tree_lock_; }
  const Config& config() const { return config_; }
  bool serving() const { return serving_.load(); }                      // [any thread]
  TrafficCounters& traffic() { return traffic_; }                       // [any thread]
  store::Store& store() { return *store_; }
  std::vector<std::shared_ptr<ClientConn>> connections() const;         // [any thread], ascending
  std::size_t connection_count() const;                                 // [any thread]
  std::size_t outstanding() const { return outstanding_count_.load(); }  // [any thread]
  std::int64_t uptime_ms() const;                                       // [any thread]
  struct Latency {
    std::uint64_t count = 0, total_us = 0, min_us = 0, max_us = 0;  // of writes: received to applied
  };
  Latency latency() const;                                              // [any thread]
  // A connection may not be opened: too many from this address, or altogether.
  bool too_many(const net::Remote& remote) const;                       // [any thread]
  EnsembleStatus ensemble_status() const;                               // [any thread], a copy up to 200 ms old
  // Asks the ZAB core to give up the office in order. Nothing happens when this server does not lead.
  void resign();                                                        // [any thread]

  std::int64_t now_us() const { return executor_.now_us(); }            // [any thread], monotonic
  std::int64_t now_ms() const { return executor_.now_us() / 1000; }     // [any thread], monotonic
  std::string password_of(SessionId session) const;
  // For tests and the simulator, which look at the protocol's state: after load(), on the core thread.
  const zab::Peer& peer() const { return *peer_; }

 private:
  // Where a request came from: a connection here, or a learner; neither: this replica itself.
  struct Source {
    std::shared_ptr<ClientConn> conn;
    zab::Origin origin;            // a learner's
    std::uint64_t generation = 0;  // with origin
  };
  struct Waiting {
    tree::Request request;
    Source source;
    std::int64_t since_us = 0;
  };
  struct Outstanding {
    Zxid zxid;
    zab::Payload payload;
    std::shared_ptr<ClientConn> conn;  // who waits here; null: nobody, or see `origin`
    zab::Origin origin;
    std::int64_t since_us = 0;
  };
  // A request on its way to the leader, or one that the leader was asked for.
  struct Forwarded {
    std::uint64_t id = 0;
    std::shared_ptr<ClientConn> conn;
    std::int64_t since_us = 0;
  };
  struct Attached {
    std::shared_ptr<ClientConn> conn;
    std::int32_t timeout_ms = 0;
    std::uint64_t generation = 0;
    std::int64_t reported_ms = 0;  // last contact that the leader was told of
  };
  struct Attaching {
    std::shared_ptr<ClientConn> conn;
    SessionId session;
    std::int32_t timeout_ms = 0;
  };
  // A sync that waits for the leadership to be confirmed: of a client here, or of a learner.
  struct Syncing {
    std::shared_ptr<ClientConn> conn;
    zab::LinkId link;
    std::uint64_t id = 0;
  };
  struct Sending {  // a snapshot
    std::unique_ptr<store::SnapshotSource> source;
    std::uint64_t chunks = 0;
    std::int64_t credit = 0;  // bytes that may go now
    bool hurry = false;       // no matter what else goes on
    bool full = false;        // the link has enough for now, and will say when it has not
    bool ended = false;
    bool posted = false;
  };
  struct KnownLink {
    zab::Channel channel = zab::Channel::kElection;
    Sid peer;
  };

  // tree::Sink
  void watch_event(ConnId conn, WatchType type, std::string_view path, Zxid zxid) override;
  void change_event(ConnId conn, const wire::ChangeEvent& event) override;
  void session_closed(SessionId session, Zxid zxid) override;

  // peers::LinksUser
  void link_up(zab::LinkId link, zab::Channel channel, Sid peer, bool dialed) override;
  void link_down(zab::LinkId link, const std::string& why) override;
  void dial_failed(std::uint64_t number, Sid peer, const std::string& why) override;
  void received(zab::LinkId link, std::vector<zab::Message> messages) override;
  void heard(zab::LinkId link) override;
  void writable(zab::LinkId link) override;
  void trouble(Sid peer, const std::string& text) override;

  // --- core.cc
  static tree::Limits limits_of(const Config& config);
  void step(const zab::Event& event) { peer_->step(event, actions_); }
  void carry_out();             // the ZAB core's actions
  void carry_out(const zab::Action& action);
  void persist(const zab::Persist& persist);
  void phase_changed(const zab::PhaseChanged& change);
  void begin_serving();
  void leave_broadcast();
  void send_batch();            // what this turn persists, with the fold if one is due
  bool fold_due() const;
  void durable(std::uint64_t batch_id);
  void turn_done();
  bool replacing_tree() const { return replacing_ > 0; }
  bool leading() const { return alone_ || peer_->role() == zab::Role::kLeading; }
  void close_link(zab::LinkId link, const std::string& reason);  // of our own accord

  // --- core_requests.cc
  void take(tree::Request request, const std::shared_ptr<ClientConn>& conn);
  void propose(tree::Request request, Source source, std::int64_t since_us);
  bool may_propose() const { return serving_ && !stopping_ && !hesitating() && peer_->accepts_proposals(); }
  bool hesitating() const;
  void propose_now(tree::Request request, Source source, std::int64_t since_us);
  void propose_waiting();
  static std::size_t bytes_kept(const tree::Request& request);
  void refuse(const tree::Request& request, const Source& source);
  void forward_request(tree::Request request, std::shared_ptr<ClientConn> conn);
  Forwarded take_forwarded(std::uint64_t id);
  void deliver(Zxid up_to);
  void apply_next();
  void finish(const tree::Applied& applied, const Outstanding& entry);
  void finish_create(const tree::Applied& applied, const Outstanding& entry);
  void end_sessions(const std::shared_ptr<ClientConn>& origin);
  void note_digest(Zxid zxid);
  void sync(std::shared_ptr<ClientConn> conn);
  void ask_confirmation();
  void leadership_confirmed(const zab::LeadershipConfirmed& confirmed);
  void sync_ready(const std::shared_ptr<ClientConn>& conn, Zxid zxid);
  void answer_syncs();
  // A leader with a low disk leaves the office to others that have room; what they decide meanwhile is not refused.
  bool refuses_writes() const { return quorum_low_ || (refuse_writes_.load() && !may_hand_over_); }
  void look_at_low();
  bool others_have_room() const;
  void look_at_room();
  void touch_output(const std::shared_ptr<ClientConn>& conn);
  std::shared_ptr<ClientConn> find(ConnId conn) const;
  void flush_touched();

  // --- core_sessions.cc
  void connect_new(std::shared_ptr<ClientConn> conn, std::int32_t timeout_ms);
  void reconnect(std::shared_ptr<ClientConn> conn, const wire::ConnectRequest& request, std::int32_t timeout_ms);
  void session_invalid(const std::shared_ptr<ClientConn>& conn, SessionId session);
  std::optional<std::uint64_t> attach_owner(SessionId session, std::int32_t timeout_ms, Sid owner);  // leading
  void attach(const std::shared_ptr<ClientConn>& conn, SessionId session, std::int32_t timeout_ms,
              std::uint64_t generation);
  void detach(SessionId session, bool close);  // the connection that it has here
  SessionId new_session_id();
  void tick();
  void look_at_stall(std::int64_t now);
  void expire_sessions(std::int64_t now);
  void close_session(SessionId session);
  void close_idle_handshakes(std::int64_t now);
  void reap();
  void look_at_disk();
  void send_table(std::int64_t now, bool timely);

  // --- core_ensemble.cc
  void passed_up(const zab::PassedUp& passed);
  void pass(zab::LinkId link, const forward::Passed& message);
  void from_learner(zab::LinkId link, Sid from, forward::Passed message);
  void from_leader(forward::Passed message);
  void take_request(zab::LinkId link, Sid from, forward::Request message);
  void take_attach(zab::LinkId link, Sid from, const forward::Attach& message);
  void take_table(zab::LinkId link, Sid from, const forward::Touched& message);
  void moved(SessionId session, std::uint64_t generation);
  void learner_changed(const zab::LearnerChanged& change);
  void enrol(const zab::Enrol& enrol);
  void alarm(const std::string& text);
  void alarm_over(const std::string& text);
  void refresh_status();
  std::string isolation();  // what to say when nobody is connected; empty: somebody is, or was just now

  // --- core_members.cc
  Result<bool, Fault> check_members();  // at start: the files' list against the replicated one
  std::string lines_of_tree() const;
  void announce_members();
  void announce_candidates();
  void members_applied();
  void prepare_electorate();
  void propose_feature_level(std::int32_t level);
  bool begin_level(std::int64_t now);
  void write_first_list();
  void look_at_members();

  // --- core_snapshot.cc
  void send_snapshot(const zab::SendSnapshot& send);
  void pump_snapshot(zab::LinkId link);
  void pay_snapshots(std::int64_t passed_ms);
  void receive_snapshot(const zab::ReceiveSnapshot& receive);
  void reload(Zxid zxid);
  void reloaded(std::unique_ptr<tree::StateMachine> fresh, Zxid zxid);
  Result<bool, Fault> load_tree(tree::StateMachine& into, Zxid zxid);

  const Config config_;
  const bool alone_;
  const Sid self_;
  net::Executor& executor_;
  peers::Links& links_;
  std::unique_ptr<store::Store> store_;
  Environment environment_;  // behind the store: its work beside us ends before the store does
  std::unique_ptr<tree::StateMachine> tree_;
  TreeLock tree_lock_;
  std::unique_ptr<zab::Peer> peer_;
  zab::Actions actions_;
  bool carrying_out_ = false;
  std::function<void()> on_serving_;
  std::atomic<bool> serving_{false};
  std::atomic<bool> refuse_writes_{false};  // by the disk of this replica
  bool quorum_low_ = false;     // by those of others
  bool may_hand_over_ = false;  // others could lead, with room
  std::int64_t handed_over_ms_ = 0;  // for want of room; 0: never
  zab::Room room_ = zab::Room::kPlenty;  // as the ZAB core was told
  std::string room_alarm_;
  std::int64_t low_since_ms_ = 0;        // since room_ is what it is
  std::int64_t no_room_until_ms_ = 0;    // a snapshot did not fit
  std::uint64_t snapshots_too_large_ = 0;
  bool stopping_ = false;
  const std::int64_t started_ms_;
  std::string cluster_id_, secret_;
  bool cluster_announced_ = false;  // to the links

  // Proposed or logged, not yet applied, ascending; `deliver_to_`: what of it is committed.
  std::deque<Outstanding> outstanding_;
  std::atomic<std::size_t> outstanding_count_{0};
  Zxid deliver_to_;
  // Leading, and there was no room for them: in the order of arrival.
  std::deque<Waiting> waiting_;
  std::size_t waiting_bytes_ = 0;
  // Following: on their way to the leader, ascending.
  std::deque<Forwarded> forwarded_;
  std::map<std::uint64_t, Attaching> attaching_;
  std::map<std::uint64_t, std::shared_ptr<ClientConn>> syncs_forwarded_;
  std::uint64_t next_origin_;
  // Syncs: to be asked for, asked for (with the question's number and time), and answered but not applied so far.
  std::vector<Syncing> syncs_, syncs_asked_;
  std::uint64_t question_ = 0;
  bool question_open_ = false;
  bool confirm_wanted_ = false;
  std::int64_t question_ms_ = 0;
  std::deque<std::pair<Zxid, std::shared_ptr<ClientConn>>> syncs_confirmed_;

  // What this turn wants to persist, and what the store is writing: batch id -> the last Persist in it (0: none).
  store::Batch batch_;
  std::uint64_t batch_persist_ = 0;
  bool batch_filled_ = false;
  std::uint64_t next_batch_id_ = 1;
  struct InFlight {
    std::uint64_t batch_id;
    std::uint64_t persist_id;
  };
  std::deque<InFlight> in_flight_;
  store::Epochs epochs_;
  Zxid hinted_;        // commit hint last given to the store
  Zxid folded_;        // tree_durable last given to the store
  std::uint64_t applied_since_fold_ = 0;
  std::uint64_t applied_at_last_tick_ = 0;
  std::uint64_t applied_total_ = 0;
  std::atomic<std::uint64_t> durable_batch_{0};
  std::atomic<bool> durable_posted_{false};

  // Snapshots. From the Persist that installs one until the tree has been loaded anew, nothing of the old tree may
  // reach the store.
  std::map<zab::LinkId, Sending> sending_;
  std::uint64_t snapshots_sent_ = 0;
  std::int64_t idle_ms_ = 0;  // since there was a write, as seen while snapshots are sent
  std::uint64_t receiving_chunks_ = 0;
  int replacing_ = 0;    // snapshots installed whose tree is not loaded yet
  bool loading_ = false;
  Zxid load_again_;  // another was installed meanwhile

  // Leading.
  SessionOwners owners_;
  std::set<SessionId> closing_;  // closeSession proposed or waiting, not yet applied
  struct Learner {
    zab::LinkId link;
    bool low = false;            // refuses writes
    std::int32_t feature_level = 0;  // what it knows; 0: it has not said so yet
  };
  std::map<Sid, Learner> learners_;  // in broadcast
  std::deque<zab::PassedUp> early_;  // came before this server served
  std::optional<zab::Enrol> enrol_early_;
  bool level_proposed_ = false, first_list_proposed_ = false;
  Zxid announced_version_;  // of the members, to the links
  std::pair<Zxid, Zxid> candidates_of_;  // versions in force and pending that the candidates were looked up for
  std::map<Sid, std::string> dial_failures_;  // the last one of each leader, said once
  std::int64_t serving_ms_ = 0;  // since then
  std::set<Sid> differing_;

  std::map<zab::LinkId, KnownLink> known_links_;
  std::map<Sid, std::string> troubles_;
  std::deque<std::string> alarms_;

  // Following.
  std::vector<forward::Touch> gone_;  // connections that ended since the last table
  std::vector<forward::DigestNote> notes_to_send_;
  std::uint64_t asked_ = 0;           // for a table, not yet answered; 0: no
  int asked_ticks_ = 0;
  bool table_refused_ = false;        // what the last table said of our disk
  bool level_told_ = false;
  std::int64_t last_table_ms_ = 0;
  std::map<Zxid, std::uint64_t> digests_;

  std::int64_t last_tick_ms_ = 0;
  std::int64_t last_reap_ms_ = 0;
  std::int64_t last_disk_ms_ = 0;
  std::int64_t last_status_ms_ = 0;
  std::int64_t linked_ms_ = 0;  // there was a link then
  bool isolation_told_ = false;
  std::uint64_t next_session_ = 0;
  std::map<SessionId, Attached> attached_;
  std::vector<SessionId> ended_;           // by the transaction being applied

  mutable std::mutex connections_mutex_;
  std::unordered_map<ConnId, std::shared_ptr<ClientConn>> connections_;
  std::unordered_map<std::string, int> per_address_;
  std::vector<std::shared_ptr<ClientConn>> touched_;  // have output to flush at the end of this turn

  TrafficCounters traffic_;
  mutable std::mutex latency_mutex_;
  Latency latency_;
  mutable std::mutex status_mutex_;
  EnsembleStatus status_;
};

}  // namespace coord::runtime
