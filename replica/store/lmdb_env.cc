#include "replica/store/lmdb_env.h"

#include <utility>

#include "common/base/log.h"
#include "replica/store/schema.h"

namespace coord::store {

namespace {
// Ours, and tools that look in from outside.
constexpr unsigned kMaxReaders = 64;

// LMDB found what cannot be, such as a damaged list of free pages; it aborts when this returns.
void assertion_failed(MDB_env* env, const char* text) {
  const char* path = nullptr;
  mdb_env_get_path(env, &path);
  log::error("store", "data directory {}: {} is damaged ({}); ending the process, restore the directory from a backup",
             path == nullptr ? "" : path, schema::kDataFile, text);
}
}  // namespace

std::string lmdb_text(int code) { return mdb_strerror(code); }

Env::~Env() { close(); }

void Env::close() {
  if (env_ != nullptr) mdb_env_close(env_);
  env_ = nullptr;
}

int Env::open(const std::string& directory, std::uint64_t map_bytes, unsigned flags) {
  int rc = mdb_env_create(&env_);
  if (rc == 0) rc = mdb_env_set_assert(env_, assertion_failed);
  if (rc == 0) rc = mdb_env_set_maxdbs(env_, schema::kDatabases);
  if (rc == 0) rc = mdb_env_set_maxreaders(env_, kMaxReaders);
  if (rc == 0) rc = mdb_env_set_mapsize(env_, map_bytes);
  if (rc == 0) rc = mdb_env_open(env_, directory.c_str(), flags | MDB_NOTLS, 0600);
  MDB_stat stat{};
  if (rc == 0) rc = mdb_env_stat(env_, &stat);
  if (rc != 0) {
    close();
    return rc;
  }
  page_size_ = stat.ms_psize;
  return 0;
}

std::uint64_t Env::used_bytes() const {
  MDB_envinfo info{};
  mdb_env_info(env_, &info);
  return (info.me_last_pgno + 1) * page_size_;
}

Txn::~Txn() { abort(); }

int Txn::begin(const Env& env, unsigned flags) { return mdb_txn_begin(env.get(), nullptr, flags, &txn_); }

int Txn::commit() { return mdb_txn_commit(std::exchange(txn_, nullptr)); }

void Txn::abort() {
  if (txn_ != nullptr) mdb_txn_abort(std::exchange(txn_, nullptr));
}

Cursor::~Cursor() {
  if (cursor_ != nullptr) mdb_cursor_close(cursor_);
}

}  // namespace coord::store
