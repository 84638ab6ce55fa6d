#include "common/client/watches.h"

namespace coord::client {
namespace {

using Lists = std::vector<std::string_view>[WatchRegistry::kKinds];

WatchRegistry::Rearm encode(std::int64_t zxid, const Lists& lists) {
  const bool persistent = !lists[3].empty() || !lists[4].empty();
  WatchRegistry::Rearm out;
  out.op = persistent ? wire::Op::kSetWatches2 : wire::Op::kSetWatches;
  wire::Writer w(out.body);
  w.i64(zxid);
  for (int kind = 0; kind < (persistent ? 5 : 3); ++kind) {
    w.i32(static_cast<std::int32_t>(lists[kind].size()));
    for (const std::string_view path : lists[kind]) w.buffer(path);
  }
  return out;
}

constexpr std::size_t kFixedBytes = 8 + 5 * 4;  // zxid and five lengths

}  // namespace

void WatchRegistry::add(Kind kind, std::string_view path) { of(kind).emplace(path); }

void WatchRegistry::fired(const wire::WatcherEvent& event) {
  switch (event.type) {
    case WatchType::kCreated:
    case WatchType::kDataChanged:
      of(Kind::kData).erase(event.path);
      of(Kind::kExist).erase(event.path);
      break;
    case WatchType::kDeleted:
      of(Kind::kData).erase(event.path);
      of(Kind::kExist).erase(event.path);
      of(Kind::kChild).erase(event.path);
      break;
    case WatchType::kChildrenChanged:
      of(Kind::kChild).erase(event.path);
      break;
    case WatchType::kNone:
      break;
  }
}

void WatchRegistry::removed(std::int32_t type, std::string_view path) {
  const auto erase = [&](Kind kind) {
    if (const auto it = of(kind).find(path); it != of(kind).end()) of(kind).erase(it);
  };
  const bool any = type == 3;
  if (any || type == 1) erase(Kind::kChild);
  if (any || type == 2) {
    erase(Kind::kData);
    erase(Kind::kExist);
  }
  if (any || type == 4) erase(Kind::kPersistent);
  if (any || type == 5) erase(Kind::kRecursive);
}

void WatchRegistry::clear() {
  for (auto& paths : paths_) paths.clear();
}

std::size_t WatchRegistry::size() const {
  std::size_t n = 0;
  for (const auto& paths : paths_) n += paths.size();
  return n;
}

bool WatchRegistry::empty() const { return size() == 0; }

std::vector<WatchRegistry::Rearm> WatchRegistry::rearm(std::int64_t zxid) const {
  std::vector<Rearm> out;
  Lists lists;
  std::size_t bytes = kFixedBytes;
  bool any = false;
  const auto flush = [&] {
    if (!any) return;
    out.push_back(encode(zxid, lists));
    for (auto& list : lists) list.clear();
    bytes = kFixedBytes;
    any = false;
  };
  for (int kind = 0; kind < kKinds; ++kind) {
    for (const std::string& path : paths_[kind]) {
      const std::size_t size = 4 + path.size();
      if (bytes + size > kRearmBytesMax) flush();
      lists[kind].push_back(path);
      bytes += size;
      any = true;
    }
  }
  flush();
  return out;
}

}  // namespace coord::client
