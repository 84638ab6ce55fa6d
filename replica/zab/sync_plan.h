// How a learner's log becomes equal to the leader's: by entries behind the highest common point (whatever the learner
// has beyond is cut off there), by a snapshot, or not at all. Pure.
//
// Source: zab.md section 3.3.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/model/ids.h"
#include "replica/zab/history.h"

namespace coord::zab {

enum class SyncKind : std::uint8_t { kDiff, kSnapshot, kDiverged };

struct SyncPlan {
  SyncKind kind = SyncKind::kDiff;
  Zxid point;  // where the learner's log ends first; then come the entries above. kSnapshot: the common point, or 0
};

// `applied`: what the learner must never lose. `tree`: what a snapshot covers at most; one that reaches no further than
// the common point would be in vain. The size of a DIFF is estimated: the number of entries is known exactly
// from the shape, their size is taken to be `average_bytes`. The leader measures while it sends, and changes to a
// snapshot should the estimate have been too low.
SyncPlan plan_sync(const LogShape& leader, const LogShape& learner, Zxid applied, Zxid tree,
                   std::size_t average_bytes, std::size_t diff_bytes);

}  // namespace coord::zab
