#include "fusefs/ops/attr.h"

#include <algorithm>

#include "common/model/posix.h"

namespace coord::fs {
namespace {

constexpr std::int64_t kNsPerMs = 1'000'000;
constexpr std::int64_t kNsPerS = 1'000'000'000;

// Counters wrap into negative numbers after 2^31 changes; as unsigned they go on growing. (The root's cversion starts
// at -1, as in ZooKeeper.)
std::int64_t counter(std::int32_t v) {
  return v == -1 ? -1 : static_cast<std::int64_t>(static_cast<std::uint32_t>(v));
}

timespec to_timespec(std::int64_t ns) {
  std::int64_t s = ns / kNsPerS;
  std::int64_t rest = ns % kNsPerS;
  if (rest < 0) {
    rest += kNsPerS;
    --s;
  }
  return timespec{static_cast<time_t>(s), static_cast<long>(rest)};
}

std::int64_t mtime_ns(const wire::NodeInfo& info, View view) {
  if (info.attributes.mtime_ns != 0) return info.attributes.mtime_ns;
  const std::int64_t base = info.stat.mtime * kNsPerMs + counter(info.stat.version);
  return view == View::kDir ? base + counter(info.stat.cversion) : base;
}

std::int64_t ctime_ns(const wire::NodeInfo& info) {
  const Stat& s = info.stat;
  return std::max(s.ctime, s.mtime) * kNsPerMs + counter(s.version) + counter(s.aversion) + counter(s.cversion);
}

}  // namespace

mode_t type_of(Shape shape, View view) {
  if (view == View::kDir) return S_IFDIR;
  return shape == Shape::kSymlink ? S_IFLNK : S_IFREG;
}

struct stat stat_of(const wire::NodeInfo& info, View view, const ShownAs& as) {
  struct stat out = {};
  const bool directory = view == View::kDir;
  const PosixView posix = posix_view(info.acl, info.attributes, directory);
  const mode_t type = type_of(info.attributes.shape, view);
  out.st_ino = ino_of(info.id, view);
  out.st_mode = type | (type == S_IFLNK ? 0777 : posix.mode);
  out.st_uid = posix.uid;
  out.st_gid = posix.gid;
  out.st_nlink = as.gone ? 0 : directory ? 2 : 1;
  out.st_blksize = static_cast<blksize_t>(kStatBlockSize);
  if (directory) {
    out.st_size = static_cast<off_t>(kStatBlockSize);
  } else {
    const std::uint64_t committed = static_cast<std::uint64_t>(std::max(info.stat.data_length, 0));
    const std::uint64_t size = as.size.value_or(committed);
    out.st_size = static_cast<off_t>(size);
    out.st_blocks = static_cast<blkcnt_t>((size + 511) / 512);
  }
  const std::int64_t mtime = directory ? mtime_ns(info, view) : as.mtime_ns.value_or(mtime_ns(info, view));
  out.st_mtim = to_timespec(mtime);
  out.st_atim = out.st_mtim;
  out.st_ctim = to_timespec(directory ? ctime_ns(info) : std::max(ctime_ns(info), as.mtime_ns.value_or(0)));
  return out;
}

}  // namespace coord::fs
