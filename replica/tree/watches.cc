#include "replica/tree/watches.h"

#include <algorithm>
#include <bit>

#include "common/base/check.h"
#include "common/model/path.h"

namespace coord::tree {
namespace {

std::size_t bits(std::uint8_t modes) { return static_cast<std::size_t>(std::popcount(modes)); }

template <class Watchers>
auto position(Watchers& watchers, ConnId conn) {
  return std::lower_bound(watchers.begin(), watchers.end(), conn,
                          [](const auto& watcher, ConnId wanted) { return watcher.conn < wanted; });
}

}  // namespace

void Watches::connection_opened(ConnId conn, const std::vector<AuthId>& ids) {
  const std::lock_guard lock(mutex_);
  connections_[conn].ids = ids;
}

void Watches::connection_closed(ConnId conn) {
  const std::lock_guard lock(mutex_);
  const auto at = connections_.find(conn);
  if (at == connections_.end()) return;
  for (const WatchTable table : {WatchTable::kData, WatchTable::kChild}) {
    Paths& paths = paths_[index(table)];
    auto& mine = at->second.paths[index(table)];
    while (!mine.empty()) {
      const auto path = paths.find(**mine.begin());
      COORD_CHECK(path != paths.end());
      set_modes(table, path, position(path->second, conn), 0);  // takes the path out of `mine`
    }
  }
  connections_.erase(at);
}

// The one place that changes a watcher: keeps counters and the connection's own list right. 0 removes it, and the path
// with its last watcher.
void Watches::set_modes(WatchTable table, Paths::iterator at, std::vector<Watcher>::iterator watcher,
                        std::uint8_t modes) {
  counts_[index(table)] += bits(modes) - bits(watcher->modes);
  recursive_ += bits(modes & watch_mode::kRecursive) - bits(watcher->modes & watch_mode::kRecursive);
  watcher->modes = modes;
  if (modes != 0) return;
  connections_.at(watcher->conn).paths[index(table)].erase(&at->first);
  at->second.erase(watcher);
  if (at->second.empty()) paths_[index(table)].erase(at);
}

void Watches::arm(ConnId conn, WatchTable table, std::string_view path, std::uint8_t mode) {
  const std::lock_guard lock(mutex_);
  const auto connection = connections_.find(conn);
  if (connection == connections_.end()) return;
  Paths& paths = paths_[index(table)];
  auto at = paths.find(path);
  if (at == paths.end()) at = paths.emplace(std::string(path), std::vector<Watcher>()).first;
  auto watcher = position(at->second, conn);
  if (watcher == at->second.end() || watcher->conn != conn) {
    watcher = at->second.insert(watcher, Watcher{conn, 0});
    connection->second.paths[index(table)].insert(&at->first);
  }
  set_modes(table, at, watcher, watcher->modes | mode);
}

bool Watches::disarm(ConnId conn, WatchTable table, std::string_view path, std::uint8_t modes) {
  const std::lock_guard lock(mutex_);
  const auto at = paths_[index(table)].find(path);
  if (at == paths_[index(table)].end()) return false;
  const auto watcher = position(at->second, conn);
  if (watcher == at->second.end() || watcher->conn != conn || (watcher->modes & modes) == 0) return false;
  set_modes(table, at, watcher, static_cast<std::uint8_t>(watcher->modes & ~modes));
  return true;
}

bool Watches::armed(ConnId conn, WatchTable table, std::string_view path, std::uint8_t modes) const {
  const std::lock_guard lock(mutex_);
  const auto at = paths_[index(table)].find(path);
  if (at == paths_[index(table)].end()) return false;
  const auto watcher = position(at->second, conn);
  return watcher != at->second.end() && watcher->conn == conn && (watcher->modes & modes) != 0;
}

void Watches::fire_at(WatchTable table, std::string_view path, std::uint8_t modes, std::vector<ConnId>& hit) {
  Paths& paths = paths_[index(table)];
  const auto at = paths.find(path);
  if (at == paths.end()) return;
  // Backwards, because a used-up watcher goes away under the iteration, and with the last one the whole path.
  for (std::size_t i = at->second.size(); i-- > 0;) {
    const auto watcher = at->second.begin() + static_cast<std::ptrdiff_t>(i);
    if ((watcher->modes & modes) == 0) continue;
    hit.push_back(watcher->conn);
    if ((modes & watch_mode::kStandard) != 0 && (watcher->modes & watch_mode::kStandard) != 0) {
      set_modes(table, at, watcher, static_cast<std::uint8_t>(watcher->modes & ~watch_mode::kStandard));
    }
  }
}

void Watches::fire(WatchTable table, std::string_view path, const Filter& allowed, const std::vector<ConnId>& skip,
                   std::vector<ConnId>& told) {
  if (idle(table)) return;
  const std::lock_guard lock(mutex_);
  std::vector<ConnId> hit;
  fire_at(table, path, watch_mode::kAny, hit);
  if (table == WatchTable::kData && recursive_ > 0) {
    for (std::string_view above = path; above != "/";) {
      above = parent_path(above);
      fire_at(table, above, watch_mode::kRecursive, hit);
    }
  }
  std::sort(hit.begin(), hit.end());
  hit.erase(std::unique(hit.begin(), hit.end()), hit.end());
  for (const ConnId conn : hit) {
    if (std::binary_search(skip.begin(), skip.end(), conn)) continue;
    if (allowed && !allowed(connections_.at(conn).ids)) continue;
    told.push_back(conn);
  }
}

std::size_t Watches::count() const { return counts_[0].load() + counts_[1].load(); }

}  // namespace coord::tree
