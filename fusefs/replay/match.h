// Which FUSE request is the replay that was just dispatched, and how to answer it: the phases of one job as a state
// machine. Pure; the Replayer locks.
//
// A request of a helper is never an ordinary one if it could change anything: either it is exactly the call, on exactly
// the node and name, in exactly the phase that the job has reached, and then it is answered without a transaction,
// once; or it is refused with EAGAIN, and the replayer starts over with fresh paths. Requests that change nothing
// (the lookups of a path walk, getattr, statfs) are answered as for anybody.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "fusefs/replay/event.h"

namespace coord::fs::replay {

// FUSE requests as far as they matter here. kOtherChange: any further request that changes something or opens a file
// for writing (write, create, link, fallocate, setxattr, lock, ...).
enum class FsCall : std::uint8_t {
  kLookup,   // (parent, name)
  kOpen,     // (node), any open that is not read-only
  kSetattr,  // (node)
  kFlush,    // (node), of a handle that the replay opened
  kMknod,    // (parent, name)
  kMkdir,    // (parent, name)
  kSymlink,  // (parent, name)
  kUnlink,   // (parent, name)
  kRmdir,    // (parent, name)
  kRename,   // (parent, name) and the new ones
  kOtherChange,
};

// How to answer. Never by a transaction.
enum class Say : std::uint8_t {
  kAbsent,   // ENOENT (the name is about to be created, or moved to)
  kNode,     // an entry reply with node `ino`, even if it is dead (attributes of its last life) or lives elsewhere by
             // now. The lookup count grows as for any entry reply. Timeouts: 0 for an answer to kLookup.
  kHandle,   // an open reply: a handle without effect; its release does nothing. Neither truncate nor pin
  kCurrent,  // an attribute reply: the node's attributes as they are
  kDone,     // success
  kRefuse,   // the errno EAGAIN
};

struct Match {
  Say say = Say::kRefuse;
  std::uint64_t ino = 0;  // of the job's node
};

class JobMatcher {
 public:
  explicit JobMatcher(Event event) : event_(std::move(event)) {}

  // nullopt: not part of the job and harmless: answer as for anybody. For kRename give both names.
  std::optional<Match> match(FsCall call, std::uint64_t node, std::string_view name, std::uint64_t new_parent = 0,
                             std::string_view new_name = {});

  // From here on nothing of the job is answered: what it would raise is out of date (event.h), and what is left of its
  // event is to be a new job. The caller of the newer change holds the lock of the name's directory, which every call
  // that raises an event of it holds from its LOOKUP on: so none of them is under way.
  void overtaken(std::uint64_t parent, std::string_view name);

  // The call that raises the event was matched: the kernel raises it when it has the answer, unless it finds a fault.
  bool raised() const { return raised_; }

  // It has told, or is telling, that this name has gone from its directory.
  bool told_gone(std::uint64_t parent, std::string_view name) const;

  const Event& event() const { return event_; }

 private:
  std::optional<Match> lookup(std::uint64_t parent, std::string_view name);
  bool raises(FsCall call, std::uint64_t node, std::string_view name, std::uint64_t new_parent,
              std::string_view new_name) const;
  bool may_open(std::uint64_t node) const;
  Match say(Say what) const { return Match{what, event_.ino}; }

  Event event_;
  int lookups_ = 0;      // of the name (of a rename: the old one)
  int lookups_new_ = 0;  // of the new name of a rename
  bool opened_ = false;
  bool raised_ = false;
  bool overtaken_ = false;
};

// What to do after a dispatch. `error`: the errno that the helper answered, 0 for success, nullopt if it died or hung
// before it could; `raised`: JobMatcher::raised(); `attempts` so far, 1 at least.
//
// A dispatch can fail for a moment: the kernel had a name in its cache that stands for another node, or it could not
// move the dentry of a directory because somebody held the lock of the other directory (d_splice_alias() only tries,
// and fails with ESTALE). So the first attempts follow each other at once, the later ones at growing distances, for
// about a second in all; the events of the directory wait behind.
enum class Outcome : std::uint8_t {
  kDone,    // the event is out (or as good as certainly: the helper died right after its call was answered)
  kAgain,   // invalidate the names and dispatch again, with fresh paths: at most kAttemptsMax times
  kGiveUp,  // it no longer applies, or nobody can be told
};
inline constexpr int kAttemptsAtOnce = 4;
inline constexpr int kAttemptsMax = 14;
// Before the next attempt, after `attempts`.
std::chrono::milliseconds pause_after(int attempts);
Outcome outcome(std::optional<int> error, bool raised, int attempts);

}  // namespace coord::fs::replay
