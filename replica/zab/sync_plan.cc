#include "replica/zab/sync_plan.h"

#include <optional>

#include "replica/zab/mutation.h"

namespace coord::zab {

SyncPlan plan_sync(const LogShape& leader, const LogShape& learner, Zxid applied, Zxid tree,
                   std::size_t average_bytes, std::size_t diff_bytes) {
  // It applied something that is not in this history: a committed transaction would be undone. Never repaired silently.
  if (applied >= leader.floor && !leader.has_point(applied)) return {SyncKind::kDiverged, applied};
  const std::optional<Zxid> common = common_point(leader, learner);
  // Nothing to compare with is left here: purged.
  if (!common) return {SyncKind::kSnapshot, Zxid{}};
  // A point of both logs below what it applied: its report contradicts itself, or its log lost something.
  if (*common < applied) return {SyncKind::kDiverged, applied};
  const std::uint64_t count = entries_above(leader, *common);
  if (tree > *common && average_bytes > 0 && count > diff_bytes / average_bytes) return {SyncKind::kSnapshot, *common};
  if (COORD_MUTANT(kTruncateBelowDelivered) && *common > leader.floor) {
    return {SyncKind::kDiff, point_before(leader, *common)};
  }
  return {SyncKind::kDiff, *common};
}

}  // namespace coord::zab
