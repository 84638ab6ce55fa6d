#include "fusefs/replay/match.h"

#include <cerrno>

namespace coord::fs::replay {
namespace {

// The helper looks a directory up once before it renames it, so that the kernel moves a dentry that somebody has made
// under the new name back to the old one: within rename(2) it cannot (the lookup fails with ESTALE). Only the second
// lookup is the one under the directories' locks.
int lookups_before_rename(NodeType type) { return type == NodeType::kDirectory ? 2 : 1; }

FsCall create_call(NodeType type) {
  switch (type) {
    case NodeType::kFile:
      return FsCall::kMknod;
    case NodeType::kDirectory:
      return FsCall::kMkdir;
    case NodeType::kSymlink:
      return FsCall::kSymlink;
  }
  return FsCall::kOtherChange;
}

}  // namespace

std::optional<Match> JobMatcher::lookup(std::uint64_t parent, std::string_view name) {
  if (raised_ || overtaken_) return std::nullopt;
  const bool old_name = parent == event_.parent && name == event_.name;
  switch (event_.kind) {
    case EventKind::kData:
    case EventKind::kAttributes:
      return std::nullopt;
    case EventKind::kCreate:
      if (!old_name) return std::nullopt;
      ++lookups_;
      return say(Say::kAbsent);
    case EventKind::kDelete:
      if (!old_name) return std::nullopt;
      ++lookups_;
      return say(Say::kNode);
    case EventKind::kRename:
      if (old_name) {
        ++lookups_;
        return say(Say::kNode);
      }
      if (parent != event_.new_parent || name != event_.new_name) return std::nullopt;
      ++lookups_new_;
      return say(Say::kAbsent);
    case EventKind::kGone:
      // Its link count is 0, and its last dentry goes with the helper's descriptor or the invalidation behind the job.
      if (!old_name) return std::nullopt;
      raised_ = true;
      return say(Say::kNode);
  }
  return std::nullopt;
}

// Is this the call that raises the event, in the right phase? A name that the kernel had cached, so that it did not ask
// us for it in this job, may stand for another node than ours: refused.
bool JobMatcher::raises(FsCall call, std::uint64_t node, std::string_view name, std::uint64_t new_parent,
                        std::string_view new_name) const {
  if (raised_ || overtaken_) return false;
  const bool old_name = node == event_.parent && name == event_.name;
  switch (event_.kind) {
    case EventKind::kData:
    case EventKind::kAttributes:
      return call == FsCall::kSetattr && node == event_.ino;
    case EventKind::kCreate:
      return call == create_call(event_.type) && old_name && lookups_ > 0;
    case EventKind::kDelete:
      return call == (event_.type == NodeType::kDirectory ? FsCall::kRmdir : FsCall::kUnlink) && old_name &&
             lookups_ > 0;
    case EventKind::kRename:
      return call == FsCall::kRename && old_name && new_parent == event_.new_parent && new_name == event_.new_name &&
             lookups_ >= lookups_before_rename(event_.type) && lookups_new_ > 0;
    case EventKind::kGone:
      return false;
  }
  return false;
}

bool JobMatcher::may_open(std::uint64_t node) const {
  if (opened_ || node != event_.ino || event_.executable || event_.type != NodeType::kFile) return false;
  return event_.kind == EventKind::kData ? !raised_ : event_.kind == EventKind::kCreate && raised_;
}

void JobMatcher::overtaken(std::uint64_t parent, std::string_view name) {
  Event touched = event_;
  overtake(touched, parent, name);
  overtaken_ = overtaken_ || touched.overtaken || touched.new_overtaken || touched.raise != event_.raise;
}

bool JobMatcher::told_gone(std::uint64_t parent, std::string_view name) const {
  const bool takes_name = event_.kind == EventKind::kDelete || event_.kind == EventKind::kRename;
  return raised_ && takes_name && event_.parent == parent && event_.name == name;
}

std::optional<Match> JobMatcher::match(FsCall call, std::uint64_t node, std::string_view name,
                                       std::uint64_t new_parent, std::string_view new_name) {
  switch (call) {
    case FsCall::kLookup:
      return lookup(node, name);
    case FsCall::kOpen:
      if (!may_open(node)) return say(Say::kRefuse);
      opened_ = true;
      return say(Say::kHandle);
    case FsCall::kFlush:
      return say(opened_ && node == event_.ino ? Say::kDone : Say::kRefuse);
    case FsCall::kSetattr:
    case FsCall::kMknod:
    case FsCall::kMkdir:
    case FsCall::kSymlink:
    case FsCall::kUnlink:
    case FsCall::kRmdir:
    case FsCall::kRename:
      if (!raises(call, node, name, new_parent, new_name)) return say(Say::kRefuse);
      raised_ = true;
      if (call == FsCall::kSetattr) return say(Say::kCurrent);
      return say(event_.kind == EventKind::kCreate ? Say::kNode : Say::kDone);
    case FsCall::kOtherChange:
      return say(Say::kRefuse);
  }
  return say(Say::kRefuse);
}

std::chrono::milliseconds pause_after(int attempts) {
  return std::chrono::milliseconds(attempts < kAttemptsAtOnce ? 0 : 1 << (attempts - kAttemptsAtOnce));
}

Outcome outcome(std::optional<int> error, bool raised, int attempts) {
  const Outcome again = attempts < kAttemptsMax ? Outcome::kAgain : Outcome::kGiveUp;
  if (!error) return raised ? Outcome::kDone : again;
  switch (*error) {
    case 0:
      return raised ? Outcome::kDone : Outcome::kGiveUp;
    case EAGAIN:  // refused: a cached name, or a path that leads elsewhere by now
      return raised ? Outcome::kGiveUp : again;  // raised: there is no such node any more, and its end is an event too
    case EEXIST:  // somebody looked the name up after it was invalidated
    case EISDIR:
    case ENOTDIR:
    case ENOTEMPTY:
    case ESTALE:
    case ENOENT:
    case ELOOP:
    case EINTR:
      return again;
    default:  // EXDEV (something is mounted there), ENODEV and ENOTCONN (the mount has gone), EBUSY, ENAMETOOLONG, ...
      return Outcome::kGiveUp;
  }
}

}  // namespace coord::fs::replay
