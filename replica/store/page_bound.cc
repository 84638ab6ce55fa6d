#include "replica/store/page_bound.h"

#include <algorithm>

namespace coord::store {

namespace {

constexpr std::uint64_t kPageHeader = 16;
constexpr std::uint64_t kNodeOverhead = 8 + schema::kKeySize + 2;  // node header, key, slot
// Entries of a branch page after a split, at least: 8-byte keys in half a page.
constexpr std::uint64_t kBranchFanout = 64;
constexpr std::uint64_t kRoots = 8;  // pages of the main database, which holds the roots of ours

std::uint64_t tree_pages(const MDB_stat& stat) { return stat.ms_branch_pages + stat.ms_leaf_pages; }

// Branch pages above `leaves` new ones, and a few for growing roots.
std::uint64_t branches_for(const MDB_stat& stat, std::uint64_t leaves) {
  return leaves / kBranchFanout + 2 * std::uint64_t{stat.ms_depth} + 4;
}

MDB_stat stat_of(MDB_txn* txn, MDB_dbi dbi) {
  MDB_stat stat{};
  mdb_stat(txn, dbi, &stat);
  return stat;
}

}  // namespace

Work::Changes& Work::Changes::operator+=(const Changes& more) {
  puts += more.puts;
  deletes += more.deletes;
  leaf_bytes += more.leaf_bytes;
  overflow_pages += more.overflow_pages;
  return *this;
}

Work& Work::operator+=(const Work& more) {
  log += more.log;
  node += more.node;
  session += more.session;
  meta += more.meta;
  truncates = truncates || more.truncates;
  return *this;
}

void PageBound::add_value(std::uint64_t value_size, Work::Changes& changes) const {
  ++changes.puts;
  const std::uint64_t leaf_max = (((page_size_ - kPageHeader) / 2) & ~std::uint64_t{1}) - 2;
  if (8 + schema::kKeySize + value_size <= leaf_max) {
    changes.leaf_bytes += kNodeOverhead + value_size + 1;
  } else {
    changes.leaf_bytes += kNodeOverhead + 8;
    changes.overflow_pages += (kPageHeader - 1 + value_size) / page_size_ + 1;
  }
}

void PageBound::add(const Batch& batch, Work& work) const {
  for (const LogEntry& entry : batch.append) add_value(schema::kLogHeaderSize + entry.payload->size(), work.log);
  work.truncates = work.truncates || batch.truncate_after.has_value();
  if (!batch.fold) return;
  for (const auto& [id, record] : batch.fold->nodes) {
    if (record) {
      add_value(schema::kChecksumSize + record->size(), work.node);
    } else {
      ++work.node.deletes;
    }
  }
  for (const auto& [id, record] : batch.fold->sessions) {
    if (record) {
      add_value(schema::kChecksumSize + record->size(), work.session);
    } else {
      ++work.session.deletes;
    }
  }
  add_value(schema::kChecksumSize + batch.fold->counters.size(), work.meta);
}

// Appending touches the right edge only, and two neighbouring new leaves hold more than a page between them. Deleting
// at the front gives back, within the transaction, the pages that it touched and emptied ("loose" pages); a quarter of
// a page per entry is left for what merging leaves behind.
std::uint64_t PageBound::appended(const MDB_stat& stat, const Work& work) const {
  const std::uint64_t leaves = std::min(work.log.puts, 2 * work.log.leaf_bytes / page_size_ + 2);
  std::uint64_t touched = work.log.deletes / 4 + 6 * std::uint64_t{stat.ms_depth} + 16;
  if (work.truncates) touched += tree_pages(stat);
  return leaves + branches_for(stat, leaves) + touched + work.log.overflow_pages;
}

// Changes anywhere: each may touch a leaf of its own, a deletion the neighbour it merges with too, and all branches. A
// leaf that was full splits; filling up and splitting what came of it takes at least a quarter of a page of bytes.
std::uint64_t PageBound::folded(const MDB_stat& stat, const Work::Changes& changes) const {
  const std::uint64_t touched = std::min<std::uint64_t>(changes.puts + 2 * changes.deletes, stat.ms_leaf_pages);
  const std::uint64_t split = std::min(changes.puts, touched + 4 * changes.leaf_bytes / page_size_ + 1);
  return touched + stat.ms_branch_pages + split + branches_for(stat, split) + changes.overflow_pages;
}

std::uint64_t PageBound::pages(MDB_txn* txn, const Databases& dbs, const Work& work) const {
  const MDB_stat log = stat_of(txn, dbs.log);
  const MDB_stat node = stat_of(txn, dbs.node);
  const MDB_stat session = stat_of(txn, dbs.session);
  const MDB_stat meta = stat_of(txn, dbs.meta);
  constexpr MDB_dbi kFreeDb = 0;
  const MDB_stat free = stat_of(txn, kFreeDb);

  std::uint64_t sum = appended(log, work) + kRoots + 2 * tree_pages(meta) + 4 + work.meta.overflow_pages;
  if (work.node.puts + work.node.deletes > 0) sum += folded(node, work.node);
  if (work.session.puts + work.session.deletes > 0) sum += folded(session, work.session);

  // The list of free pages is rewritten: what is there, and what this transaction frees (values that go away may have
  // been large, but not more than there are).
  const std::uint64_t large = log.ms_overflow_pages + node.ms_overflow_pages + session.ms_overflow_pages;
  const std::uint64_t listed_per_page = page_size_ / 16;
  sum += 2 * (tree_pages(free) + free.ms_overflow_pages) + (sum + large) / listed_per_page;
  return sum + sum / 4 + 64;
}

}  // namespace coord::store
