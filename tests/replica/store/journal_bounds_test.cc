// The store with its journal at its limits: a journal that comes around, what waits for the database, batches too
// large, bad batches, writes that fail, a disk that is full.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>

#include "tests/replica/store/journal_store_testing.h"
#include "tests/replica/store/small_disk.h"

namespace coord::store {
namespace {

using JournalBoundsTest = JournalStoreTest;

TEST_F(JournalBoundsTest, a_small_journal_comes_around_many_times_though_nobody_applies_by_himself) {
  options.journal_bytes = 64 << 10;
  open();
  commit(writer->adopt(1));
  for (int i = 0; i < 300; ++i) writer->submit(writer->entries(1, std::string(9000, static_cast<char>('a' + i % 26))));
  ASSERT_TRUE(durable->wait(writer->id()));
  EXPECT_GT(store->counters().applied, 10U);
  const auto all = contents(crash());
  ASSERT_TRUE(all) << all.error().message;
  ASSERT_EQ(all->log.size(), 300U);
  for (std::size_t i = 0; i < 300; ++i) ASSERT_EQ((*all->log[i].payload)[0], static_cast<char>('a' + i % 26));
}

TEST_F(JournalBoundsTest, what_waits_for_the_database_is_bounded) {
  options.journal_bytes = 64 << 20;
  options.apply_bytes = 0;
  open();
  commit(writer->adopt(1));
  const std::string text(100'000, 'x');
  for (int i = 0; i < 400; ++i) writer->submit(writer->entries(1, text));  // 40 MB
  ASSERT_TRUE(durable->wait(writer->id()));
  EXPECT_GE(store->counters().applied, 4U);
  EXPECT_LE(400 - mark_of(crash()).sequence, 400U);
  for (int i = 0; i < 30'000; ++i) {  // nothing to journal, and yet not without end
    Batch b = writer->batch();
    b.commit_hint = Zxid{1, 1};
    writer->submit(std::move(b));
  }
  ASSERT_TRUE(durable->wait(writer->id()));
}

TEST_F(JournalBoundsTest, a_batch_too_large_for_the_journal_goes_to_the_database) {
  options.journal_bytes = 64 << 10;
  open();
  commit(writer->adopt(1));
  commit(writer->entries(1, "small"));
  commit(writer->entries(2, std::string(100'000, 'x')));
  commit(writer->entries(1, "small"));
  EXPECT_EQ(entries_in(crash()), 4U);
  EXPECT_EQ(store->counters().journaled, 2U);
}

TEST_F(JournalBoundsTest, without_a_journal_each_batch_is_a_transaction) {
  options.journal_bytes = 0;
  open();
  commit(writer->adopt(1));
  commit(writer->entries(1, "x"));
  EXPECT_FALSE(fs::exists(options.directory + "/" + kJournal));
  EXPECT_EQ(store->counters().journaled, 0U);
  EXPECT_EQ(entries_in(crash()), 1U);
  options.journal_bytes = 64 << 10;
  open();
  commit(writer->entries(1, "y"));
  EXPECT_EQ(store->counters().journaled, 1U);
  const std::string left = crash();
  options.journal_bytes = 0;  // what is left is taken over all the same
  EXPECT_EQ(entries_in(left), 2U);
}

TEST_F(JournalBoundsTest, a_size_that_makes_no_sense_is_a_fault) {
  for (const std::uint64_t bytes : {std::uint64_t{1}, std::uint64_t{1} << 40}) {
    options.journal_bytes = bytes;
    EXPECT_FALSE(open_lmdb(options));
  }
}

using JournalBoundsDeathTest = JournalBoundsTest;

TEST_F(JournalBoundsDeathTest, what_contradicts_the_log_is_not_journaled) {
  GTEST_FLAG_SET(death_test_style, "fast");
  open();
  commit(writer->adopt(1));
  commit(writer->entries(2, "x"));
  const std::string left = crash();
  store.reset();
  options.directory = left;
  const auto leave_a_gap = [&] {
    open();
    commit(writer->entries(1, "good"));
    Batch bad = writer->batch();
    bad.append = {{Zxid{1, 9}, Zxid{1, 8}, payload("x")}};
    commit(std::move(bad));
  };
  EXPECT_DEATH(leave_a_gap(), "gap in the log");
  EXPECT_EQ(entries_in(left), 3U);
}

TEST_F(JournalBoundsDeathTest, a_journal_that_cannot_be_written_ends_the_process_and_nothing_is_lost) {
  GTEST_FLAG_SET(death_test_style, "fast");
  open();
  commit(writer->adopt(1));
  store.reset();
  const auto write_beyond_the_limit = [&] {
    open();
    commit(writer->entries(3, "good"));
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{8192, 8192};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    commit(writer->entries(1, "bad"));
  };
  EXPECT_DEATH(write_beyond_the_limit(), "writing .*journal");
  EXPECT_EQ(entries_in(options.directory), 3U);
}

// --- a disk that is full

TEST_F(JournalBoundsTest, on_a_disk_that_fills_up_all_that_was_acknowledged_fits_the_database) {
  NEEDS_ROOT();
  SmallDisk disk(96 << 20);
  ASSERT_TRUE(disk.mounted());
  options.directory = disk / "data";
  options.grow_bytes = 16 << 20;
  open();
  SpaceWatch watch;
  watch.attach(*store);
  commit(writer->adopt(1));
  commit(writer->entries(1, "x"));
  EXPECT_EQ(store->counters().journaled, 1U);
  disk.fill();
  std::size_t entries = 1;
  std::string left;
  while (!watch.refuse() && entries < 40'000) {
    commit(writer->entries(20, std::string(1000, 'x')));
    entries += 20;
    if (entries % 2000 == 1) {
      left = crash();
      ASSERT_EQ(entries_in(left), entries);
      fs::remove_all(left);
    }
  }
  ASSERT_TRUE(watch.refuse());
  commit(writer->entries(1, "a deletion"));
  // The process ends here as in a crash, and starts again on the disk that is still full.
  const std::string data = options.directory + "/" + kData;
  const std::string saved = slurp(data);
  const std::string journal_saved = slurp(options.directory + "/" + kJournal);
  store.reset();
  std::ofstream(data, std::ios::binary | std::ios::in) << saved;
  std::ofstream(options.directory + "/" + kJournal, std::ios::binary | std::ios::in) << journal_saved;
  EXPECT_EQ(entries_in(options.directory), entries + 1);
  disk.empty();
  open();
  commit(writer->entries(1, "x"));
  EXPECT_EQ(read_all(*store)->log.size(), entries + 2);
}

TEST_F(JournalBoundsTest, a_disk_without_room_for_a_journal_does_without) {
  NEEDS_ROOT();
  SmallDisk disk(7 << 20);
  ASSERT_TRUE(disk.mounted());
  options.directory = disk / "data";
  options.journal_bytes = 4 << 20;
  open();
  commit(writer->adopt(1));
  commit(writer->entries(1, "x"));
  EXPECT_EQ(store->counters().journaled, 0U);
  EXPECT_FALSE(fs::exists(options.directory + "/" + kJournal));
  EXPECT_FALSE(fs::exists(options.directory + "/" + journal::kNewFile));
}

}  // namespace
}  // namespace coord::store
