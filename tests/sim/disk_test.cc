// The simulated disk keeps LMDB's promise, and breaks it when a barrier is missing.
#include "tests/sim/disk.h"

#include <gtest/gtest.h>

namespace coord::sim {
namespace {

struct Process final : Disk::User {
  std::uint64_t told = 0;
  Disk* disk = nullptr;
  int die_at = -1;
  bool power_cut = true;
  bool error = false;
  void durable(std::uint64_t id) override { told = id; }
  bool stage(Stage stage) override {
    if (static_cast<int>(stage) != die_at) return false;
    disk->crash(power_cut);
    return true;
  }
  void storage_error() override {
    error = true;
    disk->crash(false);
  }
  void wrong(const std::string& what) override { ADD_FAILURE() << what; }
  void truncated(const std::vector<zab::LogEntry>&) override {}
};

zab::LogEntry entry(std::uint32_t counter) {
  return {Zxid{1, counter}, counter == 1 ? Zxid{} : Zxid{1, counter - 1}, std::make_shared<const std::string>("x"), {}};
}

void run(Scheduler& scheduler) {
  while (scheduler.run_one(scheduler.now_us() + 10'000'000)) {
  }
}

// How many of ten batches, each of 5 entries, survive a death at `stage` of the last one.
std::size_t survivors(Mutant mutant, int stage, std::uint64_t seed, bool power_cut, std::uint64_t& told,
                      bool& damaged) {
  Scheduler scheduler;
  Random random(seed);
  Disk disk(scheduler, random, mutant, "d");
  Process process;
  process.disk = &disk;
  process.power_cut = power_cut;
  disk.open(process);
  for (std::uint32_t batch = 0; batch < 10; ++batch) {
    if (batch == 9) process.die_at = stage;
    DiskBatch one;
    one.id = batch + 1;
    for (std::uint32_t i = 1; i <= 5; ++i) one.ops.emplace_back(AppendOp{entry(batch * 5 + i)});
    disk.submit(std::move(one));
    run(scheduler);
  }
  if (stage < 0) disk.crash(power_cut);
  told = process.told;
  Process next;
  disk.open(next);
  damaged = disk.visible().damaged;
  return disk.visible().log.size();
}

TEST(SimDisk, A_batch_survives_whole_or_not_at_all) {
  for (int stage = -1; stage < kStages; ++stage) {
    for (std::uint64_t seed = 1; seed < 40; ++seed) {
      for (const bool power_cut : {true, false}) {
        std::uint64_t told = 0;
        bool damaged = false;
        const std::size_t left = survivors(Mutant::kNone, stage, seed, power_cut, told, damaged);
        EXPECT_FALSE(damaged);
        EXPECT_TRUE(left == 45 || left == 50) << left;
        EXPECT_GE(left, told * 5);
      }
    }
  }
}

TEST(SimDisk, Without_its_barriers_it_loses_or_tears) {
  for (const Mutant mutant : {Mutant::kFsyncSkipped, Mutant::kRootBeforePages}) {
    int lost = 0, torn = 0;
    for (std::uint64_t seed = 1; seed < 60; ++seed) {
      std::uint64_t told = 0;
      bool damaged = false;
      const std::size_t left = survivors(mutant, -1, seed, true, told, damaged);
      if (left < told * 5) ++lost;
      if (damaged || left % 5 != 0) ++torn;
    }
    EXPECT_GT(lost, 10);
    EXPECT_GT(torn, 5);
  }
}

TEST(SimDisk, A_killed_process_leaves_the_page_cache) {
  for (std::uint64_t seed = 1; seed < 20; ++seed) {
    std::uint64_t told = 0;
    bool damaged = false;
    EXPECT_EQ(survivors(Mutant::kFsyncSkipped, -1, seed, false, told, damaged), 50u);
  }
}

TEST(SimDisk, A_failed_sync_ends_the_process_and_leaves_the_old_root) {
  Scheduler scheduler;
  Random random(1);
  Disk disk(scheduler, random, Mutant::kNone, "d");
  Process process;
  process.disk = &disk;
  disk.open(process);
  disk.fail_next_sync();
  disk.submit({1, {AppendOp{entry(1)}}});
  run(scheduler);
  EXPECT_TRUE(process.error);
  EXPECT_EQ(process.told, 0u);
  disk.open(process);
  EXPECT_TRUE(disk.visible().log.empty());
}

TEST(SimDisk, A_bit_flip_is_found_and_keeps_the_promises) {
  Scheduler scheduler;
  Random random(1);
  Disk disk(scheduler, random, Mutant::kNone, "d");
  Process process;
  process.disk = &disk;
  disk.open(process);
  disk.submit({1, {PromiseOp{3, Sid{2}}, AdoptOp{3}, AppendOp{entry(1)}}});
  run(scheduler);
  disk.crash(true);
  disk.flip_bit();
  disk.open(process);
  EXPECT_TRUE(disk.visible().damaged);
  EXPECT_TRUE(disk.visible().log.empty());
  EXPECT_EQ(disk.visible().accepted_epoch, 3u);
}

TEST(SimDisk, A_tree_travels_and_damage_is_seen) {
  Tree tree{Zxid{2, 7}, 12, 99, {{Sid{1}, "a"}, {Sid{2}, "b"}}, {Zxid{2, 5}, {Sid{1}, Sid{2}}, {Sid{4}}, {}}};
  std::string bytes = encode_tree(tree, 100);
  const std::optional<Tree> back = decode_tree(bytes);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->zxid, tree.zxid);
  EXPECT_EQ(back->enrolled, tree.enrolled);
  bytes[bytes.size() / 2] ^= 1;
  EXPECT_FALSE(decode_tree(bytes));
}

}  // namespace
}  // namespace coord::sim
