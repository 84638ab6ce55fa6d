// Writes the data file ahead of the database, off the commit path: a commit that extends a file waits for the file
// system's journal, one that overwrites blocks written before does not (design.md section 2). Zeros are really written;
// blocks that are only reserved (fallocate) would cost the journal on first use too.
//
// WHO MAY WRITE WHERE. The grower writes at and behind `grown`, the writer (through LMDB) below it. `grown` moves when
// a chunk is written and synced. Before each transaction the writer reserves an upper bound of what it can take
// (page_bound.h). When growing fails and the bound does not fit, the writer keeps the grower out instead, for as long
// as the lease lives: nearly always LMDB finds freed pages, and if not, the disk decides.
//
// Threading: reserve and committed on the writer thread; space anywhere; everything else before start().
// Errors: a full disk (ENOSPC, EDQUOT, EFBIG, or the end of the map) is a state, tried again every second. Any other
// error, and any failed sync, ends the process.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "common/base/result.h"
#include "replica/store/store.h"

namespace coord::store {

class GrowAhead {
 public:
  struct Options {
    std::string path;  // of the data file
    std::uint64_t page_size = 4096;
    std::uint64_t step = 32ULL << 20;  // kept ahead; at least kMinimum
    std::uint64_t limit = 0;           // the file is never made longer: the map
    // Bytes of freed pages inside the file; asked on the grower's thread while the disk is full. Must not block.
    std::function<std::uint64_t()> free_bytes;
  };
  static constexpr std::uint64_t kMinimum = 4ULL << 20;

  // Brings the file to used + step. A Fault if not even kMinimum fits behind `used`.
  static Result<std::unique_ptr<GrowAhead>, Fault> open(Options options, std::uint64_t used);
  ~GrowAhead();
  GrowAhead(const GrowAhead&) = delete;
  GrowAhead& operator=(const GrowAhead&) = delete;

  // Starts the thread. `on_space` is called on it whenever refuse_writes changes.
  void start(std::function<void(bool)> on_space);

  // Leave to write below `limit`; without one (the disk is full), leave to write anywhere while this lives.
  class Lease {
   public:
    bool covered() const { return !alone_.owns_lock(); }
    std::uint64_t limit() const { return limit_; }

   private:
    friend class GrowAhead;
    std::unique_lock<std::mutex> alone_;
    std::uint64_t limit_ = 0;
  };
  // Waits until `bytes` and a quarter of a step behind what is used are written ahead, or that has failed; and, if
  // writes are to be refused, until that has been told. Before start(), growing is done here.
  Lease reserve(std::uint64_t bytes);
  // The transaction is durable; the lease still lives.
  void committed(std::uint64_t used);
  // Of a transaction that a lease without cover let through, and that failed with `error`: was that the want of room
  // alone, met before anything was synced? Then another one may follow: it writes all that is its own anew.
  bool only_full(const Lease& lease, int error) const;

  Space space() const;
  bool full() const;  // the last attempt to grow failed

 private:
  explicit GrowAhead(Options options);

  Result<bool, Fault> open_file(std::uint64_t used);
  Result<std::uint64_t, Fault> fill_holes(std::uint64_t used, std::uint64_t size) const;
  // These return 0 or errno.
  int grow_chunk(std::uint64_t goal);
  int zero_fill(std::uint64_t from, std::uint64_t to, std::uint64_t& end) const;
  int sync() const;

  void run();
  bool wanted() const;
  void full(std::unique_lock<std::mutex>& lock);
  void report(std::unique_lock<std::mutex>& lock);
  bool must_refuse() const;

  const Options options_;
  int fd_ = -1;
  std::thread thread_;
  std::function<void(bool)> on_space_;

  std::mutex file_;  // held while the grower writes, or by a lease that keeps it out; taken before mutex_
  mutable std::mutex mutex_;
  std::condition_variable wake_grower_;
  std::condition_variable wake_writer_;
  bool stop_ = false;
  bool full_ = false;             // the last attempt failed
  bool told_ = false;             // on_space was called, and came back, with this
  std::uint64_t goal_ = 0;        // grow up to here
  std::uint64_t free_bytes_ = 0;  // inside the file, as of the last failure
  std::chrono::steady_clock::time_point retry_;

  std::atomic<std::uint64_t> used_{0};
  std::atomic<std::uint64_t> grown_{0};
  std::atomic<bool> refuse_{false};
};

// Whether an errno means that there is no room: the disk's, the quota's or the limit's on files.
bool is_full(int error);

// Logs one line and ends the process with status 1: the answer to every storage error behind open (store.h).
[[noreturn]] void storage_failed(const std::string& what, const std::string& error);

}  // namespace coord::store
