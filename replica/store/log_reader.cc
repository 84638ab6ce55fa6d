#include "replica/store/log_reader.h"

#include <utility>

#include "replica/store/schema.h"

namespace coord::store {

bool decode_log_record(std::string_view key, std::string_view record, LogEntry& entry) {
  std::string_view body;
  if (key.size() != schema::kKeySize || !schema::unseal(key, record, body) || body.size() < schema::kKeySize) {
    return false;
  }
  entry.zxid = Zxid{schema::get_u64(key.data())};
  entry.previous = Zxid{schema::get_u64(body.data())};
  entry.payload = std::make_shared<const std::string>(body.substr(schema::kKeySize));
  return true;
}

LogReader::~LogReader() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    jobs_.clear();
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void LogReader::submit(MDB_dbi log, Job job) {
  const std::lock_guard lock(mutex_);
  log_ = log;
  jobs_.push_back(std::move(job));
  wake_.notify_one();
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
}

void LogReader::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
    if (stop_) return;
    const Job job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    settle_();
    job.done(read(job));
    lock.lock();
  }
}

std::vector<LogEntry> LogReader::read(const Job& job) const {
  std::vector<LogEntry> entries;
  Txn txn;
  Cursor cursor;
  int rc = txn.begin(env_, MDB_RDONLY);
  if (rc == 0) rc = cursor.open(txn.get(), log_);
  const schema::Key from(job.after.value + 1);
  MDB_val key = to_val(from.view());
  MDB_val value{};
  if (rc == 0) rc = cursor.get(key, value, MDB_SET_RANGE);
  std::size_t bytes = 0;
  Zxid previous = job.after;
  for (; rc == 0; rc = cursor.get(key, value, MDB_NEXT)) {
    LogEntry entry;
    if (!decode_log_record(to_view(key), to_view(value), entry)) {
      failed_("read of the log above " + to_string(previous), "a checksum is wrong");
    }
    if (entry.zxid > job.up_to) break;
    if (entry.previous != previous) {
      if (entries.empty()) return {};  // what follows `after` was purged
      failed_("read of the log above " + to_string(previous), "an entry is missing");
    }
    previous = entry.zxid;
    bytes += entry.payload->size();
    entries.push_back(std::move(entry));
    if (bytes >= job.max_bytes) break;
  }
  if (rc != 0 && rc != MDB_NOTFOUND) failed_("read of the log", lmdb_text(rc));
  return entries;
}

}  // namespace coord::store
