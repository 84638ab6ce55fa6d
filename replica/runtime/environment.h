// What a replica's driver takes from the world besides time, disk and network, so that the simulator can give it from a
// seed: randomness, a look at the file system, work that is too long for the core thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "common/base/result.h"

namespace coord::runtime {

struct DiskSize {
  std::int64_t bytes = 0;
  std::int64_t free_bytes = 0;
};

// Runs work beside the core thread (reading a whole tree back from the store). Its destructor waits for what runs.
class Aside {
 public:
  virtual ~Aside() = default;
  virtual void run(std::function<void()> work) = 0;
};

struct Environment {
  // For the bootstrap, should this replica lead a virgin ensemble: 32 hex digits, 32 bytes.
  std::string fresh_cluster_id, fresh_secret;
  std::uint64_t seed = 0;         // of jitter; any number
  // Of this start of the process: tells requests forwarded before a restart from later ones.
  std::uint64_t incarnation = 1;
  // The size of the disk under a directory. Not set: unknown.
  std::function<std::optional<DiskSize>(const std::string& directory)> disk_size;
  std::unique_ptr<Aside> aside;  // null: such work is done at once (the simulator)
};

// The real world: getrandom, statvfs, a thread. Fault: no random numbers to be had.
Result<Environment, Fault> real_environment();

}  // namespace coord::runtime
