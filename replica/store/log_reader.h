// Reads pieces of the durable log for learners, on a thread of its own, in short read transactions. Shell.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "replica/store/lmdb_env.h"
#include "replica/store/meta_records.h"
#include "replica/store/store.h"

namespace coord::store {

// The entry of a log record; false: it is damaged.
bool decode_log_record(std::string_view key, std::string_view record, LogEntry& entry);

class LogReader {
 public:
  // `failed` does not return.
  using Failed = std::function<void(const std::string& what, const std::string& error)>;
  // `settle`, on the reader's thread, before each read: makes everything durable visible.
  LogReader(const Env& env, std::function<void()> settle, Failed failed)
      : env_(env), settle_(std::move(settle)), failed_(std::move(failed)) {}
  ~LogReader();  // what was not begun is dropped

  struct Job {
    Zxid after, up_to;
    std::size_t max_bytes = 0;
    std::function<void(std::vector<LogEntry>)> done;
  };
  void submit(MDB_dbi log, Job job);

 private:
  void run();
  std::vector<LogEntry> read(const Job& job) const;

  const Env& env_;
  const std::function<void()> settle_;
  const Failed failed_;
  MDB_dbi log_ = 0;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> jobs_;
  bool stop_ = false;
  std::thread thread_;  // starts with the first job
};

}  // namespace coord::store
