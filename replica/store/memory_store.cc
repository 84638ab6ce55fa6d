#include "replica/store/memory_store.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace coord::store {

MemoryStore::MemoryStore(Options options) : MemoryStore(nullptr, options) {}

MemoryStore::MemoryStore(std::shared_ptr<MemoryDisk> disk, Options options)
    : options_(options), disk_(disk ? std::move(disk) : std::make_shared<MemoryDisk>()) {
  Meta& meta = disk_->meta;
  if (meta.cluster_id.empty()) {
    meta.cluster_id = "0123456789abcdef0123456789abcdef";
    meta.secret = std::string(32, 's');
    meta.sid = options_.sid;
  }
  COORD_CHECK_MSG(meta.sid == options_.sid, "the disk belongs to another server");
  meta_ = meta;
}

Result<bool, Fault> MemoryStore::load_tree(const OnNode& on_node, const OnSession& on_session,
                                           const OnCounters& on_counters) {
  for (const auto& [id, record] : disk_->nodes) {
    if (auto taken = on_node(id, record); !taken) return taken;
  }
  for (const auto& [id, record] : disk_->sessions) {
    if (auto taken = on_session(id, record); !taken) return taken;
  }
  if (disk_->counters) return on_counters(*disk_->counters);
  return true;
}

Result<bool, Fault> MemoryStore::read_log(Zxid after, const std::function<void(LogEntry)>& on_entry) {
  if (after < meta_.log_floor) return fail(Fault{"the log begins above " + to_string(meta_.log_floor)});
  Zxid previous = after;
  for (auto it = disk_->log.upper_bound(after); it != disk_->log.end(); ++it) {
    if (it->second.previous != previous) {
      return fail(Fault{"record log/" + to_string(it->first) + " does not follow " + to_string(previous)});
    }
    previous = it->first;
    on_entry(it->second);
  }
  return true;
}

void MemoryStore::set_on_durable(std::function<void(std::uint64_t)> on_durable) { on_durable_ = std::move(on_durable); }

void MemoryStore::set_on_space(std::function<void(bool)> on_space) { on_space_ = std::move(on_space); }

void MemoryStore::set_space(const Space& space) {
  const bool changed = space.refuse_writes != space_.refuse_writes;
  space_ = space;
  if (changed && on_space_) on_space_(space.refuse_writes);
}

void MemoryStore::submit(Batch batch) {
  COORD_CHECK_MSG(batch.id > last_id_, "ids of batches ascend");
  last_id_ = batch.id;
  queue_.push_back(std::move(batch));
  if (options_.completion == Completion::kInline) complete();
}

void MemoryStore::complete(std::size_t count, bool report) {
  std::uint64_t id = 0;
  const std::uint64_t entries = counters_.entries;
  for (; count > 0 && !queue_.empty(); --count) {
    Batch batch = std::move(queue_.front());
    queue_.pop_front();
    apply(batch);
    id = batch.id;
  }
  if (id == 0) return;
  purge(static_cast<std::size_t>(counters_.entries - entries));
  ++counters_.commits;
  if (report && on_durable_) on_durable_(id);
}

void MemoryStore::apply(Batch& batch) {
  Meta& at = disk_->meta;
  if (batch.truncate_after) truncate(*batch.truncate_after);
  for (LogEntry& entry : batch.append) append(entry);
  if (batch.epochs) {
    COORD_CHECK(batch.epochs->accepted >= at.epochs.accepted);
    COORD_CHECK(batch.epochs->current >= at.epochs.current);
    COORD_CHECK(batch.epochs->accepted >= batch.epochs->current);
    at.epochs = *batch.epochs;
  }
  if (batch.commit_hint) {
    COORD_CHECK_MSG(*batch.commit_hint <= at.last_logged, "committed beyond the log");
    at.commit_hint = std::max(at.commit_hint, *batch.commit_hint);
  }
  if (batch.fold) fold(*batch.fold);
  COORD_CHECK_MSG(at.epochs.current >= at.last_logged.epoch(), "entries of an epoch not adopted");
}

void MemoryStore::truncate(Zxid after) {
  Meta& at = disk_->meta;
  COORD_CHECK_MSG(after >= std::max(at.tree_durable, at.commit_hint), "refusing to truncate what was committed");
  disk_->log.erase(disk_->log.upper_bound(after), disk_->log.end());
  if (after >= at.last_logged) return;
  at.last_logged = disk_->log.empty() ? at.tree_durable : disk_->log.rbegin()->first;
  COORD_CHECK_MSG(at.last_logged == after, "truncating to a position that the log does not have");
}

void MemoryStore::append(LogEntry& entry) {
  Meta& at = disk_->meta;
  COORD_CHECK_MSG(entry.previous == at.last_logged, "gap in the log");
  COORD_CHECK_MSG(entry.zxid > at.last_logged, "zxids ascend");
  COORD_CHECK_MSG(entry.payload != nullptr, "an entry has a payload");
  at.last_logged = entry.zxid;
  disk_->log.emplace(entry.zxid, std::move(entry));
  ++counters_.entries;
}

void MemoryStore::fold(FoldRecord& record) {
  Meta& at = disk_->meta;
  COORD_CHECK_MSG(record.tree_durable >= at.tree_durable, "the tree does not go back");
  if (record.tree_durable > at.last_logged) {
    COORD_CHECK_MSG(disk_->log.empty(), "the tree is ahead of the log");
    at.last_logged = at.log_floor = record.tree_durable;
  }
  at.tree_durable = record.tree_durable;
  at.commit_hint = std::max(at.commit_hint, record.tree_durable);
  for (auto& [id, body] : record.nodes) {
    if (body) {
      disk_->nodes[id] = std::move(*body);
    } else {
      disk_->nodes.erase(id);
    }
  }
  for (auto& [id, body] : record.sessions) {
    if (body) {
      disk_->sessions[id] = std::move(*body);
    } else {
      disk_->sessions.erase(id);
    }
  }
  disk_->counters = std::move(record.counters);
  counters_.folded_nodes += record.nodes.size();
}

void MemoryStore::purge(std::size_t appended) {
  Meta& at = disk_->meta;
  const Zxid ceiling = std::min(at.commit_hint, at.tree_durable);
  for (std::size_t slice = 2 * appended + 64; slice > 0 && disk_->log.size() > options_.log_keep_entries; --slice) {
    const auto first = disk_->log.begin();
    if (first->first > ceiling) return;
    at.log_floor = first->first;
    disk_->log.erase(first);
  }
}

}  // namespace coord::store
