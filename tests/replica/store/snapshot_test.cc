// What ensembles ask of a store beyond one replica's own log: identity that comes with the first history, log read for
// a learner, snapshots from one store to another, and damage that is repaired from the others.
#include <gtest/gtest.h>

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "replica/store/lmdb_env.h"
#include "replica/store/memory_store.h"
#include "replica/store/meta_records.h"
#include "replica/store/schema.h"
#include "replica/store/store.h"
#include "tests/replica/store/store_testing.h"

namespace coord::store {
namespace {



template <class T>
class Slot {
 public:
  void put(T value) {
    const std::lock_guard lock(mutex_);
    value_ = std::move(value);
    there_.notify_all();
  }
  std::optional<T> wait() {
    std::unique_lock lock(mutex_);
    there_.wait_for(lock, std::chrono::seconds(20), [this] { return value_.has_value(); });
    return value_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable there_;
  std::optional<T> value_;
};

// One store of the kind under test, in a place of its own, that can be opened again.
class Place {
 public:
  explicit Place(bool memory) : memory_(memory) { open(); }
  void open(bool salvage = false) {
    store_.reset();
    durable_ = std::make_unique<Durable>();
    if (memory_) {
      MemoryStore::Options settings;
      settings.log_keep_entries = keep_entries;
      store_ = std::make_unique<MemoryStore>(disk_, settings);
    } else {
      options = small_options(dir_ / "data");
      options.salvage = salvage;
      options.log_keep_entries = keep_entries;
      auto opened = open_lmdb(options);
      ASSERT_TRUE(opened) << opened.error().message;
      store_ = std::move(*opened);
    }
    durable_->attach(*store_);
    writer.emplace(*store_);
  }
  Store& operator*() { return *store_; }
  Store* operator->() { return store_.get(); }
  MemoryStore* memory() { return memory_ ? static_cast<MemoryStore*>(store_.get()) : nullptr; }
  void commit(Batch batch) {
    const std::uint64_t id = batch.id;
    store_->submit(std::move(batch));
    ASSERT_TRUE(durable_->wait(id));
  }
  Contents contents() {
    auto all = read_all(*store_);
    EXPECT_TRUE(all) << all.error().message;
    return all ? *all : Contents{};
  }
  std::vector<LogEntry> read(Zxid after, Zxid up_to, std::size_t max_bytes) {
    Slot<std::vector<LogEntry>> slot;
    store_->read_log_later(after, up_to, max_bytes, [&](std::vector<LogEntry> entries) { slot.put(entries); });
    if (memory()) memory()->run_later();
    return slot.wait().value_or(std::vector<LogEntry>(1000));
  }
  Zxid end_snapshot() {
    Slot<Zxid> slot;
    store_->snapshot_end([&](Zxid zxid) { slot.put(zxid); });
    if (memory()) memory()->run_later();
    return slot.wait().value_or(Zxid{99, 99});
  }
  void close() { store_.reset(); }

  std::uint64_t keep_entries = 100'000;
  LmdbOptions options;
  std::optional<Writer> writer;

 private:
  const bool memory_;
  TempDir dir_;
  std::shared_ptr<MemoryDisk> disk_ = std::make_shared<MemoryDisk>();
  std::unique_ptr<Durable> durable_;
  std::unique_ptr<Store> store_;
};

class SnapshotTest : public ::testing::TestWithParam<bool> {
 protected:
  // Log 1:1 to 1:20, folded up to 1:10, with `nodes` nodes.
  static void fill(Place& place, int nodes) {
    Batch first = place.writer->adopt(1);
    first.identity = Identity{std::string(32, 'c'), std::string(32, 's')};
    place.commit(std::move(first));
    place.commit(place.writer->entries(20, "entry"));
    Batch b = place.writer->batch();
    b.fold = fold_at(Zxid{1, 10});
    for (int n = 1; n <= nodes; ++n) {
      b.fold->nodes.emplace_back(NodeId(static_cast<std::uint64_t>(n)), "node " + std::to_string(n));
    }
    b.fold->sessions.emplace_back(SessionId{5}, "five");
    b.fold->counters = "count";
    place.commit(std::move(b));
  }
  static std::vector<std::string> pieces_of(SnapshotSource& source, std::size_t max_bytes) {
    std::vector<std::string> pieces;
    for (;;) {
      auto piece = source.next(max_bytes);
      EXPECT_TRUE(piece) << piece.error().message;
      if (!piece || piece->empty()) return pieces;
      pieces.push_back(*piece);
    }
  }
  static Zxid stage(Place& place, Zxid zxid, const std::vector<std::string>& pieces) {
    place->snapshot_begin(zxid);
    for (const std::string& piece : pieces) place->snapshot_piece(piece);
    return place.end_snapshot();
  }
};

TEST_P(SnapshotTest, identity_is_adopted_and_stays) {
  Place place(GetParam());
  const std::string directory = place->meta().directory_id;
  fill(place, 1);
  Batch promise = place.writer->batch();
  promise.epochs = Epochs{4, 1, Sid{3}};
  place.commit(std::move(promise));
  place.open();
  EXPECT_EQ(place->meta().directory_id, directory);
  EXPECT_EQ(place->meta().cluster_id, std::string(32, 'c'));
  EXPECT_EQ(place->meta().secret, std::string(32, 's'));
  EXPECT_EQ(place->meta().epochs.accepted_from, Sid{3});
}

TEST_P(SnapshotTest, ends_of_epochs_are_found_at_open) {
  Place place(GetParam());
  place.commit(place.writer->adopt(1));
  place.commit(place.writer->entries(3, "a"));
  place.commit(place.writer->adopt(4));
  place.commit(place.writer->entries(1, "b"));
  place.commit(place.writer->adopt(5));
  place.commit(place.writer->entries(200, "c"));
  place.open();
  EXPECT_EQ(place->meta().epoch_ends, (std::vector<Zxid>{{1, 3}, {4, 1}, {5, 200}}));
}

TEST_P(SnapshotTest, truncation_appends_and_epoch_are_one_step) {
  Place place(GetParam());
  place.commit(place.writer->adopt(1));
  place.commit(place.writer->entries(5, "old"));
  place.writer->cut(Zxid{1, 2});
  place.writer->epoch = 3;
  Batch b = place.writer->entries(2, "new");
  b.truncate_after = Zxid{1, 2};
  b.epochs = Epochs{3, 3, Sid{2}};
  place.commit(std::move(b));
  place.open();
  EXPECT_EQ(place->meta().epoch_ends, (std::vector<Zxid>{{1, 2}, {3, 2}}));
  EXPECT_EQ(place->meta().epochs.current, 3U);
}

TEST_P(SnapshotTest, log_is_read_in_chunks_and_what_was_purged_is_nothing) {
  Place place(GetParam());
  fill(place, 1);
  auto some = place.read(Zxid{1, 3}, Zxid{1, 18}, 12);
  ASSERT_EQ(some.size(), 3U);  // five bytes each, until there are twelve
  EXPECT_EQ(some.front().zxid, (Zxid{1, 4}));
  EXPECT_EQ(some.front().previous, (Zxid{1, 3}));
  EXPECT_EQ(*some.front().payload, "entry");
  some = place.read(Zxid{1, 3}, Zxid{1, 18}, 1U << 20);
  ASSERT_EQ(some.size(), 15U);
  EXPECT_EQ(some.back().zxid, (Zxid{1, 18}));
  place.keep_entries = 5;
  place.open();
  place.writer->cut(Zxid{1, 20});
  place.commit(place.writer->entries(1, "entry"));
  EXPECT_TRUE(place.read(Zxid{1, 3}, Zxid{1, 18}, 1U << 20).empty());
  EXPECT_EQ(place.read(Zxid{1, 10}, Zxid{1, 11}, 1U << 20).size(), 1U) << "the fold is where the purge ends";
}

TEST_P(SnapshotTest, an_open_source_keeps_the_log_above_it) {
  Place place(GetParam());
  fill(place, 100);
  place.keep_entries = 2;
  place.open();
  place.writer->cut(Zxid{1, 20});
  auto source = place->open_snapshot();
  EXPECT_EQ(source->zxid(), (Zxid{1, 10}));
  Batch b = place.writer->entries(30, "more");
  b.commit_hint = Zxid{1, 50};
  b.fold = fold_at(Zxid{1, 50});
  b.fold->nodes.emplace_back(NodeId{1}, "changed meanwhile");
  place.commit(std::move(b));
  place.commit(place.writer->entries(1, "and again"));
  EXPECT_EQ(place.read(Zxid{1, 10}, Zxid{1, 51}, 1U << 20).size(), 41U);
  const auto pieces = pieces_of(*source, 500);
  EXPECT_GT(pieces.size(), 3U);
  EXPECT_EQ(place.read(Zxid{1, 10}, Zxid{1, 51}, 1U << 20).size(), 41U) << "until it is destroyed";
  source.reset();
  place.commit(place.writer->entries(1, "and again"));
  EXPECT_TRUE(place.read(Zxid{1, 10}, Zxid{1, 51}, 1U << 20).empty());

  Place other(GetParam());
  EXPECT_EQ(stage(other, Zxid{1, 10}, pieces), (Zxid{1, 10}));
  Batch install = other.writer->batch();
  install.install_snapshot = true;
  install.epochs = Epochs{1, 1, {}};
  other.commit(std::move(install));
  other.open();
  EXPECT_EQ(other.contents().nodes.at(1), "node 1") << "as of the moment when it was opened";
}

TEST_P(SnapshotTest, is_installed_with_the_log_behind_it_in_one_step) {
  Place from(GetParam());
  fill(from, 3000);
  const auto pieces = pieces_of(*from->open_snapshot(), 10'000);
  Place to(GetParam());
  to.commit(to.writer->adopt(1));
  to.commit(to.writer->entries(4, "what it had"));
  ASSERT_EQ(stage(to, Zxid{1, 10}, pieces), (Zxid{1, 10}));
  EXPECT_EQ(to.contents().log.size(), 4U) << "nothing to be seen of it yet";
  EXPECT_TRUE(to.contents().nodes.empty());
  to.writer->cut(Zxid{1, 10});
  Batch b = to.writer->entries(2, "behind");
  b.install_snapshot = true;
  b.epochs = Epochs{7, 7, Sid{1}};
  b.identity = Identity{std::string(32, 'c'), std::string(32, 's')};
  to.commit(std::move(b));
  const auto check = [&](const Contents& all) {
    EXPECT_EQ(all.nodes.size(), 3000U);
    EXPECT_EQ(all.sessions.size(), 1U);
    EXPECT_EQ(all.counters, "count");
  };
  std::size_t nodes = 0;
  const auto ignore = [](auto...) -> Result<bool, Fault> { return true; };
  const auto count = [&](NodeId, std::string_view) -> Result<bool, Fault> { return ++nodes > 0; };
  ASSERT_TRUE(to->load_tree(count, ignore, ignore));
  EXPECT_EQ(nodes, 3000U) << "without opening it again";
  Batch more = to.writer->entries(1, "goes on");
  more.fold = fold_at(Zxid{1, 11});
  more.fold->nodes.emplace_back(NodeId{9999}, "later");
  to.commit(std::move(more));
  to.open();
  EXPECT_EQ(to->meta().tree_durable, (Zxid{1, 11}));
  EXPECT_EQ(to->meta().log_floor, (Zxid{1, 10}));
  EXPECT_EQ(to->meta().last_logged, (Zxid{1, 13}));
  EXPECT_EQ(to->meta().epochs.current, 7U);
  EXPECT_EQ(to->meta().cluster_id, std::string(32, 'c'));
  EXPECT_EQ(to.contents().nodes.size(), 3001U);
  // And once more, back into the first slot.
  ASSERT_EQ(stage(to, Zxid{1, 12}, pieces), (Zxid{1, 12}));
  Batch again = to.writer->batch();
  again.install_snapshot = true;
  to.commit(std::move(again));
  to.open();
  check(to.contents());
  EXPECT_TRUE(to.contents().log.empty());
  EXPECT_EQ(to->meta().log_floor, (Zxid{1, 12}));
}

TEST_P(SnapshotTest, damage_on_the_way_is_found_at_every_byte) {
  Place from(GetParam());
  fill(from, 3);
  const auto pieces = pieces_of(*from->open_snapshot(), 1U << 20);
  ASSERT_EQ(pieces.size(), 1U);
  Place to(GetParam());
  for (std::size_t at = 0; at < pieces[0].size(); ++at) {
    std::string bad = pieces[0];
    bad[at] = static_cast<char>(bad[at] ^ 4);
    ASSERT_EQ(stage(to, Zxid{1, 10}, {bad}), Zxid{}) << "byte " << at;
  }
  for (std::size_t size = 0; size < pieces[0].size(); size += 7) {
    ASSERT_EQ(stage(to, Zxid{1, 10}, {pieces[0].substr(0, size)}), Zxid{}) << "cut at " << size;
  }
  EXPECT_EQ(stage(to, Zxid{1, 10}, {pieces[0], pieces[0]}), Zxid{}) << "something behind the end";
  EXPECT_EQ(stage(to, Zxid{1, 10}, pieces), (Zxid{1, 10})) << "and a good one is taken after all those";
  to->snapshot_drop();
  EXPECT_EQ(to.end_snapshot(), Zxid{});
}

TEST_P(SnapshotTest, what_was_staged_and_not_installed_is_gone_after_a_restart) {
  Place from(GetParam());
  fill(from, 50);
  const auto pieces = pieces_of(*from->open_snapshot(), 100);
  Place to(GetParam());
  to.commit(to.writer->adopt(1));
  to.commit(to.writer->entries(4, "what it had"));
  for (const std::size_t count : {std::size_t{0}, std::size_t{1}, pieces.size() - 1, pieces.size()}) {
    to->snapshot_begin(Zxid{1, 10});
    for (std::size_t i = 0; i < count; ++i) to->snapshot_piece(pieces[i]);
    if (count == pieces.size()) {
      EXPECT_EQ(to.end_snapshot(), (Zxid{1, 10}));
    }
    to.open();
    EXPECT_EQ(to.contents().log.size(), 4U);
    EXPECT_TRUE(to.contents().nodes.empty());
    EXPECT_EQ(to->meta().tree_durable, Zxid{});
  }
}

INSTANTIATE_TEST_SUITE_P(Stores, SnapshotTest, ::testing::Bool(),
                         [](const auto& param) { return param.param ? "Memory" : "Lmdb"; });

// --- of LMDB alone

class SalvageTest : public ::testing::Test {
 protected:
  void fill() {
    Batch first = place.writer->adopt(3);
    first.epochs = Epochs{5, 3, Sid{2}};
    first.identity = Identity{std::string(32, 'c'), std::string(32, 's')};
    place.commit(std::move(first));
    place.commit(place.writer->entries(9, "entry"));
    Batch b = place.writer->batch();
    b.fold = fold_at(Zxid{3, 4});
    b.fold->nodes.emplace_back(NodeId{1}, "node");
    place.commit(std::move(b));
    place.close();
  }
  void spoil(const char* db, std::string_view key) {
    Env env;
    ASSERT_EQ(env.open(place.options.directory, place.options.map_bytes, 0), 0);
    Txn txn;
    ASSERT_EQ(txn.begin(env, 0), 0);
    MDB_dbi dbi = 0;
    ASSERT_EQ(mdb_dbi_open(txn.get(), db, 0, &dbi), 0);
    MDB_val k = to_val(key);
    MDB_val v{};
    ASSERT_EQ(mdb_get(txn.get(), dbi, &k, &v), 0);
    std::string value(to_view(v));
    value.back() ^= 1;
    MDB_val changed = to_val(value);
    ASSERT_EQ(mdb_put(txn.get(), dbi, &k, &changed, 0), 0);
    ASSERT_EQ(txn.commit(), 0);
  }
  void expect_emptied() {
    EXPECT_TRUE(place->meta().damaged);
    EXPECT_EQ(place->meta().last_logged, Zxid{});
    EXPECT_EQ(place->meta().epochs.accepted, 5U) << "a promise is kept";
    EXPECT_EQ(place->meta().epochs.accepted_from, Sid{2});
    EXPECT_EQ(place->meta().cluster_id, std::string(32, 'c'));
    EXPECT_TRUE(place.contents().log.empty());
    EXPECT_TRUE(place.contents().nodes.empty());
  }
  Place place{false};
};

TEST_F(SalvageTest, a_damaged_log_empties_it_and_keeps_promises_until_it_is_repaired) {
  fill();
  spoil(schema::kLogDb, schema::Key(Zxid{3, 7}).view());
  place.open(true);
  expect_emptied();
  place.open(true);
  expect_emptied();
  Batch b = place.writer->batch();
  b.repaired = true;
  place.commit(std::move(b));
  place.open(true);
  EXPECT_FALSE(place->meta().damaged);
}

TEST_F(SalvageTest, a_damaged_tree_too) {
  fill();
  spoil(schema::kNodeDb, schema::Key(NodeId{1}).view());
  place.open(true);
  expect_emptied();
}

TEST_F(SalvageTest, what_is_whole_is_left_alone) {
  fill();
  place.open(true);
  EXPECT_FALSE(place->meta().damaged);
  EXPECT_EQ(place.contents().log.size(), 9U - 0U);
}

TEST_F(SalvageTest, damaged_promises_are_a_fault_all_the_same) {
  fill();
  spoil(schema::kMetaDb, schema::kEpochs1);
  place.options.salvage = true;
  EXPECT_FALSE(open_lmdb(place.options));
}

// A directory of the format before there were ensembles.
TEST(UpgradeTest, version_1_is_taken_over_with_all_it_has) {
  Place place(false);
  Batch first = place.writer->adopt(2);
  first.identity = Identity{std::string(32, 'c'), std::string(32, 's')};
  place.commit(std::move(first));
  place.commit(place.writer->entries(3, "entry"));
  place.close();
  {
    Env env;
    ASSERT_EQ(env.open(place.options.directory, place.options.map_bytes, 0), 0);
    Txn txn;
    ASSERT_EQ(txn.begin(env, 0), 0);
    MDB_dbi meta = 0;
    ASSERT_EQ(mdb_dbi_open(txn.get(), schema::kMetaDb, 0, &meta), 0);
    const std::string epochs("\0\0\0\x02\0\0\0\x02", 8);
    ASSERT_EQ(put_record(txn.get(), meta, schema::kFormat, std::string_view("\0\0\0\x01", 4)), 0);
    ASSERT_EQ(put_record(txn.get(), meta, schema::kIdentity, std::string("\0\0\0\x01", 4) + std::string(32, 'c')), 0);
    ASSERT_EQ(put_record(txn.get(), meta, schema::kEpochs1, epochs), 0);
    ASSERT_EQ(put_record(txn.get(), meta, schema::kEpochs2, epochs), 0);
    for (const char* name : {schema::kNodeDb1, schema::kSessionDb1}) {
      MDB_dbi dbi = 0;
      ASSERT_EQ(mdb_dbi_open(txn.get(), name, 0, &dbi), 0);
      ASSERT_EQ(mdb_drop(txn.get(), dbi, 1), 0);
    }
    ASSERT_EQ(txn.commit(), 0);
  }
  place.open();
  EXPECT_EQ(place->meta().cluster_id, std::string(32, 'c'));
  EXPECT_EQ(place->meta().secret, std::string(32, 's'));
  EXPECT_EQ(place->meta().directory_id.size(), 16U);
  EXPECT_EQ(place->meta().epochs.accepted, 2U);
  EXPECT_EQ(place.contents().log.size(), 3U);
  const std::string directory = place->meta().directory_id;
  place.open();
  EXPECT_EQ(place->meta().directory_id, directory) << "once";
}

}  // namespace
}  // namespace coord::store
