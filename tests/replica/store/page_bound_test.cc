// The bound against what LMDB really takes, with a reader that pins every freed page: the worst case.
#include "replica/store/page_bound.h"

#include <gtest/gtest.h>

#include <random>

#include "replica/store/batch_apply.h"
#include "tests/replica/store/store_testing.h"

namespace coord::store {
namespace {

struct Bench {
  explicit Bench(std::uint32_t seed) : random(seed) {
    EXPECT_EQ(env.open(dir.path(), 8ULL << 30, MDB_NOSYNC), 0);
    Txn txn;
    EXPECT_EQ(txn.begin(env, 0), 0);
    EXPECT_EQ(open_databases(txn.get(), MDB_CREATE, dbs), 0);
    EXPECT_EQ(write_all_meta(txn.get(), dbs, *make_meta(Sid{1})), 0);
    EXPECT_EQ(txn.commit(), 0);
    state.epochs = {1, 1, {}};
  }
  std::uint32_t pick(std::uint32_t below) { return static_cast<std::uint32_t>(random() % below); }
  std::string value() {
    const std::uint32_t kind = pick(20);
    if (kind == 0) return std::string(pick(300'000), 'L');
    if (kind < 4) return std::string(1900 + pick(200), 'b');  // around what still fits a leaf
    return std::string(pick(kind < 12 ? 100 : 1200), 's');
  }
  Batch random_batch() {
    Batch b;
    if (pick(15) == 0 && state.positions.last_logged > state.positions.commit_hint) {
      const std::uint64_t from = std::max(state.positions.commit_hint, Zxid{1, 1}).value;
      b.truncate_after = Zxid{from + random() % (state.positions.last_logged.value - from + 1)};
    }
    Zxid last = b.truncate_after.value_or(state.positions.last_logged);
    const std::uint32_t appends = pick(4) == 0 ? pick(400) : pick(4);
    for (std::uint32_t i = 0; i < appends; ++i) {
      const Zxid next = last.value == 0 ? Zxid{1, 1} : Zxid{last.value + 1};
      b.append.push_back({next, last, payload(value())});
      last = next;
    }
    if (pick(2) == 0 && last.value != 0) {
      b.fold = fold_at(last);
      const std::uint32_t changes = pick(4) == 0 ? pick(1500) : pick(10);
      const bool fresh = pick(2) == 0;
      for (std::uint32_t i = 0; i < changes; ++i) {
        const NodeId id{fresh ? next_node++ : pick(20'000)};
        if (!fresh && pick(3) == 0) {
          b.fold->nodes.emplace_back(id, std::nullopt);
        } else {
          b.fold->nodes.emplace_back(id, value());
        }
        if (i % 8 == 0) b.fold->sessions.emplace_back(SessionId{pick(500)}, std::string(pick(400), 'x'));
      }
    }
    return b;
  }
  void step() {
    Batch batch = random_batch();
    const PageBound bound(env.page_size());
    Work work;
    bound.add(batch, work);
    work.log.deletes = 2 * work.log.puts + 64;
    const std::uint64_t before = env.used_bytes();
    Txn txn;
    ASSERT_EQ(txn.begin(env, 0), 0);
    const std::uint64_t bytes = bound.pages(txn.get(), dbs, work) * env.page_size();
    BatchApply apply(txn.get(), dbs, env.page_size(), state);
    ASSERT_EQ(apply.apply(batch), 0);
    ASSERT_EQ(apply.purge({16U << 20, 3000, 2 * apply.entries() + 64}), 0);
    ASSERT_EQ(apply.finish(), 0);
    ASSERT_EQ(txn.commit(), 0);
    state = apply.state();
    const std::uint64_t taken = env.used_bytes() - before;
    ASSERT_LE(taken, bytes) << "entries " << work.log.puts << " node puts " << work.node.puts << " deletes "
                            << work.node.deletes << " truncates " << work.truncates;
    closest = std::max(closest, static_cast<double>(taken) / static_cast<double>(bytes));
  }

  TempDir dir;
  Env env;
  Databases dbs;
  State state;
  std::mt19937 random;
  std::uint64_t next_node = 20'000;
  double closest = 0;
};

class PageBoundTest : public ::testing::TestWithParam<bool> {};

TEST_P(PageBoundTest, no_transaction_takes_more) {
  const bool pinned = GetParam();
  double closest = 0;
  for (std::uint32_t seed = 1; seed <= 6 && !HasFatalFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Bench bench(seed);
    Txn reader;
    if (pinned) {
      ASSERT_EQ(reader.begin(bench.env, MDB_RDONLY), 0);
    }
    for (int i = 0; i < 250 && !HasFatalFailure(); ++i) bench.step();
    closest = std::max(closest, bench.closest);
  }
  RecordProperty("closest_percent", static_cast<int>(closest * 100));
  EXPECT_LT(closest, 0.9) << "too near to be a bound";
  if (pinned) {
    EXPECT_GT(closest, 0.2) << "so far off that it wastes the disk";
  }
}

INSTANTIATE_TEST_SUITE_P(Readers, PageBoundTest, ::testing::Bool());

}  // namespace
}  // namespace coord::store
