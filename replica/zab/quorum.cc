#include "replica/zab/quorum.h"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <vector>

#include "replica/zab/mutation.h"

namespace coord::zab {

namespace {

bool is_majority(const std::set<Sid>& members, const std::set<Sid>& voters) {
  std::size_t present = 0;
  const bool anybody = COORD_MUTANT(kObserverCounted) || COORD_MUTANT(kGuestCounted);
  for (const Sid sid : members) present += voters.contains(sid) || anybody ? 1U : 0U;
  if (COORD_MUTANT(kQuorumMinusOne) && voters.size() > 1) ++present;
  return 2 * present > voters.size();
}

// What a majority of the voters has reached.
Zxid majority_position(const std::map<Sid, Zxid>& up_to, const std::set<Sid>& voters) {
  // A voter that acknowledged nothing stands at 0. In descending order, the smallest majority ends at index n / 2.
  std::vector<Zxid> positions;
  positions.reserve(voters.size());
  for (const Sid sid : voters) {
    const auto it = up_to.find(sid);
    positions.push_back(it == up_to.end() ? Zxid{} : it->second);
  }
  for (const auto& [sid, position] : up_to) {
    if (COORD_MUTANT(kGuestCounted) && !voters.contains(sid)) positions.push_back(position);
  }
  if (positions.empty()) return Zxid{};
  std::size_t middle_index = voters.size() / 2;
  if (COORD_MUTANT(kQuorumMinusOne) && positions.size() > 1) --middle_index;
  const auto middle = positions.begin() + static_cast<std::ptrdiff_t>(middle_index);
  std::nth_element(positions.begin(), middle, positions.end(), std::greater<>{});
  return *middle;
}

}  // namespace

std::set<Sid> Quorum::voters() const {
  std::set<Sid> all = voters_;
  if (new_voters_) all.insert(new_voters_->begin(), new_voters_->end());
  return all;
}

bool Quorum::is_quorum(const std::set<Sid>& members) const {
  if (new_voters_ && COORD_MUTANT(kNewQuorumOnly)) return is_majority(members, *new_voters_);
  if (!is_majority(members, voters_)) return false;
  return !new_voters_ || COORD_MUTANT(kOldQuorumOnly) || is_majority(members, *new_voters_);
}

void Acks::acknowledge(Sid sid, Zxid up_to) {
  Zxid& position = up_to_[sid];
  position = std::max(position, up_to);
}

Zxid Acks::committed(const Quorum& quorum) const {
  const Zxid in_old = majority_position(up_to_, quorum.voters_);
  if (!quorum.new_voters_ || COORD_MUTANT(kOldQuorumOnly)) return in_old;
  const Zxid in_new = majority_position(up_to_, *quorum.new_voters_);
  return COORD_MUTANT(kNewQuorumOnly) ? in_new : std::min(in_old, in_new);
}

}  // namespace coord::zab
