// What can go wrong while a snapshot is taken: a process killed at any moment, a disk that is full, readers meanwhile,
// pieces that nobody would send, a directory whose record of the slot is damaged.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <lmdb.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "replica/store/batch_apply.h"
#include "replica/store/lmdb_env.h"
#include "replica/store/lmdb_snapshot.h"
#include "replica/store/memory_store.h"
#include "replica/store/meta_records.h"
#include "replica/store/schema.h"
#include "replica/store/snapshot_pieces.h"
#include "replica/store/store.h"
#include "tests/replica/store/small_disk.h"
#include "tests/replica/store/store_testing.h"

namespace coord::store {
namespace {

constexpr std::uint64_t kMiB = 1ULL << 20;

std::string cluster_of(std::uint32_t) { return std::string(32, 'c'); }

std::string node_of(std::uint32_t generation, std::size_t size) {
  std::string text = "generation " + std::to_string(generation) + " ";
  if (text.size() < size) text.resize(size, 'n');
  return text;
}

// The whole tree of a generation, made here: `nodes` nodes, sessions on both sides of zero.
std::vector<std::string> make_pieces(std::uint32_t generation, std::uint64_t nodes, std::size_t node_size,
                                     std::size_t piece_size) {
  std::vector<std::string> pieces(1);
  SnapshotTotals totals;
  const auto put = [&](RecordKind kind, std::uint64_t key, const std::string& body) {
    if (pieces.back().size() >= piece_size) pieces.emplace_back();
    put_record(kind, key, body, pieces.back(), totals);
  };
  for (std::uint64_t n = 1; n <= nodes; ++n) put(RecordKind::kNode, n, node_of(generation, node_size));
  for (const std::int64_t session : {std::int64_t{7}, std::int64_t{-7}}) {
    put(RecordKind::kSession, static_cast<std::uint64_t>(session), std::to_string(generation));
  }
  put(RecordKind::kCounters, 0, std::to_string(generation));
  put_end(totals, pieces.back());
  return pieces;
}

Zxid zxid_of(std::uint32_t generation) { return {generation, 10}; }

std::future<Zxid> stage(Store& store, std::uint32_t generation, const std::vector<std::string>& pieces) {
  store.snapshot_begin(zxid_of(generation));
  for (const std::string& piece : pieces) store.snapshot_piece(piece);
  auto staged = std::make_shared<std::promise<Zxid>>();
  store.snapshot_end([staged](Zxid zxid) { staged->set_value(zxid); });
  return staged->get_future();
}

// The snapshot, two entries behind it, the epoch and the identity.
Batch install_batch(std::uint64_t id, std::uint32_t generation) {
  Batch b;
  b.id = id;
  b.install_snapshot = true;
  b.append = {{Zxid{generation, 11}, zxid_of(generation), payload(std::to_string(generation))},
              {Zxid{generation, 12}, Zxid{generation, 11}, payload(std::to_string(generation))}};
  b.epochs = Epochs{generation, generation, Sid{generation}};
  b.identity = Identity{cluster_of(generation), std::string(32, 's')};
  return b;
}

// Everything is of one generation, which is returned; 0: nothing was ever installed.
std::uint32_t generation_of(const Contents& all, std::uint64_t nodes, std::size_t node_size) {
  const std::uint32_t generation = all.meta.epochs.current;
  EXPECT_EQ(all.meta.epochs.accepted, generation);
  if (generation == 0) {
    EXPECT_TRUE(all.nodes.empty() && all.sessions.empty() && all.log.empty() && all.counters.empty());
    EXPECT_EQ(all.meta.last_logged, Zxid{});
    EXPECT_EQ(all.meta.cluster_id, "");
    return 0;
  }
  EXPECT_EQ(all.meta.cluster_id, cluster_of(generation));
  EXPECT_EQ(all.meta.epochs.accepted_from, Sid{generation});
  EXPECT_EQ(all.meta.tree_durable, zxid_of(generation));
  EXPECT_EQ(all.meta.log_floor, zxid_of(generation));
  EXPECT_EQ(all.meta.last_logged, (Zxid{generation, 12}));
  EXPECT_EQ(all.counters, std::to_string(generation));
  EXPECT_EQ(all.log.size(), 2U);
  for (const LogEntry& entry : all.log) EXPECT_EQ(*entry.payload, std::to_string(generation));
  EXPECT_EQ(all.nodes.size(), nodes);
  const std::string node = node_of(generation, node_size);
  for (const auto& [id, record] : all.nodes) {
    if (record != node) ADD_FAILURE() << "node " << id << " is " << record.substr(0, 20) << " among " << generation;
  }
  EXPECT_EQ(all.sessions.size(), 2U);
  for (const auto& [id, record] : all.sessions) EXPECT_EQ(record, std::to_string(generation));
  return generation;
}

void submit_and_wait(Store& store, Durable& durable, Batch batch) {
  const std::uint64_t id = batch.id;
  store.submit(std::move(batch));
  ASSERT_TRUE(durable.wait(id));
}

// Entries of a database of a store that is closed.
std::uint64_t entries_of(const LmdbOptions& options, const char* name) {
  Env env;
  Txn txn;
  MDB_dbi dbi = 0;
  MDB_stat stat{};
  EXPECT_EQ(env.open(options.directory, options.map_bytes, MDB_RDONLY), 0);
  EXPECT_EQ(txn.begin(env, MDB_RDONLY), 0);
  EXPECT_EQ(mdb_dbi_open(txn.get(), name, 0, &dbi), 0);
  EXPECT_EQ(mdb_stat(txn.get(), dbi, &stat), 0);
  return stat.ms_entries;
}

void tamper(const LmdbOptions& options, const char* name, const std::function<int(MDB_txn*, MDB_dbi)>& change) {
  Env env;
  Txn txn;
  MDB_dbi dbi = 0;
  ASSERT_EQ(env.open(options.directory, options.map_bytes, 0), 0);
  ASSERT_EQ(txn.begin(env, 0), 0);
  ASSERT_EQ(mdb_dbi_open(txn.get(), name, 0, &dbi), 0);
  ASSERT_EQ(change(txn.get(), dbi), 0);
  ASSERT_EQ(txn.commit(), 0);
}

class HazardTest : public ::testing::Test {
 protected:
  void open() {
    durable = std::make_unique<Durable>();
    auto opened = open_lmdb(options);
    ASSERT_TRUE(opened) << opened.error().message;
    store = std::move(*opened);
    durable->attach(*store);
    id = 0;
  }
  void install(std::uint32_t generation, const std::vector<std::string>& pieces) {
    ASSERT_EQ(stage(*store, generation, pieces).get(), zxid_of(generation));
    ASSERT_NO_FATAL_FAILURE(submit_and_wait(*store, *durable, install_batch(++id, generation)));
  }
  void expect_generation(std::uint32_t generation, std::uint64_t nodes, std::size_t node_size) {
    store.reset();
    ASSERT_NO_FATAL_FAILURE(open());
    auto all = read_all(*store);
    ASSERT_TRUE(all) << all.error().message;
    EXPECT_EQ(generation_of(*all, nodes, node_size), generation);
  }

  TempDir dir;
  LmdbOptions options = small_options(dir / "data");
  std::unique_ptr<Durable> durable;
  std::unique_ptr<Store> store;
  std::uint64_t id = 0;
};

// --- pieces that nobody would send, each record whole

std::string piece_of(const std::vector<std::pair<RecordKind, std::uint64_t>>& records) {
  std::string piece;
  SnapshotTotals totals;
  for (const auto& [kind, key] : records) put_record(kind, key, "body", piece, totals);
  put_end(totals, piece);
  return piece;
}

TEST_F(HazardTest, keys_that_do_not_ascend_are_damage) {
  ASSERT_NO_FATAL_FAILURE(open());
  MemoryStore memory(MemoryStore::Options{});
  constexpr auto kNode = RecordKind::kNode;
  constexpr auto kSession = RecordKind::kSession;
  constexpr auto kCounters = RecordKind::kCounters;
  const std::vector<std::pair<const char*, std::string>> bad = {
      {"one twice", piece_of({{kNode, 1}, {kNode, 1}, {kCounters, 0}})},
      {"backwards", piece_of({{kNode, 2}, {kNode, 1}, {kCounters, 0}})},
      {"a node behind a session", piece_of({{kNode, 1}, {kSession, 2}, {kNode, 3}, {kCounters, 0}})},
      {"counters twice", piece_of({{kNode, 1}, {kCounters, 0}, {kCounters, 0}})},
      {"counters first", piece_of({{kCounters, 0}, {kNode, 1}})},
  };
  for (const auto& [what, piece] : bad) {
    EXPECT_EQ(stage(*store, 1, {piece}).get(), Zxid{}) << what;
    auto staged = stage(memory, 1, {piece});
    memory.run_later();
    EXPECT_EQ(staged.get(), Zxid{}) << what;
  }
  EXPECT_EQ(stage(*store, 1, {piece_of({{kNode, 1}, {kNode, 2}, {kSession, 1}, {kCounters, 0}})}).get(), zxid_of(1));
}

TEST_F(HazardTest, sessions_of_all_servers_travel_between_both_kinds_of_store) {
  ASSERT_NO_FATAL_FAILURE(open());
  ASSERT_NO_FATAL_FAILURE(install(1, make_pieces(1, 20, 30, 200)));
  MemoryStore memory(MemoryStore::Options{});
  const auto drain = [](SnapshotSource& source) {
    std::vector<std::string> pieces;
    for (auto piece = source.next(150); piece && !piece->empty(); piece = source.next(150)) pieces.push_back(*piece);
    return pieces;
  };
  auto staged = stage(memory, 1, drain(*store->open_snapshot()));
  memory.run_later();
  ASSERT_EQ(staged.get(), zxid_of(1));
  memory.submit(install_batch(1, 1));
  EXPECT_EQ(memory.disk()->sessions.size(), 2U);
  EXPECT_EQ(stage(*store, 2, drain(*memory.open_snapshot())).get(), zxid_of(2)) << "a session below zero sorts last";
}

// --- what was left over

TEST_F(HazardTest, what_a_former_life_staged_is_emptied_by_the_next) {
  ASSERT_NO_FATAL_FAILURE(open());
  ASSERT_NO_FATAL_FAILURE(install(1, make_pieces(1, 50, 100, 2000)));
  ASSERT_EQ(stage(*store, 2, make_pieces(2, 5000, 100, 50'000)).get(), zxid_of(2));
  store.reset();
  ASSERT_EQ(entries_of(options, schema::kNodeDb), 5000U) << "or there is nothing to see here";
  ASSERT_NO_FATAL_FAILURE(open());
  for (int i = 0; i < 100; ++i) {
    Batch b;
    b.id = ++id;
    ASSERT_NO_FATAL_FAILURE(submit_and_wait(*store, *durable, std::move(b)));
  }
  ASSERT_NO_FATAL_FAILURE(expect_generation(1, 50, 100));
  store.reset();
  EXPECT_EQ(entries_of(options, schema::kNodeDb), 0U);
  EXPECT_EQ(entries_of(options, schema::kSessionDb), 0U);
}

// Trees of some size over each other: what the former one took is free, and its list must not outrun the bound.
TEST_F(HazardTest, large_trees_replace_each_other_within_what_is_written_ahead) {
  ASSERT_NO_FATAL_FAILURE(open());
  std::uint64_t used = 0;
  for (std::uint32_t generation = 1; generation <= 6; ++generation) {
    const std::size_t size = generation % 2 == 0 ? 3000 : 700;  // in pages of their own, and in leaves
    const std::uint64_t nodes = generation % 2 == 0 ? 5000 : 20'000;
    ASSERT_NO_FATAL_FAILURE(install(generation, make_pieces(generation, nodes, size, 256 << 10)));
    if (generation == 4) used = store->space().used_bytes;
    if (generation >= 5) {
      EXPECT_LT(store->space().used_bytes, used + 8 * kMiB) << "the space of old trees is used again";
    }
    if (generation < 6) continue;
    ASSERT_NO_FATAL_FAILURE(expect_generation(6, nodes, size));
  }
}

// The free list must not become one record that each commit writes anew.
TEST_F(HazardTest, a_replaced_tree_is_freed_in_slices) {
  ASSERT_NO_FATAL_FAILURE(open());
  ASSERT_NO_FATAL_FAILURE(install(1, make_pieces(1, 30'000, 700, 256 << 10)));
  ASSERT_NO_FATAL_FAILURE(install(2, make_pieces(2, 10, 10, 1000)));
  ASSERT_EQ(stage(*store, 3, {}).get(), Zxid{}) << "begin empties the rest";
  store.reset();
  Env env;
  Txn txn;
  Cursor cursor;
  ASSERT_EQ(env.open(options.directory, options.map_bytes, MDB_RDONLY), 0);
  ASSERT_EQ(txn.begin(env, MDB_RDONLY), 0);
  constexpr MDB_dbi kFreeDb = 0;
  ASSERT_EQ(cursor.open(txn.get(), kFreeDb), 0);
  MDB_val key{};
  MDB_val value{};
  std::uint64_t pages = 0;
  std::size_t largest = 0;
  while (cursor.get(key, value, MDB_NEXT) == 0) {
    std::size_t count = 0;
    std::memcpy(&count, value.mv_data, sizeof count);
    pages += count;
    largest = std::max(largest, count);
  }
  EXPECT_GT(pages, 4000U);
  EXPECT_LT(largest, 1500U);
}

// --- readers meanwhile

TEST_F(HazardTest, readers_see_one_generation_while_others_are_installed) {
  constexpr std::uint64_t kNodes = 400;
  ASSERT_NO_FATAL_FAILURE(open());
  ASSERT_NO_FATAL_FAILURE(install(1, make_pieces(1, kNodes, 60, 4000)));
  std::atomic<bool> stop{false};
  std::atomic<int> loads{0};
  std::atomic<int> copies{0};
  std::atomic<int> reads{0};
  const auto uniform = [](std::set<std::string> seen) { EXPECT_EQ(seen.size(), 1U) << "a mixture"; };
  std::thread loader([&] {
    while (!stop) {
      std::set<std::string> seen;
      std::uint64_t count = 0;
      const auto node = [&](NodeId, std::string_view record) -> Result<bool, Fault> {
        seen.emplace(record.substr(11, record.find(' ', 11) - 11));
        ++count;
        return true;
      };
      const auto session = [&](SessionId, std::string_view record) -> Result<bool, Fault> {
        seen.emplace(record);
        return true;
      };
      const auto counters = [&](std::string_view record) -> Result<bool, Fault> {
        seen.emplace(record);
        return true;
      };
      const auto loaded = store->load_tree(node, session, counters);
      EXPECT_TRUE(loaded) << loaded.error().message;
      EXPECT_EQ(count, kNodes);
      uniform(seen);
      ++loads;
    }
  });
  std::thread copier([&] {
    while (!stop) {
      auto source = store->open_snapshot();
      MemoryStore copy(MemoryStore::Options{});
      copy.snapshot_begin(source->zxid());
      for (auto piece = source->next(3000); piece && !piece->empty(); piece = source->next(3000)) {
        copy.snapshot_piece(*piece);
      }
      Zxid staged;
      copy.snapshot_end([&](Zxid zxid) { staged = zxid; });
      copy.run_later();
      EXPECT_EQ(staged, source->zxid());
      const std::uint32_t generation = source->zxid().epoch();
      copy.submit(install_batch(1, generation));
      for (const auto& [node, record] : copy.disk()->nodes) EXPECT_EQ(record, node_of(generation, 60));
      ++copies;
    }
  });
  std::thread learner([&] {
    while (!stop) {
      std::promise<std::vector<LogEntry>> got;
      const std::uint32_t generation = 1 + static_cast<std::uint32_t>(reads) % 40;
      store->read_log_later(zxid_of(generation), Zxid{generation, 12}, 1U << 20,
                            [&](std::vector<LogEntry> entries) { got.set_value(std::move(entries)); });
      const auto entries = got.get_future().get();
      EXPECT_TRUE(entries.empty() || entries.size() == 2) << entries.size();
      for (const LogEntry& entry : entries) EXPECT_EQ(*entry.payload, std::to_string(generation));
      ++reads;
    }
  });
  for (std::uint32_t generation = 2; generation <= 40 || loads < 5 || copies < 5 || reads < 5; ++generation) {
    ASSERT_NO_FATAL_FAILURE(install(generation, make_pieces(generation, kNodes, 60, 4000)));
    if (HasFailure()) break;
  }
  stop = true;
  loader.join();
  copier.join();
  learner.join();
}

// --- one after the other

// A learner may lose its leader with an install under way, and the next leader sends a snapshot at once.
TEST_F(HazardTest, another_snapshot_may_begin_while_one_is_being_installed) {
  MemoryStore::Options manual;
  manual.completion = MemoryStore::Completion::kManual;
  MemoryStore memory(manual);
  auto first = stage(memory, 1, make_pieces(1, 5, 20, 100));
  memory.run_later();
  ASSERT_EQ(first.get(), zxid_of(1));
  memory.submit(install_batch(1, 1));
  auto second = stage(memory, 2, make_pieces(2, 5, 20, 100));
  auto broken = stage(memory, 3, {});
  auto third = stage(memory, 4, make_pieces(4, 6, 20, 100));
  memory.run_later();
  EXPECT_EQ(second.get(), zxid_of(2));
  EXPECT_EQ(broken.get(), Zxid{}) << "each is told of its own";
  ASSERT_EQ(third.get(), zxid_of(4));
  memory.submit(install_batch(2, 4));
  memory.complete(1);
  EXPECT_EQ(memory.disk()->nodes.size(), 5U);
  EXPECT_EQ(memory.disk()->meta.tree_durable, zxid_of(1));
  memory.complete();
  EXPECT_EQ(memory.disk()->nodes.size(), 6U);
  EXPECT_EQ(memory.disk()->meta.tree_durable, zxid_of(4));

  ASSERT_NO_FATAL_FAILURE(open());
  ASSERT_EQ(stage(*store, 1, make_pieces(1, 5, 20, 100)).get(), zxid_of(1));
  store->submit(install_batch(1, 1));
  auto next = stage(*store, 4, make_pieces(4, 6, 20, 100));
  ASSERT_EQ(next.get(), zxid_of(4));
  ASSERT_NO_FATAL_FAILURE(submit_and_wait(*store, *durable, install_batch(2, 4)));
  ASSERT_NO_FATAL_FAILURE(expect_generation(4, 6, 20));
}

TEST_F(HazardTest, what_was_dropped_or_never_staged_is_not_installed) {
  GTEST_FLAG_SET(death_test_style, "fast");
  const auto install_nothing = [&](bool staged) {
    open();
    if (staged) stage(*store, 1, make_pieces(1, 5, 20, 100)).get();
    if (staged) store->snapshot_drop();
    submit_and_wait(*store, *durable, install_batch(1, 1));
  };
  EXPECT_DEATH(install_nothing(false), "not staged");
  EXPECT_DEATH(install_nothing(true), "not staged");
}

TEST_F(HazardTest, a_directory_is_not_taken_into_a_second_cluster) {
  GTEST_FLAG_SET(death_test_style, "fast");
  const auto adopt_twice = [&] {
    open();
    for (const char digit : {'a', 'b'}) {
      Batch b;
      b.id = ++id;
      b.identity = Identity{std::string(32, digit), std::string(32, 's')};
      if (digit == 'a') {
        b.epochs = Epochs{1, 1, {}};
        b.append.push_back({Zxid{1, 1}, Zxid{}, payload("x")});
      }
      submit_and_wait(*store, *durable, std::move(b));
    }
  };
  EXPECT_DEATH(adopt_twice(), "one cluster for ever");
  ASSERT_NO_FATAL_FAILURE(open());
  EXPECT_EQ(store->meta().cluster_id, std::string(32, 'a')) << "what it had stays";
}

// The first leader of an ensemble may die before anybody but itself has heard of its cluster.
TEST_F(HazardTest, a_cluster_that_never_logged_anything_binds_nobody) {
  ASSERT_NO_FATAL_FAILURE(open());
  for (const char digit : {'a', 'b'}) {
    Batch b;
    b.id = ++id;
    b.identity = Identity{std::string(32, digit), std::string(32, 's')};
    if (digit == 'b') {
      b.epochs = Epochs{2, 2, {}};
      b.append.push_back({Zxid{2, 1}, Zxid{}, payload("x")});
    }
    submit_and_wait(*store, *durable, std::move(b));
  }
  store.reset();
  ASSERT_NO_FATAL_FAILURE(open());
  EXPECT_EQ(store->meta().cluster_id, std::string(32, 'b'));
}

// --- purging by time

TEST_F(HazardTest, the_log_is_kept_for_its_time_but_not_beyond_eight_times_its_size) {
  options.log_keep_entries = 10;
  options.log_keep_bytes = 256 << 10;
  options.log_keep_ms = 3'600'000;
  ASSERT_NO_FATAL_FAILURE(open());
  Writer writer(*store);
  const auto commit = [&](Batch b) { ASSERT_NO_FATAL_FAILURE(submit_and_wait(*store, *durable, std::move(b))); };
  const auto settle = [&] {
    Batch fold = writer.batch();
    fold.fold = fold_at(writer.last());
    commit(std::move(fold));
    for (int i = 0; i < 200; ++i) commit(writer.batch());
  };
  const auto kept = [&] {
    std::size_t count = 0;
    store.reset();
    open();
    EXPECT_TRUE(store->read_log(store->meta().log_floor, [&](const LogEntry&) { ++count; }));
    return count;
  };
  commit(writer.adopt(1));
  for (int i = 0; i < 5; ++i) commit(writer.entries(100, std::string(500, 'x')));
  settle();
  ASSERT_EQ(kept(), 500U) << "all of it is young";
  Writer more(*store);
  Batch big = more.entries(900, std::string(3000, 'x'));  // a page each: 3.6 MB, above 8 * 256 KiB
  ASSERT_NO_FATAL_FAILURE(submit_and_wait(*store, *durable, std::move(big)));
  Batch fold = more.batch();
  fold.fold = fold_at(more.last());
  ASSERT_NO_FATAL_FAILURE(submit_and_wait(*store, *durable, std::move(fold)));
  for (int i = 0; i < 100; ++i) ASSERT_NO_FATAL_FAILURE(submit_and_wait(*store, *durable, more.batch()));
  const std::size_t rest = kept();
  EXPECT_LT(rest, 600U);
  EXPECT_GT(rest, 300U) << "as much as the size allows is kept";
}

TEST_F(HazardTest, what_is_older_than_its_time_goes) {
  options.log_keep_entries = 10;
  options.log_keep_ms = 1;
  ASSERT_NO_FATAL_FAILURE(open());
  Writer writer(*store);
  ASSERT_NO_FATAL_FAILURE(submit_and_wait(*store, *durable, writer.adopt(1)));
  ASSERT_NO_FATAL_FAILURE(submit_and_wait(*store, *durable, writer.entries(300, "x")));
  Batch fold = writer.batch();
  fold.fold = fold_at(writer.last());
  ASSERT_NO_FATAL_FAILURE(submit_and_wait(*store, *durable, std::move(fold)));
  // Its age is looked at once a second.
  const auto begin = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - begin < std::chrono::milliseconds(2500)) {
    ASSERT_NO_FATAL_FAILURE(submit_and_wait(*store, *durable, writer.batch()));
  }
  store.reset();
  ASSERT_NO_FATAL_FAILURE(open());
  EXPECT_GE(store->meta().log_floor, (Zxid{1, 290}));
}

// --- damage

TEST_F(HazardTest, a_damaged_slot_is_a_fault_and_not_an_empty_tree) {
  ASSERT_NO_FATAL_FAILURE(open());
  ASSERT_NO_FATAL_FAILURE(install(1, make_pieces(1, 50, 100, 2000)));
  store.reset();
  tamper(options, schema::kMetaDb, [](MDB_txn* txn, MDB_dbi meta) {
    MDB_val key = to_val(schema::kSlot);
    MDB_val value{};
    if (const int rc = mdb_get(txn, meta, &key, &value); rc != 0) return rc;
    std::string bytes(to_view(value));
    bytes.back() ^= 1;
    MDB_val changed = to_val(bytes);
    return mdb_put(txn, meta, &key, &changed, 0);
  });
  for (const bool salvage : {false, true}) {
    options.salvage = salvage;
    auto opened = open_lmdb(options);
    ASSERT_FALSE(opened);
    EXPECT_NE(opened.error().message.find("meta/slot"), std::string::npos) << opened.error().message;
  }
}

TEST_F(HazardTest, a_log_that_lost_its_end_is_salvaged) {
  ASSERT_NO_FATAL_FAILURE(open());
  ASSERT_NO_FATAL_FAILURE(install(3, make_pieces(3, 50, 100, 2000)));
  store.reset();
  tamper(options, schema::kLogDb, [](MDB_txn* txn, MDB_dbi log) {
    const schema::Key number(Zxid{3, 12});
    MDB_val key = to_val(number.view());
    return mdb_del(txn, log, &key, nullptr);
  });
  EXPECT_FALSE(open_lmdb(options)) << "who is alone must not go on with less than was acknowledged";
  options.salvage = true;
  for (int i = 0; i < 2; ++i) {
    store.reset();
    ASSERT_NO_FATAL_FAILURE(open());
    EXPECT_TRUE(store->meta().damaged);
    EXPECT_EQ(store->meta().epochs.current, 3U);
    EXPECT_EQ(store->meta().epochs.accepted_from, Sid{3});
    EXPECT_EQ(store->meta().cluster_id, cluster_of(3));
    EXPECT_EQ(store->meta().last_logged, Zxid{});
    auto all = read_all(*store);
    ASSERT_TRUE(all) << all.error().message;
    EXPECT_TRUE(all->nodes.empty() && all->sessions.empty() && all->log.empty());
  }
  // It gets everything again, and is whole.
  ASSERT_EQ(stage(*store, 4, make_pieces(4, 60, 100, 2000)).get(), zxid_of(4));
  Batch b = install_batch(++id, 4);
  b.repaired = true;
  ASSERT_NO_FATAL_FAILURE(submit_and_wait(*store, *durable, std::move(b)));
  ASSERT_NO_FATAL_FAILURE(expect_generation(4, 60, 100));
  EXPECT_FALSE(store->meta().damaged);
}

// --- a disk that is full

TEST_F(HazardTest, a_snapshot_that_does_not_fit_is_refused_and_taken_when_there_is_room) {
  NEEDS_ROOT();
  SmallDisk disk(24 * kMiB);
  ASSERT_TRUE(disk.mounted());
  options = small_options(disk / "data");
  ASSERT_NO_FATAL_FAILURE(open());
  ASSERT_NO_FATAL_FAILURE(install(1, make_pieces(1, 100, 100, 2000)));
  // In pieces of all sizes: the last one that is tried must not be the end of the process either.
  for (const std::size_t piece : {16U << 10, 256U << 10, 1U << 20, 3U << 20}) {
    for (const std::size_t node : {200U, 3000U}) {
      ASSERT_EQ(stage(*store, 2, make_pieces(2, 40 * kMiB / node, node, piece)).get(), Zxid{}) << piece << " " << node;
      Batch promise;
      promise.id = ++id;
      promise.commit_hint = Zxid{1, 12};
      ASSERT_NO_FATAL_FAILURE(submit_and_wait(*store, *durable, std::move(promise)));  // the reserve is for these
    }
  }
  ASSERT_NO_FATAL_FAILURE(expect_generation(1, 100, 100));
  ASSERT_TRUE(disk.resize(200 * kMiB));
  store.reset();
  ASSERT_NO_FATAL_FAILURE(open());
  ASSERT_NO_FATAL_FAILURE(install(2, make_pieces(2, 20'000, 1000, 256 << 10)));
  ASSERT_NO_FATAL_FAILURE(expect_generation(2, 20'000, 1000));
}

// --- a process that is killed

constexpr std::uint64_t kKillNodes = 1500;
constexpr std::size_t kKillNode = 150;

// Stages and installs generation after generation. To `out`, a number for each step that was reported: twice the
// generation when it was staged, one more when it was durable.
[[noreturn]] void child_installs(const LmdbOptions& options, int out) {
  auto opened = open_lmdb(options);
  if (!opened) ::_exit(3);
  auto store = std::move(*opened);
  Durable durable;
  durable.attach(*store);
  const auto say = [&](std::uint32_t number) {
    if (::write(out, &number, sizeof number) != sizeof number) ::_exit(5);
  };
  std::uint64_t id = 0;
  for (std::uint32_t generation = store->meta().epochs.current + 1;; ++generation) {
    if (stage(*store, generation, make_pieces(generation, kKillNodes, kKillNode, 8000)).get() != zxid_of(generation)) {
      ::_exit(6);
    }
    say(2 * generation);
    store->submit(install_batch(++id, generation));
    if (!durable.wait(id)) ::_exit(7);
    say(2 * generation + 1);
  }
}

TEST_F(HazardTest, a_process_killed_at_any_moment_leaves_one_generation_or_the_other) {
  std::mt19937 random(5);
  std::uint32_t reported = 1;
  std::uint32_t last = 0;
  for (int round = 0; round < 40; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    int pipe_fds[2];
    ASSERT_EQ(::pipe(pipe_fds), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      ::close(pipe_fds[0]);
      child_installs(options, pipe_fds[1]);
    }
    ::close(pipe_fds[1]);
    std::uint32_t number = 0;
    for (std::uint64_t steps = random() % 4; steps > 0; --steps) {
      ASSERT_EQ(::read(pipe_fds[0], &number, sizeof number), static_cast<ssize_t>(sizeof number)) << "child ended";
      reported = number;
    }
    ::usleep(static_cast<useconds_t>(random() % 40'000));  // somewhere in the next step, which takes about as long
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "child exit status " << WEXITSTATUS(status);
    while (::read(pipe_fds[0], &number, sizeof number) == sizeof number) reported = number;
    ::close(pipe_fds[0]);

    ASSERT_NO_FATAL_FAILURE(open());
    auto all = read_all(*store);
    ASSERT_TRUE(all) << all.error().message;
    const std::uint32_t found = generation_of(*all, kKillNodes, kKillNode);
    ASSERT_FALSE(HasFailure());
    const std::uint32_t durable_at_least = reported % 2 == 1 ? reported / 2 : reported / 2 - 1;
    EXPECT_GE(found, std::max(durable_at_least, last)) << "lost what was durable";
    EXPECT_LE(found, reported / 2 + 1);
    last = found;
    store.reset();
  }
  EXPECT_GT(last, 10U) << "too little happened to mean anything";
}

}  // namespace
}  // namespace coord::store
