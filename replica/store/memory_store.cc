#include "replica/store/memory_store.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace coord::store {

MemoryStore::MemoryStore(Options options) : MemoryStore(nullptr, options) {}

MemoryStore::MemoryStore(std::shared_ptr<MemoryDisk> disk, Options options)
    : options_(options), disk_(disk ? std::move(disk) : std::make_shared<MemoryDisk>()) {
  Meta& meta = disk_->meta;
  if (meta.directory_id.empty()) {
    meta.directory_id = options_.directory_id;
    meta.sid = options_.sid;
  }
  refresh_ends();
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
  const Zxid floor = disk_->meta.log_floor;
  if (after < floor) return fail(Fault{"the log begins above " + to_string(floor)});
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
  if (batch.install_snapshot) {
    COORD_CHECK_MSG(staged_ && staged_->reader.complete(), "a snapshot is installed that was not staged");
    installing_.push_back(std::move(*staged_));  // the next one may begin before this is complete
    staged_.reset();
  }
  queue_.push_back(std::move(batch));
  if (options_.completion == Completion::kInline) {
    complete();
    run_later();
  }
}

void MemoryStore::run_later(std::size_t count) {
  for (; count > 0 && !later_.empty(); --count) {
    const auto work = std::move(later_.front());
    later_.pop_front();
    work();
  }
}

void MemoryStore::read_log_later(Zxid after, Zxid up_to, std::size_t max_bytes,
                                 std::function<void(std::vector<LogEntry>)> done) {
  later_.push_back([this, after, up_to, max_bytes, done = std::move(done)] {
    std::vector<LogEntry> entries;
    std::size_t bytes = 0;
    for (auto it = disk_->log.upper_bound(after); it != disk_->log.end() && it->first <= up_to; ++it) {
      if (entries.empty() && it->second.previous != after) break;
      entries.push_back(it->second);
      bytes += it->second.payload->size();
      if (bytes >= max_bytes) break;
    }
    done(std::move(entries));
  });
}

// --- snapshots

namespace {

class MemorySource final : public SnapshotSource {
 public:
  MemorySource(const MemoryDisk& disk, std::shared_ptr<std::multiset<Zxid>> pins)
      : zxid_(disk.meta.tree_durable), nodes_(disk.nodes), counters_(disk.counters), pins_(std::move(pins)) {
    for (const auto& [id, record] : disk.sessions) sessions_[static_cast<std::uint64_t>(id.value)] = record;
    pins_->insert(zxid_);
  }
  ~MemorySource() override { pins_->erase(pins_->find(zxid_)); }
  Zxid zxid() const override { return zxid_; }
  std::uint64_t bytes() const override {
    std::uint64_t sum = 0;
    for (const auto& [id, record] : nodes_) sum += record.size();
    return sum;
  }
  Result<std::string, Fault> next(std::size_t max_bytes) override {
    std::string out;
    if (ended_) return out;
    while (!nodes_.empty() && out.size() < max_bytes) {
      put_record(RecordKind::kNode, nodes_.begin()->first.value, nodes_.begin()->second, out, totals_);
      nodes_.erase(nodes_.begin());
    }
    while (nodes_.empty() && !sessions_.empty() && out.size() < max_bytes) {
      const auto first = sessions_.begin();
      put_record(RecordKind::kSession, first->first, first->second, out, totals_);
      sessions_.erase(first);
    }
    if (!nodes_.empty() || !sessions_.empty()) return out;
    if (counters_) put_record(RecordKind::kCounters, 0, *counters_, out, totals_);
    put_end(totals_, out);
    ended_ = true;
    return out;
  }

 private:
  const Zxid zxid_;
  std::map<NodeId, std::string> nodes_;
  std::map<std::uint64_t, std::string> sessions_;  // in the order of their keys
  std::optional<std::string> counters_;
  std::shared_ptr<std::multiset<Zxid>> pins_;
  SnapshotTotals totals_;
  bool ended_ = false;
};

}  // namespace

std::unique_ptr<SnapshotSource> MemoryStore::open_snapshot() { return std::make_unique<MemorySource>(*disk_, pins_); }

void MemoryStore::snapshot_begin(Zxid zxid) { staged_.emplace(zxid); }

void MemoryStore::snapshot_piece(std::string bytes) {
  if (!staged_ || !staged_->good) return;
  Staged& to = *staged_;
  to.good = to.reader.take(bytes, [&](RecordKind kind, std::uint64_t key, std::string_view body) {
    if (kind == RecordKind::kNode) to.nodes[NodeId(key)] = body;
    if (kind == RecordKind::kSession) to.sessions[SessionId(static_cast<std::int64_t>(key))] = body;
    if (kind == RecordKind::kCounters) to.counters = body;
    return true;
  });
}

void MemoryStore::snapshot_end(std::function<void(Zxid)> staged) {
  // Decided here, told later: another one may have begun by then.
  const bool whole = staged_ && staged_->good && staged_->reader.complete();
  const Zxid zxid = whole ? staged_->zxid : Zxid{};
  if (!whole) staged_.reset();
  later_.push_back([zxid, staged = std::move(staged)] { staged(zxid); });
}

void MemoryStore::snapshot_drop() { staged_.reset(); }

void MemoryStore::install() {
  Meta& at = disk_->meta;
  Staged& from = installing_.front();
  at.tree_durable = at.commit_hint = at.log_floor = at.last_logged = from.zxid;
  disk_->log.clear();
  disk_->nodes = std::move(from.nodes);
  disk_->sessions = std::move(from.sessions);
  disk_->counters = std::move(from.counters);
  installing_.pop_front();
}

void MemoryStore::refresh_ends() {
  Meta& at = disk_->meta;
  at.epoch_ends.clear();
  for (const auto& [zxid, entry] : disk_->log) {
    if (at.epoch_ends.empty() || at.epoch_ends.back().epoch() != zxid.epoch()) at.epoch_ends.push_back(zxid);
    at.epoch_ends.back() = zxid;
  }
}

void MemoryStore::complete(std::size_t count, bool report) {
  std::uint64_t id = 0;
  const std::uint64_t entries = counters_.entries;
  const Zxid tree_before = disk_->meta.tree_durable;
  for (; count > 0 && !queue_.empty(); --count) {
    Batch batch = std::move(queue_.front());
    queue_.pop_front();
    apply(batch);
    id = batch.id;
  }
  if (id == 0) return;
  purge(static_cast<std::size_t>(counters_.entries - entries), tree_before);
  ++counters_.commits;
  if (report && on_durable_) on_durable_(id);
}

void MemoryStore::apply(Batch& batch) {
  Meta& at = disk_->meta;
  const bool bound = !at.cluster_id.empty() && at.last_logged != Zxid{};
  if (batch.install_snapshot) install();
  if (batch.truncate_after) truncate(*batch.truncate_after);
  for (LogEntry& entry : batch.append) append(entry);
  if (batch.epochs) {
    COORD_CHECK(batch.epochs->accepted >= at.epochs.accepted);
    COORD_CHECK(batch.epochs->current >= at.epochs.current);
    COORD_CHECK(batch.epochs->accepted >= batch.epochs->current);
    at.epochs = *batch.epochs;
  }
  if (batch.identity) {
    COORD_CHECK(!bound || at.cluster_id == batch.identity->cluster_id);
    at.cluster_id = batch.identity->cluster_id;
    at.secret = batch.identity->secret;
  }
  if (batch.repaired) at.damaged = false;
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

void MemoryStore::purge(std::size_t appended, Zxid tree_before) {
  Meta& at = disk_->meta;
  Zxid ceiling = std::min({at.commit_hint, at.tree_durable, tree_before});  // as the store on LMDB does
  if (!pins_->empty()) ceiling = std::min(ceiling, *pins_->begin());
  for (std::size_t slice = 2 * appended + 64; slice > 0 && disk_->log.size() > options_.log_keep_entries; --slice) {
    const auto first = disk_->log.begin();
    if (first->first > ceiling) return;
    at.log_floor = first->first;
    disk_->log.erase(first);
  }
}

}  // namespace coord::store
