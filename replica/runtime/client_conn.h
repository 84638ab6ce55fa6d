// One client connection as the protocol sees it: handshake, frames, requests, replies in the order of the requests,
// watch events before any reply that could reveal their change (client-protocol.md sections 1, 2, 4).
//
// Threading. The stream's callbacks come on the connection's loop; apply results and events come from the core thread
// while it holds the tree lock exclusively. What both touch is under `mutex_`. Lock order: tree lock, then `mutex_`.
// A read runs on the connection's loop under the shared tree lock when nothing is queued before it; a read behind a
// write of the same client runs on the core thread, right after that write was applied, so that replies keep their
// order and never show a later state than the bytes that follow them.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/model/ids.h"
#include "common/wire/extension.h"
#include "common/wire/protocol.h"
#include "replica/net/stream.h"
#include "replica/tree/state_machine.h"

namespace coord::runtime {

class Core;

struct TrafficCounters {
  std::atomic<std::uint64_t> received{0};
  std::atomic<std::uint64_t> sent{0};
};

class ClientConn final : public net::StreamUser, public std::enable_shared_from_this<ClientConn> {
 public:
  ClientConn(Core& core, std::shared_ptr<net::Stream> stream, ConnId id);

  ConnId id() const { return id_; }
  const net::Remote& remote() const { return stream_->remote(); }
  std::int64_t accepted_ms() const { return accepted_ms_; }
  // Monotonic ms of the last sign of life that keeps a session alive: a frame, or that a client whose frames are not
  // read before it has taken its answers takes something.
  std::int64_t last_active_ms() const { return last_active_ms_.load(std::memory_order_relaxed); }
  bool connected() const { return connected_.load(std::memory_order_relaxed); }
  SessionId session() const { return SessionId(session_.load(std::memory_order_relaxed)); }
  std::uint64_t packets_received() const { return packets_received_.load(std::memory_order_relaxed); }
  std::uint64_t packets_sent() const { return packets_sent_.load(std::memory_order_relaxed); }
  std::size_t queued() const;

  // --- net::StreamUser, on the loop
  bool on_bytes(std::string& in) override;
  void take_output(std::string& out) override;
  void on_taken() override { note_sign_of_life(); }
  void on_closed() override;

  // --- the core thread
  // The session is established (new or taken over): answers the ConnectRequest and reads on.
  // False: the client has left meanwhile.
  bool accept_session(SessionId session, std::int32_t timeout_ms);
  void refuse_session();  // the "expired" answer, then close
  // A write of this connection is about to be applied: answers the reads before it. Tree lock held exclusively.
  void before_write();
  // A write of this connection was applied: answers it and runs the reads behind it. Tree lock held exclusively.
  void complete(const tree::Applied& applied, Zxid zxid);
  // The oldest sync that waits for the leader may be answered in its turn. Tree lock held, shared at least.
  void complete_sync();
  // Events, in order with replies. Tree lock held exclusively.
  void send_watch_event(WatchType type, std::string_view path, Zxid zxid);
  void send_change_event(const wire::ChangeEvent& event);
  void flush() { stream_->request_flush(); }
  // No write of this connection is taken from here on, also of those on their way: a later one must not be carried out
  // when an earlier one was not, nor one of a session that has moved on.
  void close(bool send_rest) {
    cut_off = true;
    stream_->request_close(send_rest);
  }
  // The core's own notes.
  bool cut_off = false;
  bool in_flush_list = false;
  std::int32_t asked_timeout_ms = 0;
  bool sync_open = false;
  std::vector<tree::Request> behind_sync;

 private:
  // What a request in the queue waits for, besides its turn: to be applied; to be confirmed by the leader.
  enum class Wait : std::uint8_t { kNothing, kApply, kLeader };
  // A request in the queue behind one that was not answered yet, or one that waits itself.
  struct Pending {
    std::int32_t xid = 0;
    wire::Op op = wire::Op::kError;
    Wait wait = Wait::kNothing;
    bool last = false;  // the connection is closed behind its answer
    std::string body;   // a read's or sync's
    std::string reply;  // ready bytes, sent as they are in their turn
    std::size_t bytes = 0;  // what it keeps in memory, about
  };

  bool four_letter_word(std::string& in);
  void take_frames(std::string& in);
  bool connect_request(std::string_view payload);
  void note_sign_of_life();
  // False: stop with this connection.
  bool request(std::string_view payload, std::vector<tree::Request>& writes);
  bool authenticate(std::int32_t xid, std::string_view body);
  void unknown_op(std::int32_t xid);
  bool handle(std::int32_t xid, wire::Op op, std::string_view body, std::vector<tree::Request>& writes);
  tree::Request make_request(std::int32_t xid, wire::Op op, std::string_view body) const;
  void drain();  // on the loop: the reads that waited for room in the output
  // `mutex_` held.
  void enqueue(Pending pending);
  void pop_front();
  void answer_ready(std::string reply, bool last);
  bool full() const;
  bool may_resume();
  void count_event(std::size_t bytes);
  // `mutex_` held, and the tree lock at least shared.
  void answer_read(std::int32_t xid, wire::Op op, std::string_view body);
  void answer_queued(std::size_t output_max);
  void append_reply(std::int32_t xid, std::int64_t zxid, Err err, std::string_view body);
  std::string encode_reply(std::int32_t xid, std::int64_t zxid, Err err, std::string_view body);
  bool drop();

  Core& core_;
  const std::shared_ptr<net::Stream> stream_;
  const ConnId id_;
  const std::int64_t accepted_ms_;
  std::atomic<std::int64_t> last_active_ms_;
  std::atomic<bool> connected_{false};
  std::atomic<std::int64_t> session_{0};
  std::atomic<std::uint64_t> packets_received_{0};
  std::atomic<std::uint64_t> packets_sent_{0};

  // The loop's alone.
  enum class Stage : std::uint8_t { kNew, kWaiting, kOpen, kEnding } stage_ = Stage::kNew;
  bool has_read_only_flag_ = false;
  std::optional<wire::ConnectRequest> connecting_;
  bool full_ = false;  // as of the last request
  bool turn_over_ = false;

  mutable std::mutex mutex_;
  std::string out_;
  std::deque<Pending> queue_;
  std::size_t queued_bytes_ = 0;
  std::size_t queued_reads_ = 0;
  std::size_t event_bytes_ = 0;  // in out_
  bool drain_posted_ = false;
  bool closed_ = false;    // nothing is answered any more
  bool starved_ = false;   // reading is paused until queue and output have drained
  tree::Peer peer_;        // ids grow by auth
  std::size_t ids_bytes_ = 0;
};

}  // namespace coord::runtime
