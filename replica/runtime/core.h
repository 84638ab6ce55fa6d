// The driver of a replica: feeds requests to prepare, proposals to the ZAB core, batches to the store, and committed
// transactions to the tree; tracks sessions and their connections. A shell: it decides nothing about the protocol.
//
// Threading: everything but the members marked [any thread] runs on the core thread (loop 0). The state machine is
// guarded by `tree_lock()`: shared for reads on any thread, exclusive for apply on the core thread.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "replica/net/loop.h"
#include "replica/runtime/client_conn.h"
#include "replica/runtime/config.h"
#include "replica/store/store.h"
#include "replica/tree/sessions.h"
#include "replica/tree/state_machine.h"
#include "replica/zab/peer.h"

namespace coord::runtime {

// Readers must not keep a writer waiting for ever: std::shared_mutex of glibc prefers readers.
class TreeLock {
 public:
  TreeLock();
  ~TreeLock();
  TreeLock(const TreeLock&) = delete;
  TreeLock& operator=(const TreeLock&) = delete;
  void lock();
  void unlock();
  void lock_shared();
  void unlock_shared();

 private:
  pthread_rwlock_t lock_;
};

class Core final : private tree::Sink {
 public:
  // `store` is open and not yet loaded.
  Core(const Config& config, net::Loop& loop, std::unique_ptr<store::Store> store);
  ~Core() override;

  // Loads the tree, replays the committed log and stands for election. Before the loop runs. Fault: damaged data.
  Result<bool, Fault> load();
  // Starts the timers and the ZAB core; `on_serving` is called once, when the replica has become able to serve.
  void start(std::function<void()> on_serving);
  // No more requests; closes all connections. The store's destructor writes what is queued.
  void stop();

  // --- connections
  void opened(std::shared_ptr<ClientConn> conn);                       // [any thread]
  void closed(std::shared_ptr<ClientConn> conn);                       // [any thread]
  void connect(std::shared_ptr<ClientConn> conn, wire::ConnectRequest request);  // [any thread]
  void submit(std::shared_ptr<ClientConn> conn, std::vector<tree::Request> requests);  // [any thread]

  // --- for reads and the four-letter words
  tree::StateMachine& tree() { return tree_; }
  const tree::StateMachine& tree() const { return tree_; }
  TreeLock& tree_lock() { return tree_lock_; }
  const Config& config() const { return config_; }
  bool serving() const { return serving_.load(); }                      // [any thread]
  TrafficCounters& traffic() { return traffic_; }                       // [any thread]
  store::Store& store() { return *store_; }
  std::vector<std::shared_ptr<ClientConn>> connections() const;         // [any thread]
  std::size_t connection_count() const;                                 // [any thread]
  std::size_t outstanding() const { return outstanding_count_.load(); }  // [any thread]
  std::int64_t uptime_ms() const;                                       // [any thread]
  struct Latency {
    std::uint64_t count = 0, total_us = 0, min_us = 0, max_us = 0;  // of writes: received to applied
  };
  Latency latency() const;                                              // [any thread]
  // A connection may not be opened: too many from this address, or altogether.
  bool too_many(const net::Remote& remote) const;                       // [any thread]

  static std::int64_t now_ms();  // monotonic
  std::string password_of(SessionId session) const;  // [any thread]

 private:
  struct Outstanding {
    Zxid zxid;
    zab::Payload payload;
    std::shared_ptr<ClientConn> origin;  // null: the replica itself, or a log entry from before the start
    std::int64_t since_us = 0;
  };

  // tree::Sink
  void watch_event(ConnId conn, WatchType type, std::string_view path, Zxid zxid) override;
  void change_event(ConnId conn, const wire::ChangeEvent& event) override;
  void session_closed(SessionId session, Zxid zxid) override;

  void propose(tree::Request request, std::shared_ptr<ClientConn> origin);
  void carry_out();             // the ZAB core's actions
  void commit(Zxid up_to);
  void apply_next();
  void finish(const tree::Applied& applied, const Outstanding& entry);
  void end_sessions(const std::shared_ptr<ClientConn>& origin);
  void touch_output(const std::shared_ptr<ClientConn>& conn);
  std::shared_ptr<ClientConn> find(ConnId conn) const;
  void send_batch();            // what this turn persists, with the fold if one is due
  bool fold_due() const;
  void durable(std::uint64_t batch_id);
  void flush_touched();
  void turn_done();

  void connect_new(std::shared_ptr<ClientConn> conn, const wire::ConnectRequest& request, std::int32_t timeout_ms);
  void reconnect(std::shared_ptr<ClientConn> conn, const wire::ConnectRequest& request, std::int32_t timeout_ms);
  void attach(const std::shared_ptr<ClientConn>& conn, SessionId session, std::int32_t timeout_ms);
  SessionId new_session_id();

  void tick();
  void expire_sessions(std::int64_t now);
  void close_idle_handshakes(std::int64_t now);
  void reap();
  void look_at_disk();
  void close_session(SessionId session);

  const Config config_;
  net::Loop& loop_;
  std::unique_ptr<store::Store> store_;
  tree::StateMachine tree_;
  TreeLock tree_lock_;
  zab::Peer peer_;
  zab::Actions actions_;
  std::function<void()> on_serving_;
  std::atomic<bool> serving_{false};
  std::atomic<bool> refuse_writes_{false};
  bool stopping_ = false;
  const std::int64_t started_ms_;

  // Proposed or logged, not yet applied, ascending.
  std::deque<Outstanding> outstanding_;
  std::atomic<std::size_t> outstanding_count_{0};

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

  tree::ExpiryTracker expiry_;
  std::int64_t last_tick_ms_ = 0;
  std::int64_t last_reap_ms_ = 0;
  std::int64_t last_disk_ms_ = 0;
  std::uint64_t next_session_ = 0;
  struct Attached {
    std::shared_ptr<ClientConn> conn;
    std::int32_t timeout_ms = 0;
  };
  std::unordered_map<SessionId, Attached> attached_;
  std::unordered_set<SessionId> closing_;  // closeSession proposed, not yet applied
  std::vector<SessionId> ended_;           // by the transaction being applied

  mutable std::mutex connections_mutex_;
  std::unordered_map<ConnId, std::shared_ptr<ClientConn>> connections_;
  std::unordered_map<std::string, int> per_address_;
  std::vector<std::shared_ptr<ClientConn>> touched_;  // have output to flush at the end of this turn

  TrafficCounters traffic_;
  mutable std::mutex latency_mutex_;
  Latency latency_;
};

}  // namespace coord::runtime
