// Whole trees on the wire: sending one to a learner while writes go on, receiving one, and loading what was installed.
#include <algorithm>
#include <limits>
#include <memory>
#include <mutex>
#include <utility>

#include "common/base/check.h"
#include "common/base/log.h"
#include "replica/runtime/core.h"

namespace coord::runtime {
namespace {

constexpr std::size_t kChunkBytes = 256u << 10;
constexpr int kChunksPerTurn = 2;  // then others get their turn
constexpr std::int64_t kNoLimit = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kPaidAtMost = 100;  // ms: after a pause there is no burst
constexpr std::int64_t kIdle = 500;        // ms without writes: longer than a slow flush makes them wait

}  // namespace

void Core::send_snapshot(const zab::SendSnapshot& send) {
  const zab::LinkId link = send.link;
  Sending& sending = sending_[link];
  sending = Sending{};
  sending.source = store_->open_snapshot();
  sending.credit = send.hurry ? kNoLimit : static_cast<std::int64_t>(kChunkBytes);
  sending.hurry = send.hurry;
  const auto known = known_links_.find(link);
  log::info("sync", "sending a snapshot to={} zxid={} bytes={}",
            known == known_links_.end() ? 0 : known->second.peer.value, to_string(sending.source->zxid()),
            sending.source->bytes());
  links_.send(link, zab::SnapshotBegin{sending.source->zxid(), sending.source->bytes(), send.membership});
  pump_snapshot(link);
}

// A snapshot reads and writes all the tree, and shares processors and disks with the writes of the ensemble: it gets a
// rate as long as there are some, and everything else when there are none, or none can be taken before it has arrived.
void Core::pay_snapshots(std::int64_t passed_ms) {
  if (sending_.empty()) return;
  if (applied_total_ != applied_at_last_tick_ || !outstanding_.empty()) idle_ms_ = 0;
  idle_ms_ += passed_ms;
  const bool limited =
      config_.snapshot_rate > 0 && idle_ms_ < kIdle && serving_ && !store_->space().refuse_writes;
  const auto rate = static_cast<std::int64_t>(config_.snapshot_rate);
  std::vector<zab::LinkId> links;
  for (auto& [link, sending] : sending_) {
    const std::int64_t before = sending.credit == kNoLimit ? 0 : std::min<std::int64_t>(sending.credit, 0);
    sending.credit = limited && !sending.hurry ? before + rate * std::min(passed_ms, kPaidAtMost) / 1000 : kNoLimit;
    links.push_back(link);
  }
  for (const zab::LinkId link : links) pump_snapshot(link);
}

// Until the link has enough (it calls writable then), the turn has, or what may go before the next tick is gone.
void Core::pump_snapshot(zab::LinkId link) {
  const auto at = sending_.find(link);
  if (at == sending_.end() || at->second.ended || at->second.posted || at->second.full) return;
  Sending& sending = at->second;
  for (int n = 0; n < kChunksPerTurn; ++n) {
    if (sending.credit <= 0) return;
    auto piece = sending.source->next(kChunkBytes);
    if (!piece) {
      // The next start of this replica finds the same damage and mends it.
      alarm("a snapshot for another replica cannot be read: " + piece.error().message);
      close_link(link, "the snapshot cannot be read");
      return;
    }
    if (piece->empty()) {
      links_.send(link, zab::SnapshotEnd{sending.chunks});
      sending.ended = true;
      ++snapshots_sent_;
      step(zab::SnapshotSent{link, sending.source->zxid()});
      return;  // the source is kept: until the learner serves, it may need the log behind it
    }
    ++sending.chunks;
    if (sending.credit != kNoLimit) sending.credit -= static_cast<std::int64_t>(piece->size());
    if (!links_.send(link, zab::SnapshotChunk{std::move(*piece)})) {
      sending.full = true;
      return;
    }
  }
  sending.posted = true;
  executor_.post([this, link] {
    const auto found = sending_.find(link);
    if (found == sending_.end()) return;
    found->second.posted = false;
    pump_snapshot(link);
    turn_done();
  });
}

void Core::receive_snapshot(const zab::ReceiveSnapshot& receive) {
  if (batch_filled_) send_batch();  // in order with what is to be persisted before
  if (const auto* begin = std::get_if<zab::SnapshotBegin>(&receive.part)) {
    log::info("sync", "receiving a snapshot zxid={} bytes={}", to_string(begin->zxid), begin->bytes);
    receiving_chunks_ = 0;
    store_->snapshot_begin(begin->zxid);
  } else if (const auto* chunk = std::get_if<zab::SnapshotChunk>(&receive.part)) {
    ++receiving_chunks_;
    store_->snapshot_piece(chunk->bytes);
  } else if (std::get<zab::SnapshotEnd>(receive.part).chunks != receiving_chunks_) {
    store_->snapshot_drop();
    step(zab::SnapshotStaged{receive.link, Zxid()});
  } else {
    store_->snapshot_end([this, link = receive.link](Zxid zxid) {
      executor_.post([this, link, zxid] {
        log::info("sync", "the snapshot is staged zxid={}", to_string(zxid));
        step(zab::SnapshotStaged{link, zxid});
        turn_done();
      });
    });
  }
}

// The installed tree is read back beside the core thread: pings go on, deliveries wait.
void Core::reload(Zxid zxid) {
  COORD_CHECK_MSG(replacing_tree(), "a tree is to be loaded that was not installed");
  if (loading_) {
    if (load_again_ != Zxid()) --replacing_;
    load_again_ = zxid;
    return;
  }
  loading_ = true;
  auto work = [this, zxid] {
    auto fresh = std::make_shared<std::unique_ptr<tree::StateMachine>>(
        std::make_unique<tree::StateMachine>(limits_of(config_)));
    const auto loaded = load_tree(**fresh, zxid);
    COORD_CHECK_MSG(loaded, loaded.error().message.c_str());
    executor_.post([this, fresh, zxid] { reloaded(std::move(*fresh), zxid); });
  };
  if (environment_.aside) {
    environment_.aside->run(std::move(work));
  } else {
    work();
  }
}

void Core::reloaded(std::unique_ptr<tree::StateMachine> fresh, Zxid zxid) {
  loading_ = false;
  if (--replacing_ > 0) {  // a newer one has taken its place
    if (load_again_ != Zxid()) reload(std::exchange(load_again_, Zxid()));
    return;
  }
  log::info("sync", "loaded the snapshot nodes={} sessions={} zxid={}", fresh->node_count(), fresh->sessions().size(),
            to_string(zxid));
  {
    const std::lock_guard<TreeLock> lock(tree_lock_);
    tree_.swap(fresh);
  }
  // A large tree takes a while to go.
  if (environment_.aside) environment_.aside->run([old = std::shared_ptr<tree::StateMachine>(std::move(fresh))] {});
  hinted_ = folded_ = zxid;
  applied_since_fold_ = 0;
  digests_.clear();
  look_at_disk();
  while (!outstanding_.empty() && outstanding_.front().zxid <= zxid) outstanding_.pop_front();
  members_applied();
  deliver(deliver_to_);
  turn_done();
}

}  // namespace coord::runtime
