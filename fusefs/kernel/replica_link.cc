#include "fusefs/kernel/replica_link.h"

#include <memory>
#include <utility>

#include "common/base/check.h"
#include "common/base/log.h"

namespace coord::fs {
namespace {

template <class T>
T decode_record(wire::Reader& in) {
  T out;
  wire::read(in, out);
  return out;
}
int decode_byte(wire::Reader& in) { return in.i8(); }

template <class Request>
std::string encode(const Request& request) {
  std::string body;
  wire::Writer out(body);
  wire::write(out, request);
  return body;
}

// One worker waiting for one answer.
template <class T>
class Waiting {
 public:
  void set(const Answer<T>& answer) {
    const std::lock_guard lock(mutex_);
    answer_ = answer;
    done_ = true;
    changed_.notify_one();
  }
  Answer<T> wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return done_; });
    return std::move(answer_);
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  Answer<T> answer_;
  bool done_ = false;
};

// Did the replica itself answer, with whatever?
bool from_replica(Err err) {
  return err != Err::kOperationTimeout && err != Err::kConnectionLoss && err != Err::kSessionExpired;
}

client::Submit plain(Millis deadline) {
  client::Submit how;
  how.deadline = deadline;
  return how;
}

// Reads change nothing: what a broken connection has cut off is asked again at the next one, within the deadline.
client::Submit again(Millis deadline) {
  client::Submit how = plain(deadline);
  how.resend = true;
  return how;
}

}  // namespace

template <class Request, class T>
void ReplicaLink::start(wire::Op op, Request request, client::Submit how, std::function<T(wire::Reader&)> decode,
                        Done<T> done) {
  client_->submit(op, encode(request), std::move(how),
                  [decode = std::move(decode), done = std::move(done)](const client::Reply& reply) {
                    Answer<T> answer;
                    answer.err = reply.err;
                    answer.zxid = reply.zxid;
                    answer.sent = reply.sent;
                    if (answer.ok()) {
                      wire::Reader in(reply.body);
                      answer.value = decode(in);
                      if (in.failed()) answer.err = Err::kMarshallingError;
                    }
                    if (done) done(answer);
                  });
}

template <class Request, class T>
void ReplicaLink::mutate(wire::Op op, Request request, Millis deadline, bool keep_open,
                         std::function<T(wire::Reader&)> decode, Hooks<T> hooks, Done<T> done) {
  client::Submit how = plain(deadline);
  how.resend = true;
  std::unique_lock lock(seq_mutex_);
  const std::int64_t seq = seqs_.open();
  if (seq == 0) {
    lock.unlock();
    log::warn("fuse", "refused op={} reason=too_many_outstanding limit={}", static_cast<int>(op),
              wire::kAnswerWindowMax);
    Answer<T> answer;
    answer.err = Err::kOperationTimeout;
    answer.sent = false;
    if (hooks.answered) hooks.answered(answer);
    if (done) done(answer);
    return;
  }
  request.header.seq = seq;
  request.header.acked_below = seqs_.acked_below();
  if (hooks.submitted) hooks.submitted(seq);
  start<Request, T>(
      op, std::move(request), std::move(how), std::move(decode),
      [this, seq, keep_open, answered = std::move(hooks.answered), done = std::move(done)](const Answer<T>& a) {
        Answer<T> answer = a;
        answer.seq = seq;
        if (!keep_open || !answer.unknown()) {
          const std::lock_guard guard(seq_mutex_);
          seqs_.close(seq);
        }
        note_mutation(answer);
        if (answered) answered(answer);
        if (done) done(answer);
      });
}

template <class T>
void ReplicaLink::note_mutation(const Answer<T>& answer) {
  if (answer.err == Err::kOperationTimeout) {
    if (!stalled_.exchange(true))
      log::warn("fuse", "writes are refused from now on: the replica did not answer in time");
    return;
  }
  if (!from_replica(answer.err)) return;
  if (stalled_.exchange(false)) log::info("fuse", "writes pass again: the replica answered");
  if (answer.err == Err::kNoSpace) {
    if (!disk_full_.exchange(true)) log::warn("fuse", "writes are refused from now on: the replica's disk is full");
  }
}

void ReplicaLink::note_probe(Err err) {
  if (!from_replica(err)) return;
  if (stalled_.exchange(false)) log::info("fuse", "writes pass again: the replica answered");
  if (err == Err::kOk && disk_full_.exchange(false)) log::info("fuse", "writes pass again: the disk has space");
}

void ReplicaLink::on_session(client::SessionEvent event) {
  switch (event) {
    case client::SessionEvent::kConnected:
    case client::SessionEvent::kReconnected:
      if (stalled_.exchange(false)) log::info("fuse", "writes pass again: connected to a replica");
      refill();  // names can wait for their data only with ids at hand
      break;
    case client::SessionEvent::kDisconnected:
    case client::SessionEvent::kExpired:
      return;
  }
  const std::lock_guard lock(state_mutex_);
  connected_changed_.notify_all();
}

void ReplicaLink::tick() {
  if (!client_->connected()) return;
  refill();
  if ((!stalled_.load() && !disk_full_.load()) || probing_.exchange(true)) return;
  wire::CapabilitiesRequest request;
  request.reserve_ids = 1;  // a write, so its answer proves that writes pass
  capabilities_async(request, false, [this](const Answer<wire::CapabilitiesReply>& answer) {
    probing_.store(false);
    note_probe(answer.err);
  });
}

Err ReplicaLink::ready_to_write(Millis limit) {
  if (!writable()) return Err::kOperationTimeout;
  if (!client_->connected()) {
    std::unique_lock lock(state_mutex_);
    if (!connected_changed_.wait_for(lock, limit, [this] { return client_->connected(); })) {
      lock.unlock();
      if (!stalled_.exchange(true)) {
        log::warn("fuse", "writes are refused from now on: no replica; tried {}", client_->what_was_tried());
      }
      return Err::kOperationTimeout;
    }
  }
  return disk_full() ? Err::kNoSpace : Err::kOk;
}

// --- node ids ---

void ReplicaLink::refill() {
  {
    const std::lock_guard lock(id_mutex_);
    if (refilling_ || ids_ahead_.next != ids_ahead_.end) return;
    if (ids_.end - ids_.next > static_cast<std::uint64_t>(kIdLow)) return;
    refilling_ = true;
  }
  wire::CapabilitiesRequest request;
  request.reserve_ids = kIdBlock;
  capabilities_async(request, false, [this](const Answer<wire::CapabilitiesReply>& answer) {
    {
      const std::lock_guard lock(id_mutex_);
      refilling_ = false;
      if (answer.ok() && answer.value.id_count > 0) {
        ids_ahead_.next = answer.value.first_id.value;
        ids_ahead_.end = ids_ahead_.next + static_cast<std::uint64_t>(answer.value.id_count);
      }
    }
    note_probe(answer.err);
  });
}

NodeId ReplicaLink::take_id() {
  NodeId id;
  bool low = false;
  {
    const std::lock_guard lock(id_mutex_);
    if (ids_.next == ids_.end) ids_ = std::exchange(ids_ahead_, IdBlock{});
    if (ids_.next != ids_.end) id = NodeId{ids_.next++};
    low =
        ids_.end - ids_.next <= static_cast<std::uint64_t>(kIdLow) && ids_ahead_.next == ids_ahead_.end && !refilling_;
  }
  if (low && client_->connected()) refill();
  return id;
}

// --- reads ---

namespace {

template <class T>
std::pair<std::shared_ptr<Waiting<T>>, Done<T>> waiter(Hooks<T> hooks) {
  auto waiting = std::make_shared<Waiting<T>>();
  Done<T> done = [waiting, answered = std::move(hooks.answered)](const Answer<T>& answer) {
    if (answered) answered(answer);
    waiting->set(answer);
  };
  return {waiting, std::move(done)};
}

}  // namespace

Answer<wire::NodeInfo> ReplicaLink::lookup(wire::LookupRequest request, Millis deadline, NodeHooks hooks) {
  auto [waiting, done] = waiter<wire::NodeInfo>(std::move(hooks));
  lookup_async(std::move(request), deadline, std::move(done));
  return waiting->wait();
}

Answer<wire::ReadDirReply> ReplicaLink::read_dir(wire::ReadDirRequest request, Millis deadline,
                                                 Hooks<wire::ReadDirReply> hooks) {
  auto [waiting, done] = waiter<wire::ReadDirReply>(std::move(hooks));
  start<wire::ReadDirRequest, wire::ReadDirReply>(wire::Op::kReadDir, std::move(request), again(deadline),
                                                  decode_record<wire::ReadDirReply>, std::move(done));
  return waiting->wait();
}

Answer<wire::NodeInfo> ReplicaLink::read_node(wire::ReadNodeRequest request, Millis deadline, NodeHooks hooks) {
  auto [waiting, done] = waiter<wire::NodeInfo>(std::move(hooks));
  read_node_async(std::move(request), deadline, std::move(done));
  return waiting->wait();
}

void ReplicaLink::lookup_async(wire::LookupRequest request, Millis deadline, Done<wire::NodeInfo> done) {
  start<wire::LookupRequest, wire::NodeInfo>(wire::Op::kLookup, std::move(request), again(deadline),
                                             decode_record<wire::NodeInfo>, std::move(done));
}

void ReplicaLink::read_node_async(wire::ReadNodeRequest request, Millis deadline, Done<wire::NodeInfo> done) {
  start<wire::ReadNodeRequest, wire::NodeInfo>(wire::Op::kReadNode, std::move(request), again(deadline),
                                               decode_record<wire::NodeInfo>, std::move(done));
}

void ReplicaLink::forget(std::vector<NodeId> nodes) {
  wire::ForgetRequest request;
  request.nodes = std::move(nodes);
  start<wire::ForgetRequest, Nothing>(wire::Op::kForget, std::move(request), plain(kCallDeadline),
                                      [](wire::Reader&) { return Nothing{}; }, nullptr);
}

void ReplicaLink::resume_async(wire::ResumeRequest request, Done<wire::ResumeReply> done) {
  client::Submit how = plain(kCallDeadline);
  how.first = true;
  start<wire::ResumeRequest, wire::ResumeReply>(wire::Op::kResume, std::move(request), std::move(how),
                                                decode_record<wire::ResumeReply>, std::move(done));
}

void ReplicaLink::capabilities_async(wire::CapabilitiesRequest request, bool first,
                                     Done<wire::CapabilitiesReply> done) {
  client::Submit how = plain(kCallDeadline);
  how.first = first;
  start<wire::CapabilitiesRequest, wire::CapabilitiesReply>(wire::Op::kCapabilities, request, std::move(how),
                                                            decode_record<wire::CapabilitiesReply>, std::move(done));
}

wire::CapabilitiesReply ReplicaLink::facts(Millis deadline) {
  Answer<wire::CapabilitiesReply> answer;
  if (client_->connected()) {
    auto [waiting, done] = waiter<wire::CapabilitiesReply>({});
    start<wire::CapabilitiesRequest, wire::CapabilitiesReply>(wire::Op::kCapabilities, {}, plain(deadline),
                                                              decode_record<wire::CapabilitiesReply>, std::move(done));
    answer = waiting->wait();
  } else {
    answer.err = Err::kConnectionLoss;
  }
  const std::lock_guard lock(facts_mutex_);
  if (answer.ok()) facts_ = answer.value;
  return facts_;
}

// --- mutations ---

Answer<wire::NodeInfo> ReplicaLink::create(wire::CreateNodeRequest request, Millis deadline, NodeHooks hooks) {
  auto [waiting, done] = waiter<wire::NodeInfo>({});
  mutate<wire::CreateNodeRequest, wire::NodeInfo>(wire::Op::kCreateNode, std::move(request), deadline, false,
                                                  decode_record<wire::NodeInfo>, std::move(hooks), std::move(done));
  return waiting->wait();
}

Answer<wire::NodeInfo> ReplicaLink::create_to_settle(wire::CreateNodeRequest request, Millis deadline,
                                                     NodeHooks hooks) {
  auto [waiting, done] = waiter<wire::NodeInfo>({});
  mutate<wire::CreateNodeRequest, wire::NodeInfo>(wire::Op::kCreateNode, std::move(request), deadline, true,
                                                  decode_record<wire::NodeInfo>, std::move(hooks), std::move(done));
  return waiting->wait();
}

void ReplicaLink::settle_create(wire::CreateNodeRequest request, std::int64_t seq, Done<wire::NodeInfo> done) {
  client::Submit how = plain(kBackgroundDeadline);
  how.resend = true;
  request.header.seq = seq;
  const std::lock_guard lock(seq_mutex_);
  request.header.acked_below = seqs_.acked_below();
  wire::CreateNodeRequest again = request;
  start<wire::CreateNodeRequest, wire::NodeInfo>(
      wire::Op::kCreateNode, std::move(request), std::move(how), decode_record<wire::NodeInfo>,
      [this, seq, again = std::move(again), done = std::move(done)](const Answer<wire::NodeInfo>& answer) {
        if (answer.err == Err::kOperationTimeout) {
          settle_create(again, seq, done);  // still not known; a lost session ends this with kSessionExpired
          return;
        }
        {
          const std::lock_guard guard(seq_mutex_);
          seqs_.close(seq);
        }
        note_mutation(answer);
        if (done) done(answer);
      });
}

Answer<wire::NodeInfo> ReplicaLink::set_data(wire::SetNodeDataRequest request, Millis deadline, NodeHooks hooks) {
  auto [waiting, done] = waiter<wire::NodeInfo>({});
  mutate<wire::SetNodeDataRequest, wire::NodeInfo>(wire::Op::kSetNodeData, std::move(request), deadline, false,
                                                   decode_record<wire::NodeInfo>, std::move(hooks), std::move(done));
  return waiting->wait();
}

Answer<wire::NodeInfo> ReplicaLink::set_attributes(wire::SetAttributesRequest request, Millis deadline,
                                                   NodeHooks hooks) {
  auto [waiting, done] = waiter<wire::NodeInfo>({});
  mutate<wire::SetAttributesRequest, wire::NodeInfo>(wire::Op::kSetAttributes, std::move(request), deadline, false,
                                                     decode_record<wire::NodeInfo>, std::move(hooks), std::move(done));
  return waiting->wait();
}

Answer<wire::NodeInfo> ReplicaLink::rename(wire::RenameRequest request, Millis deadline, NodeHooks hooks) {
  auto [waiting, done] = waiter<wire::NodeInfo>({});
  mutate<wire::RenameRequest, wire::NodeInfo>(wire::Op::kRename, std::move(request), deadline, false,
                                              decode_record<wire::NodeInfo>, std::move(hooks), std::move(done));
  return waiting->wait();
}

Answer<int> ReplicaLink::remove(wire::DeleteNodeRequest request, Millis deadline, Hooks<int> hooks) {
  auto [waiting, done] = waiter<int>({});
  mutate<wire::DeleteNodeRequest, int>(wire::Op::kDeleteNode, std::move(request), deadline, false, decode_byte,
                                       std::move(hooks), std::move(done));
  return waiting->wait();
}

void ReplicaLink::remove_async(wire::DeleteNodeRequest request, Millis deadline, Hooks<int> hooks) {
  mutate<wire::DeleteNodeRequest, int>(wire::Op::kDeleteNode, std::move(request), deadline, false, decode_byte,
                                       std::move(hooks), nullptr);
}

}  // namespace coord::fs
