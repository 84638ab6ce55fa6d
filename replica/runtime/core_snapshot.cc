// Whole trees on the wire: sending one to a learner while writes go on, receiving one, and loading what was installed.
#include <algorithm>
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

}  // namespace

void Core::send_snapshot(zab::LinkId link, const zab::Membership& membership) {
  Sending& sending = sending_[link];
  sending = Sending{store_->open_snapshot(), 0, false, false};
  const auto known = known_links_.find(link);
  log::info("sync", "sending a snapshot to={} zxid={} bytes={}",
            known == known_links_.end() ? 0 : known->second.peer.value, to_string(sending.source->zxid()),
            sending.source->bytes());
  links_.send(link, zab::SnapshotBegin{sending.source->zxid(), sending.source->bytes(), membership});
  pump_snapshot(link);
}

// Until the link has enough (it calls writable then) or the turn has.
void Core::pump_snapshot(zab::LinkId link) {
  const auto at = sending_.find(link);
  if (at == sending_.end() || at->second.ended || at->second.posted) return;
  Sending& sending = at->second;
  for (int n = 0; n < kChunksPerTurn; ++n) {
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
      step(zab::SnapshotSent{link, sending.source->zxid()});
      return;  // the source is kept: until the learner serves, it may need the log behind it
    }
    ++sending.chunks;
    if (!links_.send(link, zab::SnapshotChunk{std::move(*piece)})) return;
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
