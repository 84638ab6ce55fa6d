#include "replica/zab/history.h"

#include <algorithm>

#include "common/base/check.h"

namespace coord::zab {

namespace {

// The end of zxid's epoch in the log, or of the next epoch that is in it.
auto end_of_epoch(const std::vector<Zxid>& ends, Zxid zxid) {
  return std::lower_bound(ends.begin(), ends.end(), zxid,
                          [](Zxid end, Zxid wanted) { return end.epoch() < wanted.epoch(); });
}

}  // namespace

bool follows(Zxid previous, Zxid next) {
  if (previous.epoch() == next.epoch()) return previous.counter() < 0xffffffff && next.value == previous.value + 1;
  return next.epoch() > previous.epoch() && next.counter() == 1;
}

bool LogShape::has_point(Zxid zxid) const {
  if (zxid <= floor) return zxid == floor;
  const auto end = end_of_epoch(epoch_ends, zxid);
  return end != epoch_ends.end() && end->epoch() == zxid.epoch() && zxid <= *end && zxid.counter() >= 1;
}

void LogShape::append(Zxid zxid) {
  COORD_CHECK_MSG(follows(last(), zxid), "an entry that does not follow the log's last");
  if (!epoch_ends.empty() && epoch_ends.back().epoch() == zxid.epoch()) {
    epoch_ends.back() = zxid;
  } else {
    epoch_ends.push_back(zxid);
  }
}

void LogShape::truncate_after(Zxid zxid) {
  COORD_CHECK_MSG(has_point(zxid), "a log is cut at a point of it");
  while (!epoch_ends.empty() && epoch_ends.back() > zxid) epoch_ends.pop_back();
  if (last() != zxid) epoch_ends.push_back(zxid);
}

bool well_formed(const LogShape& shape) {
  Zxid before = shape.floor;
  for (const Zxid& end : shape.epoch_ends) {
    const bool first = &end == shape.epoch_ends.data();
    if (end <= before || end.counter() == 0 || (!first && end.epoch() == before.epoch())) return false;
    before = end;
  }
  return true;
}

Zxid point_before(const LogShape& shape, Zxid zxid) {
  COORD_CHECK(zxid > shape.floor && shape.has_point(zxid));
  if (zxid.counter() > 1) return Zxid{zxid.value - 1};
  const auto end = end_of_epoch(shape.epoch_ends, zxid);
  return end == shape.epoch_ends.begin() ? shape.floor : *std::prev(end);
}

std::uint64_t entries_above(const LogShape& shape, Zxid after) {
  std::uint64_t count = 0;
  Zxid before = std::max(after, shape.floor);
  for (const Zxid end : shape.epoch_ends) {
    if (end <= before) continue;
    count += end.epoch() == before.epoch() ? end.counter() - before.counter() : end.counter();
    before = end;
  }
  return count;
}

// The highest shared point ends an epoch in one of the two logs: were it inside the epoch in both, both would have its
// successor too. So the ends and floors are the only candidates.
std::optional<Zxid> common_point(const LogShape& a, const LogShape& b) {
  std::optional<Zxid> best;
  const auto consider = [&](Zxid candidate) {
    if ((!best || candidate > *best) && a.has_point(candidate) && b.has_point(candidate)) best = candidate;
  };
  for (const LogShape* shape : {&a, &b}) {
    consider(shape->floor);
    for (const Zxid end : shape->epoch_ends) consider(end);
  }
  return best;
}

}  // namespace coord::zab
