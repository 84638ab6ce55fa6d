// What a purge leaves to those who still look at an older state.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "replica/store/batch_apply.h"
#include "replica/store/lmdb_env.h"
#include "replica/store/lmdb_snapshot.h"
#include "replica/store/meta_records.h"
#include "tests/replica/store/store_testing.h"

namespace coord::store {
namespace {

// Between the moment when a source looks and the moment when its pin is seen there is one transaction of the writer.
TEST(PurgeTest, stays_below_the_tree_that_others_still_see) {
  TempDir dir;
  Env env;
  Databases dbs;
  State state;
  ASSERT_EQ(env.open(dir.path(), 1ULL << 30, 0), 0);
  {
    Txn txn;
    ASSERT_EQ(txn.begin(env, 0), 0);
    ASSERT_EQ(open_databases(txn.get(), MDB_CREATE, dbs), 0);
    ASSERT_EQ(write_all_meta(txn.get(), dbs, *make_meta(Sid{1})), 0);
    ASSERT_EQ(txn.commit(), 0);
  }
  state.epochs = {1, 1, {}};
  const auto step = [&](Batch batch) {
    Txn txn;
    ASSERT_EQ(txn.begin(env, 0), 0);
    BatchApply apply(txn.get(), dbs, env.page_size(), state);
    ASSERT_EQ(apply.apply(batch), 0);
    PurgeLimits limits;
    limits.keep_bytes = ~std::uint64_t{0};
    limits.keep_entries = 1;
    limits.slice = 1000;
    ASSERT_EQ(apply.purge(limits), 0);
    ASSERT_EQ(apply.finish(), 0);
    ASSERT_EQ(txn.commit(), 0);
    state = apply.state();
  };
  Batch entries;
  for (std::uint32_t n = 1; n <= 100; ++n) {
    entries.append.push_back({Zxid{1, n}, n == 1 ? Zxid{} : Zxid{1, n - 1}, payload("x")});
  }
  ASSERT_NO_FATAL_FAILURE(step(std::move(entries)));
  Batch fold;
  fold.fold = fold_at(Zxid{1, 90});
  auto source = LmdbSnapshotSource::open(env, dbs, std::make_shared<Pins>(), dir.path());
  ASSERT_TRUE(source);
  ASSERT_NO_FATAL_FAILURE(step(std::move(fold)));
  EXPECT_LE(state.positions.log_floor, (*source)->zxid());
  ASSERT_NO_FATAL_FAILURE(step(Batch{}));
  EXPECT_EQ(state.positions.log_floor, (Zxid{1, 90}));
}

}  // namespace
}  // namespace coord::store
