#include "tests/sim/replica/book.h"

#include <algorithm>

namespace coord::sim {

void Book::appended(const store::LogEntry& entry) {
  const auto [at, is_new] = entries_.try_emplace(entry.zxid, entry);
  if (is_new) return;
  if (at->second.previous != entry.previous || *at->second.payload != *entry.payload) {
    wrong_(4, to_string(entry.zxid) + " is appended with another content or place than before");
  }
}

std::vector<store::LogEntry> Book::history(Zxid last) const {
  std::vector<store::LogEntry> chain;
  while (last != Zxid{}) {
    const auto at = entries_.find(last);
    if (at == entries_.end()) {
      wrong_(11, "nobody ever appended " + to_string(last) + ", which is in the history");
      return chain;
    }
    chain.push_back(at->second);
    last = at->second.previous;
  }
  std::reverse(chain.begin(), chain.end());
  return chain;
}

}  // namespace coord::sim
