#include "replica/store/grow_ahead.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <random>

#include "tests/replica/store/small_disk.h"
#include "tests/replica/store/store_testing.h"

namespace coord::store {
namespace {

constexpr std::uint64_t kMiB = 1ULL << 20;
constexpr std::uint64_t kPage = 4096;

std::uint64_t file_size(const std::string& path) { return std::filesystem::file_size(path); }

class GrowAheadTest : public ::testing::Test {
 protected:
  Result<std::unique_ptr<GrowAhead>, Fault> open(std::uint64_t used, std::uint64_t limit = 1ULL << 40) {
    std::ofstream(path, std::ios::binary | std::ios::app).close();
    if (std::filesystem::file_size(path) < used) std::filesystem::resize_file(path, used);
    GrowAhead::Options options;
    options.path = path;
    options.step = 4 * kMiB;
    options.limit = limit;
    return GrowAhead::open(std::move(options), used);
  }
  TempDir dir;
  std::string path = dir / "file";
};

TEST_F(GrowAheadTest, a_file_that_cannot_be_opened_is_a_fault) {
  GrowAhead::Options options;
  options.path = dir / "none";
  EXPECT_FALSE(GrowAhead::open(std::move(options), 0));
}

TEST_F(GrowAheadTest, a_limit_below_the_minimum_is_a_fault) {
  const auto grow = open(kMiB, 4 * kMiB);
  ASSERT_FALSE(grow);
  EXPECT_NE(grow.error().message.find("4 MiB"), std::string::npos) << grow.error().message;
}

TEST_F(GrowAheadTest, the_first_step_is_there_after_open_and_is_real) {
  auto grow = open(10 * kPage);
  ASSERT_TRUE(grow) << grow.error().message;
  EXPECT_EQ((*grow)->space().grown_bytes, 10 * kPage + 4 * kMiB);
  struct stat st {};
  ASSERT_EQ(::stat(path.c_str(), &st), 0);
  EXPECT_EQ(static_cast<std::uint64_t>(st.st_size), 10 * kPage + 4 * kMiB);
  EXPECT_GE(static_cast<std::uint64_t>(st.st_blocks) * 512, 4 * kMiB) << "reserved, but not written";
}

TEST_F(GrowAheadTest, what_a_former_life_wrote_ahead_is_kept) {
  ASSERT_TRUE(open(10 * kPage));
  const std::uint64_t size = file_size(path);
  auto again = open(20 * kPage);
  ASSERT_TRUE(again);
  EXPECT_EQ(file_size(path), size + 10 * kPage);
}

TEST_F(GrowAheadTest, reserve_waits_for_more_than_the_step) {
  auto grow = open(0);
  ASSERT_TRUE(grow);
  (*grow)->start({});
  const auto lease = (*grow)->reserve(11 * kMiB);
  EXPECT_TRUE(lease.covered());
  EXPECT_GE(lease.limit(), 11 * kMiB);
  EXPECT_GE(file_size(path), 11 * kMiB);
}

TEST_F(GrowAheadTest, at_the_limit_the_writer_gets_the_file_for_itself_and_writes_are_refused) {
  auto grow = open(0, 5 * kMiB);
  ASSERT_TRUE(grow);
  std::mutex mutex;
  std::condition_variable changed;
  bool refuse = false;
  (*grow)->start([&](bool r) {
    const std::lock_guard lock(mutex);
    refuse = r;
    changed.notify_all();
  });
  {
    const auto lease = (*grow)->reserve(6 * kMiB);
    EXPECT_FALSE(lease.covered());
    (*grow)->committed(4 * kMiB);
  }
  std::unique_lock lock(mutex);
  EXPECT_TRUE(changed.wait_for(lock, std::chrono::seconds(30), [&] { return refuse; }));
  EXPECT_TRUE((*grow)->space().refuse_writes);
  EXPECT_EQ((*grow)->space().grown_bytes, 5 * kMiB);
}

TEST_F(GrowAheadTest, a_large_request_that_fails_does_not_refuse_writes_while_the_reserve_is_whole) {
  auto grow = open(0, 5 * kMiB);
  ASSERT_TRUE(grow);
  (*grow)->start({});
  for (int i = 0; i < 3; ++i) EXPECT_FALSE((*grow)->reserve(6 * kMiB).covered());
  EXPECT_FALSE((*grow)->space().refuse_writes);
}

// The one thing that must never happen: zeros over what was committed.
TEST_F(GrowAheadTest, nothing_below_the_lease_is_ever_overwritten) {
  constexpr std::uint64_t kLimit = 60 * kMiB;  // reached, so that both kinds of lease occur
  auto grow = open(0, kLimit);
  ASSERT_TRUE(grow);
  (*grow)->start({});
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  std::mt19937 random(3);
  std::uint64_t used = 0;
  bool alone = false;
  while (used < kLimit) {
    const std::uint64_t bytes = kPage * (1 + random() % (random() % 8 == 0 ? 1500 : 40));
    const auto lease = (*grow)->reserve(bytes);
    if (lease.covered()) {
      ASSERT_GE(lease.limit(), used + bytes);
    }
    alone = alone || !lease.covered();
    const std::string data(std::min(bytes, kLimit - used), '\xAB');
    ASSERT_EQ(::pwrite(fd, data.data(), data.size(), static_cast<off_t>(used)), static_cast<ssize_t>(data.size()));
    used += data.size();
    (*grow)->committed(used);
    const Space space = (*grow)->space();
    ASSERT_GE(space.grown_bytes, space.used_bytes);
  }
  EXPECT_TRUE(alone);
  grow->reset();
  ::close(fd);
  const std::string bytes = slurp(path);
  ASSERT_GE(bytes.size(), used);
  EXPECT_EQ(bytes.find_first_not_of('\xAB'), bytes.size() == used ? std::string::npos : used);
}

class FullDiskTest : public ::testing::Test {
 protected:
  void open(SmallDisk& disk) {
    LmdbOptions options = small_options(disk / "data");
    options.grow_bytes = 8 * kMiB;
    options.log_keep_bytes = kMiB;
    options.wait_for_room = waits;
    if (map_bytes != 0) options.map_bytes = map_bytes;
    auto opened = open_lmdb(options);
    ASSERT_TRUE(opened) << opened.error().message;
    store = std::move(*opened);
    durable = std::make_unique<Durable>();  // ids begin anew
    watch = std::make_unique<SpaceWatch>();
    durable->attach(*store);
    watch->attach(*store);
    writer.emplace(*store);
    commit(writer->adopt(1));
  }
  void commit(Batch batch) {
    store->submit(std::move(batch));
    ASSERT_TRUE(durable->wait(writer->id()));
  }
  // One entry, and 64 new nodes of 1 KiB.
  void write_nodes() {
    Batch b = writer->entries(1, "create");
    b.fold = fold_at(writer->last());
    for (int i = 0; i < 64; ++i) b.fold->nodes.emplace_back(NodeId{++node}, std::string(1000, 'n'));
    commit(std::move(b));
  }
  void delete_nodes(std::uint64_t count) {
    Batch b = writer->entries(1, "delete");
    b.fold = fold_at(writer->last());
    for (std::uint64_t i = 0; i < count && deleted < node; ++i)
      b.fold->nodes.emplace_back(NodeId{++deleted}, std::nullopt);
    commit(std::move(b));
  }
  // Writes until it is told to stop.
  void write_until_refused() {
    for (int i = 0; i < 2000 && !watch->refuse(); ++i) write_nodes();
    ASSERT_TRUE(watch->refuse());
  }
  // Writes, whatever it is told, until something waits; returns how many nodes are durable by then. With what is left
  // over of the largest transactions it must not become durable after all.
  void write_until_it_waits(std::uint64_t& safe) {
    for (int i = 0; i < 2000 && !store->space().waiting; ++i) {
      safe = node;
      Batch b = writer->entries(1, "create");
      b.fold = fold_at(writer->last());
      for (int k = 0; k < 64; ++k) b.fold->nodes.emplace_back(NodeId{++node}, std::string(1000, 'n'));
      store->submit(std::move(b));
      while (!store->space().waiting && durable->reached() < writer->id()) std::this_thread::yield();
    }
    ASSERT_TRUE(store->space().waiting);
    EXPECT_LT(durable->reached(), writer->id()) << "reported durable, and has no room";
  }
  void write_behind() {
    store->submit(writer->entries(3, "more"));
    written = writer->last();
  }
  void look_again(std::uint64_t least) {
    const auto all = read_all(*store);
    ASSERT_TRUE(all) << all.error().message;
    EXPECT_EQ(all->nodes.size() % 64, 0U);
    EXPECT_GE(all->nodes.size(), least);
  }

  bool waits = false;
  Zxid written;
  std::uint64_t map_bytes = 0;
  std::unique_ptr<Durable> durable;
  std::unique_ptr<SpaceWatch> watch;
  std::unique_ptr<Store> store;  // goes before what its threads call
  std::optional<Writer> writer;
  std::uint64_t node = 0;
  std::uint64_t deleted = 0;
};

TEST_F(FullDiskTest, no_room_for_the_minimum_is_a_fault_at_open) {
  NEEDS_ROOT();
  SmallDisk disk(3 * kMiB);
  ASSERT_TRUE(disk.mounted());
  const auto opened = open_lmdb(small_options(disk / "data"));
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().message.find("4 MiB"), std::string::npos) << opened.error().message;
}

TEST_F(FullDiskTest, a_disk_with_room_for_less_than_a_step_is_enough_to_start) {
  NEEDS_ROOT();
  SmallDisk disk(7 * kMiB);
  ASSERT_TRUE(disk.mounted());
  ASSERT_NO_FATAL_FAILURE(open(disk));
  write_nodes();
  EXPECT_FALSE(store->space().refuse_writes);
}

TEST_F(FullDiskTest, writes_are_refused_deletes_pass_and_it_recovers_when_space_comes_back) {
  NEEDS_ROOT();
  SmallDisk disk(64 * kMiB);
  ASSERT_TRUE(disk.mounted());
  ASSERT_NO_FATAL_FAILURE(open(disk));
  disk.fill();
  write_until_refused();
  const Space space = store->space();
  EXPECT_TRUE(space.refuse_writes);
  EXPECT_GE(space.grown_bytes, space.used_bytes + kMiB) << "the reserve is for deletes";
  for (int i = 0; i < 20; ++i) delete_nodes(10);
  Batch close_session = writer->entries(1, "closeSession");
  close_session.fold = fold_at(writer->last());
  close_session.fold->sessions.emplace_back(SessionId{1}, std::nullopt);
  commit(std::move(close_session));
  EXPECT_TRUE(watch->refuse());
  disk.empty();
  ASSERT_TRUE(watch->wait(false)) << "space came back, and nobody noticed";
  for (int i = 0; i < 50; ++i) write_nodes();
  EXPECT_FALSE(watch->refuse());
  store.reset();
  ASSERT_NO_FATAL_FAILURE(open(disk));
  EXPECT_EQ(read_all(*store)->nodes.size(), node - deleted);
}

TEST_F(FullDiskTest, a_database_that_was_emptied_takes_writes_again_on_a_disk_that_stays_full) {
  NEEDS_ROOT();
  SmallDisk disk(64 * kMiB);
  ASSERT_TRUE(disk.mounted());
  ASSERT_NO_FATAL_FAILURE(open(disk));
  while (store->space().used_bytes < 30 * kMiB) write_nodes();
  disk.fill();
  write_until_refused();
  while (deleted + 100 < node) delete_nodes(200);
  ASSERT_TRUE(watch->wait(false));
  for (int i = 0; i < 20; ++i) write_nodes();
  EXPECT_FALSE(watch->refuse());
}

TEST_F(FullDiskTest, opening_on_a_full_disk_works_with_the_reserve_of_the_last_life) {
  NEEDS_ROOT();
  SmallDisk disk(64 * kMiB);
  ASSERT_TRUE(disk.mounted());
  ASSERT_NO_FATAL_FAILURE(open(disk));
  write_nodes();
  store.reset();
  disk.fill();
  ASSERT_NO_FATAL_FAILURE(open(disk));
  EXPECT_EQ(read_all(*store)->nodes.size(), 64U);
  write_nodes();
  EXPECT_EQ(read_all(*store)->nodes.size(), 128U);
}

TEST_F(FullDiskTest, what_does_not_fit_waits_for_room) {
  NEEDS_ROOT();
  SmallDisk disk(24 * kMiB);
  ASSERT_TRUE(disk.mounted());
  waits = true;
  ASSERT_NO_FATAL_FAILURE(open(disk));
  disk.fill();
  std::uint64_t safe = 0;
  ASSERT_NO_FATAL_FAILURE(write_until_it_waits(safe));
  EXPECT_FALSE(store->space().map_full);
  write_behind();
  disk.empty();
  ASSERT_TRUE(durable->wait(writer->id())) << "space came back, and nobody noticed";
  EXPECT_FALSE(store->space().waiting);
  store.reset();
  ASSERT_NO_FATAL_FAILURE(open(disk));
  look_again(node);
}

TEST_F(FullDiskTest, what_waits_for_room_does_not_hold_up_the_end_and_is_dropped) {
  NEEDS_ROOT();
  SmallDisk disk(24 * kMiB);
  ASSERT_TRUE(disk.mounted());
  waits = true;
  ASSERT_NO_FATAL_FAILURE(open(disk));
  disk.fill();
  std::uint64_t safe = 0;
  ASSERT_NO_FATAL_FAILURE(write_until_it_waits(safe));
  write_behind();
  store.reset();
  EXPECT_FALSE(open_lmdb(small_options(disk / "data"))) << "the reserve is gone";
  disk.empty();
  ASSERT_NO_FATAL_FAILURE(open(disk));
  look_again(safe);
  EXPECT_LT(store->meta().last_logged, written) << "it never fitted";
}

TEST_F(FullDiskTest, a_map_that_is_used_up_is_waited_for_too) {
  NEEDS_ROOT();
  SmallDisk disk(200 * kMiB);
  ASSERT_TRUE(disk.mounted());
  waits = true;
  map_bytes = 24 * kMiB;
  ASSERT_NO_FATAL_FAILURE(open(disk));
  std::uint64_t safe = 0;
  ASSERT_NO_FATAL_FAILURE(write_until_it_waits(safe));
  EXPECT_TRUE(store->space().map_full);
  store.reset();
  LmdbOptions same = small_options(disk / "data");
  same.map_bytes = map_bytes;
  const auto again = open_lmdb(same);
  ASSERT_FALSE(again) << "the reserve is gone";
  EXPECT_NE(again.error().message.find("coord.mapSize"), std::string::npos) << again.error().message;
  map_bytes = 100 * kMiB;
  ASSERT_NO_FATAL_FAILURE(open(disk));
  look_again(safe);
  for (int i = 0; i < 20; ++i) write_nodes();
}

using FullDiskDeathTest = FullDiskTest;

TEST_F(FullDiskDeathTest, who_writes_on_regardless_ends_with_a_line_and_loses_nothing) {
  NEEDS_ROOT();
  GTEST_FLAG_SET(death_test_style, "fast");
  SmallDisk disk(24 * kMiB);
  ASSERT_TRUE(disk.mounted());
  EXPECT_EXIT(
      {
        open(disk);
        disk.fill();
        for (int i = 0; i < 2000; ++i) write_nodes();
      },
      ::testing::ExitedWithCode(1), "commit in .*data.mdb");
  EXPECT_FALSE(open_lmdb(small_options(disk / "data"))) << "the reserve is gone";
  disk.empty();
  ASSERT_NO_FATAL_FAILURE(open(disk));
  const auto all = read_all(*store);
  ASSERT_TRUE(all) << all.error().message;
  EXPECT_EQ(all->nodes.size() % 64, 0U);
  EXPECT_GT(all->nodes.size(), 1000U);
}

}  // namespace
}  // namespace coord::store
