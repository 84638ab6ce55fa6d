// RAII handles over LMDB. They return LMDB's own codes (0, MDB_*, errno), which `lmdb_text` puts into words: what an
// error means is decided by the caller (a Fault at open, the end of the process in the writer). Nothing throws.
// Threading: as LMDB says; a write transaction belongs to the thread that began it, read transactions are free (NOTLS).
#pragma once

#include <lmdb.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace coord::store {

std::string lmdb_text(int code);

inline MDB_val to_val(std::string_view bytes) { return {bytes.size(), const_cast<char*>(bytes.data())}; }
inline std::string_view to_view(const MDB_val& val) { return {static_cast<const char*>(val.mv_data), val.mv_size}; }

class Env {
 public:
  Env() = default;
  ~Env();
  Env(const Env&) = delete;
  Env& operator=(const Env&) = delete;

  // `flags`: MDB_* besides MDB_NOTLS, which is always set. Default sync flags: every commit is durable.
  int open(const std::string& directory, std::uint64_t map_bytes, unsigned flags);
  void close();
  MDB_env* get() const { return env_; }

  std::uint64_t page_size() const { return page_size_; }
  // Bytes of the file that the last commit refers to. LMDB never looks at the file's length: what lies behind this is
  // neither read nor cut off (mdb.c 0.9.24: mdb_env_open2, mdb_page_alloc, mdb_env_write_meta).
  std::uint64_t used_bytes() const;

 private:
  MDB_env* env_ = nullptr;
  std::uint64_t page_size_ = 4096;
};

class Txn {
 public:
  Txn() = default;
  ~Txn();
  Txn(const Txn&) = delete;
  Txn& operator=(const Txn&) = delete;

  int begin(const Env& env, unsigned flags);
  int commit();
  void abort();
  MDB_txn* get() const { return txn_; }

 private:
  MDB_txn* txn_ = nullptr;
};

// Must be gone before a write transaction is committed.
class Cursor {
 public:
  Cursor() = default;
  ~Cursor();
  Cursor(const Cursor&) = delete;
  Cursor& operator=(const Cursor&) = delete;

  int open(MDB_txn* txn, MDB_dbi dbi) { return mdb_cursor_open(txn, dbi, &cursor_); }
  int get(MDB_val& key, MDB_val& value, MDB_cursor_op op) { return mdb_cursor_get(cursor_, &key, &value, op); }
  int put(MDB_val& key, MDB_val& value, unsigned flags) { return mdb_cursor_put(cursor_, &key, &value, flags); }
  int del() { return mdb_cursor_del(cursor_, 0); }

 private:
  MDB_cursor* cursor_ = nullptr;
};

}  // namespace coord::store
