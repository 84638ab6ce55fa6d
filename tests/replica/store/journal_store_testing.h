// A store with a journal, and copies of its directory: what a crash at that moment leaves.
#pragma once

#include <gtest/gtest.h>
#include <lmdb.h>

#include <algorithm>
#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "replica/store/journal.h"
#include "replica/store/lmdb_env.h"
#include "replica/store/meta_records.h"
#include "replica/store/schema.h"
#include "tests/replica/store/store_testing.h"

namespace coord::store {

namespace fs = std::filesystem;

inline constexpr std::uint64_t kNever = 3'600'000;
inline const std::string kData = schema::kDataFile;
inline const std::string kJournal = journal::kFile;

inline void copy(const std::string& from, const std::string& to, const std::string& name) {
  fs::create_directory(to);
  fs::copy_file(from + "/" + name, to + "/" + name, fs::copy_options::overwrite_existing);
}

class JournalStoreTest : public ::testing::Test {
 protected:
  // The database lags until somebody asks for it, unless said otherwise.
  void SetUp() override {
    options.apply_age_ms = options.apply_quiet_ms = kNever;
    options.apply_bytes = 64 << 20;
  }
  void open() {
    store.reset();
    durable = std::make_unique<Durable>();
    auto opened = open_lmdb(options);
    ASSERT_TRUE(opened) << opened.error().message;
    store = std::move(*opened);
    durable->attach(*store);
    const std::uint32_t epoch = store->meta().epochs.current;
    writer.emplace(*store);
    writer->epoch = std::max(1U, epoch);
  }
  void commit(Batch batch) {
    const std::uint64_t id = batch.id;
    store->submit(std::move(batch));
    ASSERT_TRUE(durable->wait(id));
  }
  // What a power cut would leave now.
  std::string crash() {
    const std::string to = dir / ("crash" + std::to_string(++crashes));
    copy(options.directory, to, kData);
    if (fs::exists(options.directory + "/" + kJournal)) copy(options.directory, to, kJournal);
    return to;
  }
  Result<Contents, Fault> contents(const std::string& directory, bool salvage = false) {
    LmdbOptions other = options;
    other.directory = directory;
    other.salvage = salvage;
    auto opened = open_lmdb(other);
    if (!opened) return fail(opened.error());
    return read_all(**opened);
  }
  std::size_t entries_in(const std::string& directory) {
    const auto all = contents(directory);
    EXPECT_TRUE(all) << all.error().message;
    return all ? all->log.size() : 99'999;
  }
  void expect_fault(const std::string& directory, const char* why) {
    const auto all = contents(directory);
    ASSERT_FALSE(all) << "holds " << all->log.size();
    EXPECT_NE(all.error().message.find(why), std::string::npos) << all.error().message;
    EXPECT_NE(all.error().message.find(directory), std::string::npos) << all.error().message;
  }
  // The mark of a store that is closed, or of a copy.
  JournalMark mark_of(const std::string& directory) {
    Env env;
    Txn txn;
    MDB_dbi meta = 0;
    EXPECT_EQ(env.open(directory, options.map_bytes, MDB_RDONLY | MDB_NOLOCK), 0);
    EXPECT_EQ(txn.begin(env, MDB_RDONLY), 0);
    EXPECT_EQ(mdb_dbi_open(txn.get(), schema::kMetaDb, 0, &meta), 0);
    const auto mark = read_mark(txn.get(), meta);
    EXPECT_TRUE(mark) << mark.error().message;
    return mark ? *mark : JournalMark{};
  }
  std::vector<LogEntry> read_later(Zxid after, Zxid up_to) {
    std::promise<std::vector<LogEntry>> got;
    store->read_log_later(after, up_to, 1U << 20, [&](std::vector<LogEntry> entries) { got.set_value(entries); });
    return got.get_future().get();
  }

  TempDir dir;
  LmdbOptions options = small_options(dir / "data");
  std::unique_ptr<Durable> durable;
  std::unique_ptr<Store> store;
  std::optional<Writer> writer;
  int crashes = 0;
};

}  // namespace coord::store
