// How many pages a write transaction can take from the end of the data file at most, if no freed page can be reused.
// The writer compares it with what is written ahead (grow_ahead.h). An overestimate costs address space in the file; an
// underestimate is dangerous, so it is asserted after each commit. Pure.
// Source: LMDB 0.9.24, mdb_page_alloc, mdb_page_split, mdb_page_loose, mdb_freelist_save.
#pragma once

#include <cstdint>

#include "replica/store/lmdb_env.h"
#include "replica/store/meta_records.h"
#include "replica/store/store.h"

namespace coord::store {

// What a transaction will do.
struct Work {
  struct Changes {
    std::uint64_t puts = 0;
    std::uint64_t deletes = 0;
    std::uint64_t leaf_bytes = 0;      // of values small enough for a leaf
    std::uint64_t overflow_pages = 0;  // of larger ones
    Changes& operator+=(const Changes& more);
  };
  Work& operator+=(const Work& more);  // in one transaction
  Changes log;  // puts: appends; deletes: the purge slice
  Changes node;
  Changes session;
  Changes meta;
  bool truncates = false;
};

class PageBound {
 public:
  explicit PageBound(std::uint64_t page_size) : page_size_(page_size) {}

  void add(const Batch& batch, Work& work) const;
  // In pages; `txn` is the write transaction, nothing changed in it yet.
  std::uint64_t pages(MDB_txn* txn, const Databases& dbs, const Work& work) const;

 private:
  void add_value(std::uint64_t value_size, Work::Changes& changes) const;
  std::uint64_t appended(const MDB_stat& stat, const Work& work) const;
  std::uint64_t folded(const MDB_stat& stat, const Work::Changes& changes) const;

  std::uint64_t page_size_;
};

}  // namespace coord::store
