// A path-like call that is answered ESTALE is made once more by the kernel, which asks for every name of the path
// again, and the second answer is the caller's. Between that lookup and the call the name may change hands again, or
// the inode may still be in limbo for the name that it had before. Neither is a reason for a second ESTALE: it stood at
// the name when the kernel asked, after the call had begun. Here is kept, for each thread with a second try ahead, what
// its last lookup has found.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "fusefs/ops/inode.h"

namespace coord::fs {

// Any thread, with any lock or none: locked inside, nothing else is locked meanwhile.
class SecondTries {
 public:
  // What was found, with its data if that was in the memory: it may be gone when the call comes.
  struct Found {
    Ino ino = 0;
    std::shared_ptr<const std::string> data;
    std::int64_t mzxid = -1;
  };

  // The thread is going to be answered ESTALE.
  void expect(pid_t tid);
  bool expected(pid_t tid) const;
  // A lookup of that thread is being answered; nothing if it has no second try ahead.
  void found(pid_t tid, Found what);
  // Did it find this inode?
  bool has(pid_t tid, Ino ino) const;
  // What it has found, if that is this inode; good for one call. `last`: the path ends here, no more lookups follow.
  std::optional<Found> take(pid_t tid, Ino ino, bool last);

 private:
  struct Item {
    std::chrono::steady_clock::time_point since;
    Found found;
  };

  mutable std::mutex mutex_;
  std::unordered_map<pid_t, Item> items_;
  std::atomic<bool> any_{false};
};

}  // namespace coord::fs
