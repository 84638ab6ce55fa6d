// The contract of the face, on both stores.
#include "replica/store/store.h"

#include <gtest/gtest.h>

#include "replica/store/memory_store.h"
#include "tests/replica/store/store_testing.h"

namespace coord::store {
namespace {

enum class Kind { kLmdb, kMemory };

class StoreTest : public ::testing::TestWithParam<Kind> {
 protected:
  void open() {
    store.reset();
    if (GetParam() == Kind::kMemory) {
      MemoryStore::Options options;
      options.log_keep_entries = keep_entries;
      store = std::make_unique<MemoryStore>(disk, options);
    } else {
      LmdbOptions options = small_options(dir / "data");
      options.log_keep_entries = keep_entries;
      auto opened = open_lmdb(options);
      ASSERT_TRUE(opened) << opened.error().message;
      store = std::move(*opened);
    }
    durable = std::make_unique<Durable>();
    durable->attach(*store);
    const Writer old = writer ? *writer : Writer(*store);
    writer.emplace(*store);
    writer->epoch = old.epoch;
  }
  void commit(Batch batch) {
    const std::uint64_t id = batch.id;
    store->submit(std::move(batch));
    ASSERT_TRUE(durable->wait(id));
  }
  Contents reopen() {
    open();
    auto all = read_all(*store);
    EXPECT_TRUE(all) << all.error().message;
    return all ? *all : Contents{};
  }

  TempDir dir;
  std::shared_ptr<MemoryDisk> disk = std::make_shared<MemoryDisk>();
  std::uint64_t keep_entries = 100'000;
  std::unique_ptr<Durable> durable;
  std::unique_ptr<Store> store;  // goes before what its thread calls
  std::optional<Writer> writer;
};

TEST_P(StoreTest, a_new_store_is_empty_and_keeps_its_identity) {
  open();
  const Meta first = store->meta();
  EXPECT_EQ(first.directory_id.size(), 16U);
  EXPECT_EQ(first.cluster_id, "") << "virgin";
  EXPECT_EQ(first.secret, "");
  EXPECT_FALSE(first.damaged);
  EXPECT_EQ(first.epochs.accepted, 0U);
  EXPECT_EQ(first.last_logged, Zxid{});
  const Contents again = reopen();
  EXPECT_EQ(again.meta.directory_id, first.directory_id);
  EXPECT_EQ(again.meta.cluster_id, "");
  EXPECT_TRUE(again.log.empty());
  EXPECT_TRUE(again.nodes.empty());
  EXPECT_EQ(again.counters, "");
}

TEST_P(StoreTest, each_kind_of_batch_is_there_after_a_reopen) {
  open();
  Batch promise = writer->batch();
  promise.epochs = Epochs{3, 0, {}};
  commit(std::move(promise));
  Contents all = reopen();
  EXPECT_EQ(all.meta.epochs.accepted, 3U);
  EXPECT_EQ(all.meta.epochs.current, 0U);

  commit(writer->adopt(3));
  all = reopen();
  EXPECT_EQ(all.meta.epochs.current, 3U);

  commit(writer->entries(3, std::string("\0binary", 7)));
  all = reopen();
  ASSERT_EQ(all.log.size(), 3U);
  EXPECT_EQ(*all.log[2].payload, std::string("\0binary", 7));
  EXPECT_EQ(all.log[0].previous, Zxid{});
  EXPECT_EQ(all.log[2].previous, (Zxid{3, 2}));
  EXPECT_EQ(all.meta.last_logged, (Zxid{3, 3}));
  EXPECT_EQ(all.meta.commit_hint, Zxid{});

  commit(writer->entries(1, ""));  // an empty payload, and a large one
  commit(writer->entries(1, std::string(1 << 20, 'x')));
  Batch hint = writer->batch();
  hint.commit_hint = Zxid{3, 3};
  commit(std::move(hint));
  all = reopen();
  EXPECT_EQ(all.meta.commit_hint, (Zxid{3, 3}));
  ASSERT_EQ(all.log.size(), 5U);
  EXPECT_TRUE(all.log[3].payload->empty());
  EXPECT_EQ(all.log[4].payload->size(), 1U << 20);

  Batch fold = writer->batch();
  fold.fold = fold_at(Zxid{3, 4});
  fold.fold->nodes = {{NodeId{7}, "seven"}, {NodeId{1}, ""}, {NodeId{9}, std::nullopt}};
  fold.fold->sessions = {{SessionId{-5}, "minus five"}, {SessionId{8}, "eight"}};
  commit(std::move(fold));
  all = reopen();
  EXPECT_EQ(all.meta.tree_durable, (Zxid{3, 4}));
  EXPECT_EQ(all.meta.commit_hint, (Zxid{3, 4})) << "what is in the tree was committed";
  EXPECT_EQ(all.nodes, (std::map<std::uint64_t, std::string>{{1, ""}, {7, "seven"}}));
  EXPECT_EQ(all.sessions, (std::map<std::int64_t, std::string>{{-5, "minus five"}, {8, "eight"}}));
  EXPECT_EQ(all.counters, "counters at " + to_string(Zxid{3, 4}));

  Batch second = writer->batch();
  second.fold = fold_at(Zxid{3, 5});
  second.fold->nodes = {{NodeId{7}, std::nullopt}, {NodeId{1}, "root"}};
  second.fold->sessions = {{SessionId{-5}, std::nullopt}};
  commit(std::move(second));
  all = reopen();
  EXPECT_EQ(all.nodes, (std::map<std::uint64_t, std::string>{{1, "root"}}));
  EXPECT_EQ(all.sessions.size(), 1U);
}

TEST_P(StoreTest, one_batch_is_applied_in_the_promised_order) {
  open();
  commit(writer->adopt(1));
  commit(writer->entries(5, "old"));
  // What a follower does on NEWLEADER: cut, append, adopt, hint and fold at once.
  Batch all_in_one = writer->batch();
  all_in_one.truncate_after = Zxid{1, 2};
  all_in_one.append = {{Zxid{2, 1}, Zxid{1, 2}, payload("new")}};
  all_in_one.epochs = Epochs{2, 2, {}};
  all_in_one.commit_hint = Zxid{2, 1};
  all_in_one.fold = fold_at(Zxid{2, 1});
  commit(std::move(all_in_one));
  const Contents all = reopen();
  ASSERT_EQ(all.log.size(), 3U);
  EXPECT_EQ(all.log[2].zxid, (Zxid{2, 1}));
  EXPECT_EQ(*all.log[2].payload, "new");
  EXPECT_EQ(all.meta.tree_durable, (Zxid{2, 1}));
}

TEST_P(StoreTest, truncate_to_the_end_to_the_middle_and_to_nothing) {
  open();
  commit(writer->adopt(1));
  commit(writer->entries(4, "x"));
  Batch nothing = writer->batch();
  nothing.truncate_after = Zxid{1, 4};
  commit(std::move(nothing));
  EXPECT_EQ(reopen().log.size(), 4U);
  Batch middle = writer->batch();
  middle.truncate_after = Zxid{1, 1};
  commit(std::move(middle));
  Contents all = reopen();
  EXPECT_EQ(all.log.size(), 1U);
  EXPECT_EQ(all.meta.last_logged, (Zxid{1, 1}));
  Batch empty = writer->batch();
  empty.truncate_after = Zxid{};
  commit(std::move(empty));
  all = reopen();
  EXPECT_TRUE(all.log.empty());
  EXPECT_EQ(all.meta.last_logged, Zxid{});
  commit(writer->entries(2, "again"));
  EXPECT_EQ(reopen().log.size(), 2U);
}

TEST_P(StoreTest, a_tree_from_elsewhere_gives_an_empty_log_its_floor) {
  open();
  commit(writer->adopt(5));
  Batch snapshot = writer->batch();
  snapshot.fold = fold_at(Zxid{5, 10});
  snapshot.fold->nodes = {{NodeId{1}, "root"}};
  commit(std::move(snapshot));
  Contents all = reopen();
  EXPECT_EQ(all.meta.log_floor, (Zxid{5, 10}));
  EXPECT_EQ(all.meta.last_logged, (Zxid{5, 10}));
  commit(writer->entries(1, "next"));
  all = reopen();
  ASSERT_EQ(all.log.size(), 1U);
  EXPECT_EQ(all.log[0].zxid, (Zxid{5, 11}));
}

TEST_P(StoreTest, read_log_begins_above_what_is_asked_for_and_refuses_what_was_purged) {
  keep_entries = 10;
  open();
  commit(writer->adopt(1));
  for (int i = 0; i < 50; ++i) {
    Batch b = writer->entries(1, "x");
    b.fold = fold_at(b.append.back().zxid);
    commit(std::move(b));
  }
  open();
  EXPECT_EQ(store->meta().log_floor, (Zxid{1, 40}));
  std::vector<Zxid> seen;
  ASSERT_TRUE(store->read_log(Zxid{1, 47}, [&](LogEntry e) { seen.push_back(e.zxid); }));
  EXPECT_EQ(seen, (std::vector<Zxid>{Zxid{1, 48}, Zxid{1, 49}, Zxid{1, 50}}));
  seen.clear();
  ASSERT_TRUE(store->read_log(Zxid{1, 50}, [&](LogEntry e) { seen.push_back(e.zxid); }));
  EXPECT_TRUE(seen.empty());
  EXPECT_FALSE(store->read_log(Zxid{1, 39}, [](LogEntry) {}));
}

TEST_P(StoreTest, purge_stays_below_tree_and_commit_and_takes_slices) {
  keep_entries = 20;
  open();
  commit(writer->adopt(1));
  for (int i = 0; i < 10; ++i) commit(writer->entries(100, "x"));
  EXPECT_EQ(reopen().log.size(), 1000U) << "nothing is in the tree yet";
  Batch fold = writer->batch();
  fold.fold = fold_at(Zxid{1, 900});
  commit(std::move(fold));
  Contents all = reopen();
  EXPECT_EQ(all.log.size(), 1000U) << "a snapshot opened just before still needs it";
  commit(writer->batch());
  all = reopen();
  EXPECT_EQ(all.log.size(), 1000U - 64) << "one slice";
  EXPECT_EQ(all.meta.log_floor, (Zxid{1, 64}));
  for (int i = 0; i < 20; ++i) commit(writer->batch());
  all = reopen();
  EXPECT_EQ(all.meta.log_floor, (Zxid{1, 900})) << "the rest is not in the tree";
  EXPECT_EQ(all.log.size(), 100U);
}

TEST_P(StoreTest, the_fault_of_a_reader_stops_the_load) {
  open();
  commit(writer->adopt(1));
  Batch b = writer->entries(1, "x");
  b.fold = fold_at(Zxid{1, 1});
  b.fold->nodes = {{NodeId{1}, "a"}, {NodeId{2}, "b"}};
  commit(std::move(b));
  open();
  int calls = 0;
  const auto loaded = store->load_tree(
      [&](NodeId, std::string_view) -> Result<bool, Fault> {
        ++calls;
        return fail(Fault{"does not decode"});
      },
      [](SessionId, std::string_view) -> Result<bool, Fault> { return true; },
      [](std::string_view) -> Result<bool, Fault> { return true; });
  ASSERT_FALSE(loaded);
  EXPECT_NE(loaded.error().message.find("does not decode"), std::string::npos);
  EXPECT_EQ(calls, 1);
}

using StoreDeathTest = StoreTest;

TEST_P(StoreDeathTest, a_batch_that_contradicts_the_state_ends_the_process) {
  GTEST_FLAG_SET(death_test_style, "fast");
  open();
  commit(writer->adopt(2));
  Batch b = writer->entries(3, "x");
  b.commit_hint = Zxid{2, 2};
  commit(std::move(b));
  store.reset();
  const auto dies = [&](const char* why, const std::function<void(Batch&)>& spoil) {
    EXPECT_DEATH(
        {
          open();
          Batch bad = writer->batch();
          spoil(bad);
          store->submit(std::move(bad));
          static_cast<void>(durable->wait(1));
        },
        why);
  };
  dies("gap in the log", [](Batch& bad) { bad.append = {{Zxid{2, 5}, Zxid{2, 4}, payload("x")}}; });
  dies("ascend", [](Batch& bad) { bad.append = {{Zxid{2, 3}, Zxid{2, 3}, payload("x")}}; });
  dies("not adopted", [](Batch& bad) { bad.append = {{Zxid{3, 1}, Zxid{2, 3}, payload("x")}}; });
  dies("refusing to truncate", [](Batch& bad) { bad.truncate_after = Zxid{2, 1}; });
  dies("accepted", [](Batch& bad) { bad.epochs = Epochs{1, 1, {}}; });
  dies("committed beyond", [](Batch& bad) { bad.commit_hint = Zxid{2, 4}; });
  dies("ahead of the log", [](Batch& bad) { bad.fold = fold_at(Zxid{2, 4}); });
  dies("ascend", [](Batch& bad) { bad.id = 0; });
}

INSTANTIATE_TEST_SUITE_P(Stores, StoreTest, ::testing::Values(Kind::kLmdb, Kind::kMemory));
INSTANTIATE_TEST_SUITE_P(Stores, StoreDeathTest, ::testing::Values(Kind::kLmdb, Kind::kMemory));

TEST(MemoryStoreTest, what_was_not_completed_dies_with_the_store_and_what_was_not_reported_stays) {
  MemoryStore::Options manual;
  manual.completion = MemoryStore::Completion::kManual;
  auto store = std::make_unique<MemoryStore>(manual);
  const auto disk = store->disk();
  std::vector<std::uint64_t> reports;
  store->set_on_durable([&](std::uint64_t id) { reports.push_back(id); });
  Writer writer(*store);
  writer.submit(writer.adopt(1));
  for (int i = 0; i < 4; ++i) writer.submit(writer.entries(1, "x"));
  EXPECT_EQ(store->pending(), 5U);
  EXPECT_TRUE(disk->log.empty());
  store->complete(3);
  EXPECT_EQ(reports, (std::vector<std::uint64_t>{3}));
  store->complete(1, false);
  store = std::make_unique<MemoryStore>(disk, manual);
  EXPECT_EQ(reports.size(), 1U);
  EXPECT_EQ(store->meta().last_logged, (Zxid{1, 3}));
  EXPECT_EQ(read_all(*store)->log.size(), 3U);
}

TEST(MemoryStoreTest, space_is_told_when_it_changes) {
  MemoryStore store({});
  std::vector<bool> told;
  store.set_on_space([&](bool refuse) { told.push_back(refuse); });
  store.set_space({true, 1, 2});
  store.set_space({true, 2, 2});
  store.set_space({false, 2, 9});
  EXPECT_EQ(told, (std::vector<bool>{true, false}));
  EXPECT_EQ(store.space().grown_bytes, 9U);
}

}  // namespace
}  // namespace coord::store
