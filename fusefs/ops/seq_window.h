// The sequence numbers of a mount's mutations (wire::MutationHeader): ascending, and which is the lowest that still
// waits for its answer. Pure; the caller serialises.
//
// Numbers are never used again, also not in a later session: a request that was numbered just before the session was
// lost may be sent in the next one, and must not meet the answer of somebody else there.
#pragma once

#include <cstdint>
#include <set>

#include "common/base/check.h"

namespace coord::fs {

class SeqWindow {
 public:
  // `span_max`: how far the newest number may be ahead of the oldest open one (wire::kAnswerWindowMax).
  explicit SeqWindow(std::int64_t span_max) : span_max_(span_max) {}

  // The next number; 0 when the window is full. It is open until close().
  std::int64_t open() {
    if (!open_.empty() && next_ - *open_.begin() >= span_max_) return 0;
    open_.insert(open_.end(), next_);
    return next_++;
  }
  // Its answer is here, or nobody will ask for it any more.
  void close(std::int64_t seq) { COORD_CHECK(open_.erase(seq) == 1); }

  // MutationHeader.acked_below: all below it are answered.
  std::int64_t acked_below() const { return open_.empty() ? next_ : *open_.begin(); }
  std::size_t outstanding() const { return open_.size(); }

 private:
  std::int64_t span_max_;
  std::int64_t next_ = 1;
  std::set<std::int64_t> open_;
};

}  // namespace coord::fs
