// Which watches the server should hold for this session, to register them again on a new connection: watches belong to
// connections (client-protocol.md section 2.8). Pure; no internal locking.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/model/records.h"
#include "common/wire/protocol.h"

namespace coord::client {

class WatchRegistry {
 public:
  // kExist: armed by exists on a node that is missing. kPersistent and kRecursive stay until removed.
  enum class Kind : std::uint8_t { kData, kExist, kChild, kPersistent, kRecursive };
  static constexpr int kKinds = 5;

  void add(Kind kind, std::string_view path);
  // What the server's event used up: one-shot watches of its path.
  void fired(const wire::WatcherEvent& event);
  // removeWatches with this type number (1 children, 2 data, 3 any, 4 persistent, 5 recursive) has succeeded.
  void removed(std::int32_t type, std::string_view path);
  void clear();
  bool empty() const;
  std::size_t size() const;

  // setWatches or setWatches2 (when a persistent watch is among them) requests that register everything, each with a
  // body of at most kRearmBytesMax bytes unless one path alone is longer. `zxid`: the last that the client has seen.
  struct Rearm {
    wire::Op op = wire::Op::kSetWatches;
    std::string body;
  };
  std::vector<Rearm> rearm(std::int64_t zxid) const;

 private:
  std::set<std::string, std::less<>>& of(Kind kind) { return paths_[static_cast<int>(kind)]; }

  std::set<std::string, std::less<>> paths_[kKinds];
};

inline constexpr std::size_t kRearmBytesMax = 128 * 1024;

}  // namespace coord::client
