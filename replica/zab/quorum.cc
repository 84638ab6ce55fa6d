#include "replica/zab/quorum.h"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <vector>

#include "replica/zab/mutation.h"

namespace coord::zab {

bool Quorum::is_quorum(const std::set<Sid>& members) const {
  std::size_t present = 0;
  for (const Sid sid : members) present += is_voter(sid) || COORD_MUTANT(kObserverCounted) ? 1U : 0U;
  if (COORD_MUTANT(kQuorumMinusOne) && voters_.size() > 1) ++present;
  return 2 * present > voters_.size();
}

void Acks::acknowledge(Sid sid, Zxid up_to) {
  Zxid& position = up_to_[sid];
  position = std::max(position, up_to);
}

Zxid Acks::committed(const Quorum& quorum) const {
  // A voter that acknowledged nothing stands at 0. In descending order, the smallest majority ends at index n / 2.
  std::vector<Zxid> positions;
  positions.reserve(quorum.voters().size());
  for (const Sid sid : quorum.voters()) {
    const auto it = up_to_.find(sid);
    positions.push_back(it == up_to_.end() ? Zxid{} : it->second);
  }
  if (positions.empty()) return Zxid{};
  std::size_t middle_index = positions.size() / 2;
  if (COORD_MUTANT(kQuorumMinusOne) && positions.size() > 1) --middle_index;
  const auto middle = positions.begin() + static_cast<std::ptrdiff_t>(middle_index);
  std::nth_element(positions.begin(), middle, positions.end(), std::greater<>{});
  return *middle;
}

}  // namespace coord::zab
