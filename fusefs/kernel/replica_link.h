// What the mount asks of its replica: the extension operations as typed calls over client::Client, for worker threads
// that wait and for callers that do not; sequence numbers of mutations, node ids taken ahead, and what is known about
// whether a write can pass at all (filesystem.md sections 4 and 7).
//
// Exactly once: every mutation gets its own sequence number and is sent again over reconnects until it has an answer,
// its deadline passes or the session ends. Err::kOperationTimeout with `sent` means: the outcome is unknown. Ask for it
// with settle_create(), where an unknown success must be undone.
//
// Threading: every function from any thread, but a waiting one never from the client's I/O thread. Hooks and
// asynchronous completions run on the I/O thread, in stream order, `answered` before the waiting worker wakes; they
// must not block.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "common/client/client.h"
#include "common/wire/extension.h"
#include "fusefs/ops/seq_window.h"

namespace coord::fs {

using Millis = std::chrono::milliseconds;

// How long a call may take (filesystem.md section 4): one that holds a directory's lock in the kernel, any other one,
// and work in the background that nobody waits for.
inline constexpr Millis kDirectoryDeadline{2000};
inline constexpr Millis kCallDeadline{5000};
inline constexpr Millis kBackgroundDeadline{600'000};

inline constexpr std::int32_t kIdBlock = 4096;     // node ids taken at once
inline constexpr std::int32_t kIdLow = 2048;       // fewer than that left: the next block is asked for
inline constexpr Millis kProbeInterval{500};       // between probes while writes are refused early

template <class T>
struct Answer {
  Err err = Err::kOk;
  std::int64_t zxid = 0;
  std::int64_t seq = 0;  // of a mutation
  bool sent = true;      // false: the request was never written to a connection, so nothing has happened
  T value{};
  bool ok() const { return err == Err::kOk; }
  bool unknown() const {
    return sent && (err == Err::kOperationTimeout || err == Err::kConnectionLoss);
  }
};
struct Nothing {};

template <class T>
struct Hooks {
  // Before the request is on its way, on the caller's thread: its number, so that the change event that comes back
  // ahead of the answer is known. Must not call the link.
  std::function<void(std::int64_t seq)> submitted;
  std::function<void(const Answer<T>&)> answered;  // I/O thread
};
using NodeHooks = Hooks<wire::NodeInfo>;
template <class T>
using Done = std::function<void(const Answer<T>&)>;

class ReplicaLink {
 public:
  ReplicaLink() = default;
  ReplicaLink(const ReplicaLink&) = delete;
  ReplicaLink& operator=(const ReplicaLink&) = delete;

  // Before any other call; the client outlives every call.
  void attach(client::Client& client) { client_ = &client; }
  client::Client& client() const { return *client_; }
  // From client::Options::on_session.
  void on_session(client::SessionEvent event);
  // About every kProbeInterval, from a background thread: asks for node ids ahead of need and, while writes are refused
  // early, whether they pass again. Never waits.
  void tick();

  // --- reads ---
  Answer<wire::NodeInfo> lookup(wire::LookupRequest request, Millis deadline, NodeHooks hooks = {});
  Answer<wire::ReadDirReply> read_dir(wire::ReadDirRequest request, Millis deadline,
                                      Hooks<wire::ReadDirReply> hooks = {});
  Answer<wire::NodeInfo> read_node(wire::ReadNodeRequest request, Millis deadline, NodeHooks hooks = {});
  void lookup_async(wire::LookupRequest request, Millis deadline, Done<wire::NodeInfo> done);
  void read_node_async(wire::ReadNodeRequest request, Millis deadline, Done<wire::NodeInfo> done);
  void forget(std::vector<NodeId> nodes);  // no answer awaited; lost with the connection, as the holds are
  // Passes hold_after_connect.
  void resume_async(wire::ResumeRequest request, Done<wire::ResumeReply> done);
  void capabilities_async(wire::CapabilitiesRequest request, bool first, Done<wire::CapabilitiesReply> done);

  // Waits; what was known last if the replica does not answer in time (zeros if it never did).
  wire::CapabilitiesReply facts(Millis deadline);

  // --- mutations: header.seq and header.acked_below are filled in here, header.who is the caller's ---
  Answer<wire::NodeInfo> create(wire::CreateNodeRequest request, Millis deadline, NodeHooks hooks = {});
  Answer<wire::NodeInfo> set_data(wire::SetNodeDataRequest request, Millis deadline, NodeHooks hooks = {});
  Answer<wire::NodeInfo> set_attributes(wire::SetAttributesRequest request, Millis deadline, NodeHooks hooks = {});
  Answer<wire::NodeInfo> rename(wire::RenameRequest request, Millis deadline, NodeHooks hooks = {});
  // `value`: 0 nothing, 1 the znode went, 2 its data became null.
  Answer<int> remove(wire::DeleteNodeRequest request, Millis deadline, Hooks<int> hooks = {});
  void remove_async(wire::DeleteNodeRequest request, Millis deadline, Hooks<int> hooks);

  // A create() whose outcome was unknown, until it is known (or the session is gone): the same request under the same
  // number again, so the replica answers what it did, or does it now. The number stays open until then.
  void settle_create(wire::CreateNodeRequest request, std::int64_t seq, Done<wire::NodeInfo> done);
  // create() as above, but an unknown outcome leaves the number open: exactly one settle_create() must follow.
  Answer<wire::NodeInfo> create_to_settle(wire::CreateNodeRequest request, Millis deadline, NodeHooks hooks = {});

  // --- what is known about writing ---
  bool writable() const { return !stalled_.load(std::memory_order_relaxed); }
  bool disk_full() const { return disk_full_.load(std::memory_order_relaxed); }
  // Err::kOk when a write may be tried now. Waits up to `limit` for a connection that is away; when none comes,
  // writes are refused from then on until the replica answers. kOperationTimeout (no quorum), kNoSpace.
  Err ready_to_write(Millis limit);
  // A node id that nobody else will ever use; 0 when none is at hand.
  NodeId take_id();
  SessionId session() const { return SessionId{client_ == nullptr ? 0 : client_->session()}; }

 private:
  template <class Request, class T>
  void start(wire::Op op, Request request, client::Submit how, std::function<T(wire::Reader&)> decode, Done<T> done);
  template <class Request, class T>
  void mutate(wire::Op op, Request request, Millis deadline, bool keep_open, std::function<T(wire::Reader&)> decode,
              Hooks<T> hooks, Done<T> done);
  template <class T>
  void note_mutation(const Answer<T>& answer);
  void note_probe(Err err);
  void refill();

  client::Client* client_ = nullptr;
  std::atomic<bool> stalled_{false};    // a write got no answer in time; early refusal
  std::atomic<bool> disk_full_{false};  // the last write was refused for want of space

  // Numbers go out in their order: numbering and submitting are one step. Recursive, for a client that completes a
  // request within submit().
  std::recursive_mutex seq_mutex_;
  SeqWindow seqs_{static_cast<std::int64_t>(wire::kAnswerWindowMax)};

  std::mutex facts_mutex_;
  wire::CapabilitiesReply facts_;

  std::mutex state_mutex_;
  std::condition_variable connected_changed_;

  struct IdBlock {
    std::uint64_t next = 0;
    std::uint64_t end = 0;
  };
  std::mutex id_mutex_;
  IdBlock ids_;
  IdBlock ids_ahead_;
  bool refilling_ = false;
  std::atomic<bool> probing_{false};
};

}  // namespace coord::fs
