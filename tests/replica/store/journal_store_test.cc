// The store with its journal: crashes at any moment, files of different times, order, readers while the database lags.
#include <gtest/gtest.h>
#include <lmdb.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <future>
#include <random>
#include <thread>

#include "tests/replica/store/journal_store_testing.h"

namespace coord::store {
namespace {

TEST_F(JournalStoreTest, what_is_acknowledged_is_in_the_journal_alone_and_survives_a_crash) {
  open();
  commit(writer->adopt(1));
  const std::uint64_t applied = store->counters().applied;
  for (int i = 0; i < 50; ++i) {
    commit(writer->entries(2, "entry " + std::to_string(i)));
    if (i % 7 != 0) continue;
    const std::string left = crash();
    EXPECT_TRUE(mark_of(left).open);
    EXPECT_EQ(mark_of(left).sequence, 0U) << "the database has nothing of it";
    const auto all = contents(left);
    ASSERT_TRUE(all) << all.error().message;
    ASSERT_EQ(all->log.size(), 2U * (static_cast<std::size_t>(i) + 1));
    EXPECT_EQ(all->meta.last_logged, writer->last());
    EXPECT_EQ(all->meta.epoch_ends, std::vector<Zxid>{writer->last()});
    EXPECT_EQ(*all->log.back().payload, "entry " + std::to_string(i));
  }
  EXPECT_EQ(store->counters().applied, applied);
  EXPECT_EQ(store->counters().journaled, 50U);
}

TEST_F(JournalStoreTest, the_destructor_leaves_nothing_in_the_journal_and_the_format_of_before) {
  open();
  commit(writer->adopt(1));
  commit(writer->entries(3, "x"));
  EXPECT_TRUE(mark_of(crash()).open);
  commit(writer->entries(3, "x"));
  writer->submit(writer->entries(3, "not waited for"));
  store.reset();
  EXPECT_FALSE(mark_of(options.directory).open);
  fs::remove(options.directory + "/" + kJournal);
  EXPECT_EQ(entries_in(options.directory), 9U);
}

TEST_F(JournalStoreTest, a_store_that_wrote_nothing_does_not_begin_a_journal) {
  open();
  store.reset();
  EXPECT_EQ(mark_of(options.directory).id, "");
  open();
  commit(writer->adopt(1));  // goes to the database
  EXPECT_FALSE(mark_of(crash()).open);
}

// A program of before has this version, and refuses the other.
TEST_F(JournalStoreTest, the_format_version_tells_whether_the_journal_is_needed) {
  const auto version = [&](const std::string& directory) {
    Env env;
    Txn txn;
    MDB_dbi meta = 0;
    EXPECT_EQ(env.open(directory, options.map_bytes, MDB_RDONLY | MDB_NOLOCK), 0);
    EXPECT_EQ(txn.begin(env, MDB_RDONLY), 0);
    EXPECT_EQ(mdb_dbi_open(txn.get(), schema::kMetaDb, 0, &meta), 0);
    MDB_val key = to_val(schema::kFormat);
    MDB_val value{};
    EXPECT_EQ(mdb_get(txn.get(), meta, &key, &value), 0);
    return schema::get_u32(static_cast<const char*>(value.mv_data) + schema::kChecksumSize);
  };
  open();
  commit(writer->adopt(1));
  EXPECT_EQ(version(crash()), 2U);
  commit(writer->entries(1, "x"));
  EXPECT_EQ(version(crash()), 3U);
  store.reset();
  EXPECT_EQ(version(options.directory), 2U);
}

TEST_F(JournalStoreTest, recovery_may_itself_be_cut_off_and_repeated) {
  options.journal_bytes = 16 << 20;
  open();
  commit(writer->adopt(1));
  for (int i = 0; i < 12; ++i) commit(writer->entries(4, std::string(70'000, static_cast<char>('a' + i))));
  const std::string left = crash();
  store.reset();
  ASSERT_EQ(mark_of(left).sequence, 0U);
  // Killed at moments spread over the whole of an open, the last ones behind its end.
  for (int round = 0; round < 25; ++round) {
    const std::string again = dir / "again";
    fs::remove_all(again);
    copy(left, again, kData);
    copy(left, again, kJournal);
    for (int kills = 0; kills < 3; ++kills) {
      const pid_t child = ::fork();
      ASSERT_GE(child, 0);
      if (child == 0) {
        LmdbOptions other = options;
        other.directory = again;
        auto opened = open_lmdb(other);
        ::pause();
        ::_exit(0);
      }
      ::usleep(static_cast<useconds_t>(round * 4000));
      ::kill(child, SIGKILL);
      ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    }
    const auto all = contents(again);
    ASSERT_TRUE(all) << all.error().message;
    ASSERT_EQ(all->log.size(), 48U);
    ASSERT_EQ((*all->log[47].payload)[0], 'l');
  }
  // The whole of it was taken over, and the process died before it began a journal of its own.
  copy(left, dir / "late", kData);
  copy(left, dir / "late", kJournal);
  ASSERT_EQ(entries_in(dir / "late"), 48U);
  EXPECT_EQ(entries_in(dir / "late"), 48U);
}

// --- files of different times

TEST_F(JournalStoreTest, an_older_database_takes_over_all_that_the_journal_still_has_or_is_refused) {
  options.journal_bytes = 64 << 10;
  open();
  commit(writer->adopt(1));
  commit(writer->entries(1, "first"));
  const std::string old = crash();
  int taken = 0;
  int refused = 0;
  for (int i = 0; i < 40; ++i) {
    commit(writer->entries(1, std::string(6000, 'x')));
    copy(options.directory, old, kJournal);
    const std::string both = dir / "both";
    copy(old, both, kData);
    copy(old, both, kJournal);
    const auto all = contents(both);
    if (all) {
      ASSERT_EQ(all->log.size(), static_cast<std::size_t>(i) + 2);
      ++taken;
    } else {
      EXPECT_NE(all.error().message.find("record"), std::string::npos) << all.error().message;
      ++refused;
    }
  }
  EXPECT_GT(taken, 5);
  EXPECT_GT(refused, 5);
}

TEST_F(JournalStoreTest, an_older_journal_is_refused) {
  open();
  commit(writer->adopt(1));
  commit(writer->entries(1, "first"));
  const std::string old = crash();
  for (int i = 0; i < 5; ++i) commit(writer->entries(1, "more"));
  ASSERT_EQ(read_later(Zxid{}, Zxid{1, 6}).size(), 6U);  // asks for the database
  const std::string now = crash();
  EXPECT_EQ(mark_of(now).sequence, 6U);
  EXPECT_EQ(entries_in(crash()), 6U);
  const std::string mixed = dir / "mixed";
  copy(now, mixed, kData);
  copy(old, mixed, kJournal);
  ASSERT_NO_FATAL_FAILURE(expect_fault(mixed, "out of date"));
}

TEST_F(JournalStoreTest, a_database_from_before_the_journal_of_another_life_is_refused) {
  open();
  commit(writer->adopt(1));
  commit(writer->entries(1, "first"));
  store.reset();
  const std::string old = crash();  // in order
  EXPECT_EQ(entries_in(old), 1U);
  open();
  commit(writer->entries(1, "second"));
  copy(options.directory, old, kJournal);
  ASSERT_NO_FATAL_FAILURE(expect_fault(old, "older"));
  const std::string bare = dir / "bare";
  copy(options.directory, bare, kJournal);
  ASSERT_NO_FATAL_FAILURE(expect_fault(bare, "journal"));
  std::ofstream(bare + "/" + kData).close();
  ASSERT_NO_FATAL_FAILURE(expect_fault(bare, "older"));
}

TEST_F(JournalStoreTest, a_journal_that_is_missing_or_broken_is_a_fault_that_changes_nothing_and_salvage_repairs) {
  open();
  Batch first = writer->adopt(3);
  first.epochs = Epochs{5, 3, Sid{2}};
  first.identity = Identity{std::string(32, 'c'), std::string(32, 's')};
  commit(std::move(first));
  for (int i = 0; i < 5; ++i) commit(writer->entries(1, "x"));
  const std::string left = crash();
  const std::string bytes = slurp(left + "/" + kJournal);
  const auto spoil = [&](const std::string& where, int how) {
    copy(left, where, kData);
    copy(left, where, kJournal);
    std::string bad = bytes;
    if (how == 0) fs::remove(where + "/" + kJournal);
    if (how == 1) bad[3] = static_cast<char>(bad[3] ^ 1);
    if (how == 2) bad[2 * journal::kBlock + 66] = static_cast<char>(bad[2 * journal::kBlock + 66] ^ 1);
    if (how == 3) bad.resize(bad.size() / 2);
    if (how != 0) std::ofstream(where + "/" + kJournal, std::ios::binary | std::ios::trunc) << bad;
  };
  const std::vector<const char*> why = {"missing", "header", "record 2", "cut off"};
  for (int how = 0; how < 4; ++how) {
    SCOPED_TRACE(why[static_cast<std::size_t>(how)]);
    const std::string bad = dir / ("bad" + std::to_string(how));
    spoil(bad, how);
    const std::string data = slurp(bad + "/" + kData);
    ASSERT_NO_FATAL_FAILURE(expect_fault(bad, why[static_cast<std::size_t>(how)]));
    EXPECT_TRUE(slurp(bad + "/" + kData) == data);
    if (how == 0) {  // somebody has moved it: no damage
      EXPECT_FALSE(contents(bad, true));
      EXPECT_TRUE(slurp(bad + "/" + kData) == data);
      continue;
    }
    for (int i = 0; i < 2; ++i) {
      const auto all = contents(bad, true);
      ASSERT_TRUE(all) << all.error().message;
      EXPECT_TRUE(all->meta.damaged);
      EXPECT_EQ(all->meta.epochs.accepted, 5U) << "promises do not depend on the journal";
      EXPECT_EQ(all->meta.epochs.accepted_from, Sid{2});
      EXPECT_EQ(all->meta.cluster_id, std::string(32, 'c'));
      EXPECT_TRUE(all->log.empty());
      EXPECT_EQ(all->meta.last_logged, Zxid{});
    }
    store.reset();
    options.directory = bad;
    open();
    writer->epoch = 3;
    commit(writer->entries(4, "again"));
    EXPECT_EQ(entries_in(crash()), 4U);
    store.reset();
    options.directory = dir / "data";
  }
}

// Not damage: emptying everything would be no answer to a mistake of the administrator.
TEST_F(JournalStoreTest, a_journal_that_may_not_be_opened_is_a_fault_even_to_a_salvage) {
  open();
  commit(writer->adopt(1));
  commit(writer->entries(5, "x"));
  const std::string left = crash();
  fs::rename(left + "/" + kJournal, left + "/kept");
  fs::create_directory(left + "/" + kJournal);  // opening it for writing fails, for root too
  for (const bool salvage : {false, true}) {
    const auto all = contents(left, salvage);
    ASSERT_FALSE(all);
    EXPECT_NE(all.error().message.find("cannot be opened"), std::string::npos) << all.error().message;
  }
  fs::remove(left + "/" + kJournal);
  fs::rename(left + "/kept", left + "/" + kJournal);
  EXPECT_EQ(entries_in(left), 5U);
}

TEST_F(JournalStoreTest, a_salvage_that_was_cut_off_before_the_journal_went_leaves_nothing_that_counts) {
  open();
  commit(writer->adopt(2));
  commit(writer->entries(5, "x"));
  commit(writer->entries(1, "y"));
  const std::string later = crash();
  std::string bytes = slurp(later + "/" + kJournal);
  bytes[journal::kBlock + 66] = static_cast<char>(bytes[journal::kBlock + 66] ^ 1);
  std::ofstream(later + "/" + kJournal, std::ios::binary | std::ios::trunc) << bytes;
  ASSERT_TRUE(contents(later, true));
  std::ofstream(later + "/" + kJournal, std::ios::binary | std::ios::trunc) << bytes;  // the salvage was cut off
  for (const bool salvage : {false, true}) {
    const auto all = contents(later, salvage);
    ASSERT_TRUE(all) << all.error().message;
    EXPECT_TRUE(all->meta.damaged);
    EXPECT_TRUE(all->log.empty());
    EXPECT_EQ(all->meta.epochs.current, 2U);
  }
}

// --- in order with what does not go through the journal

TEST_F(JournalStoreTest, truncation_and_epochs_come_after_what_was_journaled_before) {
  open();
  commit(writer->adopt(1));
  commit(writer->entries(5, "old"));
  Batch cut = writer->batch();
  cut.truncate_after = Zxid{1, 2};
  writer->submit(std::move(cut));
  writer->cut(Zxid{1, 2});
  writer->submit(writer->adopt(2));
  writer->submit(writer->entries(2, "new"));
  Batch promise = writer->batch();
  promise.epochs = Epochs{7, 2, Sid{3}};
  writer->submit(std::move(promise));
  commit(writer->entries(1, "newer"));
  const auto all = contents(crash());
  ASSERT_TRUE(all) << all.error().message;
  ASSERT_EQ(all->log.size(), 5U);
  EXPECT_EQ(*all->log[1].payload, "old");
  EXPECT_EQ(*all->log[2].payload, "new");
  EXPECT_EQ(all->log[2].previous, (Zxid{1, 2}));
  EXPECT_EQ(all->meta.epochs.accepted, 7U);
  EXPECT_EQ(all->meta.epochs.accepted_from, Sid{3});
}

TEST_F(JournalStoreTest, a_fold_never_comes_before_the_log_it_follows_from) {
  options.apply_age_ms = options.apply_quiet_ms = 1;
  open();
  commit(writer->adopt(1));
  for (int i = 0; i < 60; ++i) {
    Batch b = writer->entries(3, "x");
    b.fold = fold_at(writer->last());
    b.commit_hint = writer->last();
    b.fold->nodes.emplace_back(NodeId{1}, std::to_string(i));
    writer->submit(std::move(b));
    if (i % 6 != 0) continue;
    ASSERT_TRUE(durable->wait(writer->id()));
    // Nothing moves while it is copied.
    ASSERT_FALSE(read_later(Zxid{writer->last().value - 1}, writer->last()).empty());
    const auto all = contents(crash());
    ASSERT_TRUE(all) << all.error().message;
    EXPECT_EQ(all->meta.tree_durable, writer->last());
    EXPECT_EQ(all->nodes.at(1), std::to_string(i));
  }
}

// Random work, random crashes: nothing acknowledged is lost, the tree is the one of its position.
TEST_F(JournalStoreTest, any_mixture_survives_a_crash_at_any_moment) {
  std::mt19937 random(42);
  std::vector<LogEntry> log;                                        // all that was ever logged and not cut off
  std::map<Zxid, std::map<std::uint64_t, std::string>> trees;       // as of each fold
  std::map<std::uint64_t, std::string> tree;
  Epochs epochs;
  Zxid settled;  // hinted or folded: not to be cut off
  options.journal_bytes = 64 << 10;
  options.log_keep_entries = 40;
  open();
  const auto check = [&](const Contents& all) {
    ASSERT_EQ(all.meta.last_logged, log.empty() ? Zxid{} : log.back().zxid);
    ASSERT_EQ(all.meta.epochs.accepted, epochs.accepted);
    ASSERT_EQ(all.meta.epochs.current, epochs.current);
    ASSERT_LE(all.log.size(), log.size());
    for (std::size_t i = 1; i <= all.log.size(); ++i) {
      ASSERT_EQ(all.log[all.log.size() - i].zxid, log[log.size() - i].zxid);
      ASSERT_EQ(*all.log[all.log.size() - i].payload, *log[log.size() - i].payload);
    }
    ASSERT_LE(all.meta.log_floor, all.meta.tree_durable);
    ASSERT_EQ(all.nodes, trees[all.meta.tree_durable]);
  };
  trees[Zxid{}] = {};
  int recovered = 0;
  for (int step = 0; step < 1500; ++step) {
    Batch b;
    const auto dice = random() % 100;
    if (epochs.current == 0 || dice < 2) {
      b = writer->adopt(epochs.current + 1);
      epochs = *b.epochs;
    } else if (dice < 4 && !log.empty() && log.back().zxid > settled) {
      std::size_t keep = log.size() - 1;
      while (keep > 0 && random() % 3 != 0 && log[keep - 1].zxid > settled) --keep;
      log.resize(keep);
      const Zxid after = log.empty() ? Zxid{} : log.back().zxid;
      if (after < settled) continue;
      b = writer->batch();
      b.truncate_after = after;
      writer->cut(after);
    } else {
      const std::size_t size = random() % (random() % 20 == 0 ? 40'000 : 300);
      b = writer->entries(1 + random() % 4, std::string(size, static_cast<char>('a' + step % 26)));
      log.insert(log.end(), b.append.begin(), b.append.end());
      if (random() % 4 == 0) {
        b.commit_hint = writer->last();
        settled = writer->last();
      }
      if (random() % 6 == 0) {
        b.fold = fold_at(writer->last());
        settled = writer->last();
        std::map<std::uint64_t, std::optional<std::string>> changes;
        for (int n = 0; n < 5; ++n) {
          const std::uint64_t id = 1 + random() % 50;
          changes[id] = random() % 4 == 0 ? std::nullopt : std::optional(std::to_string(step));
        }
        for (auto& [id, record] : changes) {
          if (record) {
            tree[id] = *record;
          } else {
            tree.erase(id);
          }
          b.fold->nodes.emplace_back(NodeId{id}, record);
        }
        trees[writer->last()] = tree;
      }
    }
    writer->submit(std::move(b));
    if (random() % 3 != 0) continue;
    ASSERT_TRUE(durable->wait(writer->id()));
    if (random() % 12 != 0) continue;
    SCOPED_TRACE("step " + std::to_string(step));
    const std::string left = crash();
    const auto all = contents(left);
    ASSERT_TRUE(all) << all.error().message;
    ASSERT_NO_FATAL_FAILURE(check(*all));
    ++recovered;
    if (random() % 3 == 0) {  // life goes on with what was left
      store.reset();
      fs::remove_all(options.directory);
      options.directory = left;
      if (random() % 2 == 0) options.journal_bytes = random() % 2 == 0 ? 64 << 10 : 256 << 10;
      options.apply_age_ms = options.apply_quiet_ms = random() % 2 == 0 ? kNever : kNever - 1;
      open();
      tree = trees[store->meta().tree_durable];
      // Folds that were not in the database yet are made again, from the log.
      for (auto it = trees.upper_bound(store->meta().tree_durable); it != trees.end(); it = trees.erase(it)) {
      }
      settled = std::max(store->meta().commit_hint, store->meta().tree_durable);
      auto opened = read_all(*store);
      ASSERT_TRUE(opened) << opened.error().message;
      ASSERT_NO_FATAL_FAILURE(check(*opened));
    } else {
      fs::remove_all(left);
    }
  }
  EXPECT_GT(recovered, 20);
}

TEST_F(JournalStoreTest, a_journal_that_does_not_continue_the_log_is_a_fault_and_not_an_abort) {
  open();
  commit(writer->adopt(1));
  commit(writer->entries(2, "x"));
  const std::string left = crash();
  {
    Env env;
    Txn txn;
    MDB_dbi dbi = 0;
    ASSERT_EQ(env.open(left, options.map_bytes, 0), 0);
    ASSERT_EQ(txn.begin(env, 0), 0);
    ASSERT_EQ(mdb_dbi_open(txn.get(), schema::kMetaDb, 0, &dbi), 0);
    ASSERT_EQ(write_epochs(txn.get(), dbi, Epochs{0, 0, {}}), 0);
    ASSERT_EQ(txn.commit(), 0);
  }
  ASSERT_NO_FATAL_FAILURE(expect_fault(left, "does not continue the log"));
}

// --- readers while the database lags

TEST_F(JournalStoreTest, readers_see_everything_that_was_reported_durable) {
  options.log_keep_entries = 10;
  open();
  commit(writer->adopt(1));
  commit(writer->entries(1, "x"));
  for (int i = 0; i < 30; ++i) {
    Batch b = writer->entries(2, "x");
    b.fold = fold_at(writer->last());
    b.fold->nodes.emplace_back(NodeId{static_cast<std::uint64_t>(i) + 1}, "node");
    const Zxid last = writer->last();
    commit(std::move(b));
    if (i % 3 == 0) {
      const auto entries = read_later(Zxid{last.value - 2}, last);
      ASSERT_EQ(entries.size(), 2U);
      EXPECT_EQ(entries[1].zxid, last);
    } else if (i % 3 == 1) {
      EXPECT_EQ(store->open_snapshot()->zxid(), last);
    } else {
      std::size_t nodes = 0;
      const auto ignore = [](auto...) -> Result<bool, Fault> { return true; };
      ASSERT_TRUE(store->load_tree([&](NodeId, std::string_view) -> Result<bool, Fault> { return ++nodes > 0; },
                                   ignore, ignore));
      EXPECT_EQ(nodes, static_cast<std::size_t>(i) + 1);
      Zxid seen;
      ASSERT_TRUE(store->read_log(Zxid{last.value - 1}, [&](const LogEntry& entry) { seen = entry.zxid; }));
      EXPECT_EQ(seen, last);
    }
  }
  const auto all = contents(crash());
  ASSERT_TRUE(all);
  EXPECT_LT(all->log.size(), 20U) << "purged all the same";
}

TEST_F(JournalStoreTest, readers_on_many_threads_while_writes_go_on) {
  options.apply_age_ms = 3;
  options.apply_quiet_ms = 1;
  options.log_keep_entries = 50;
  open();
  commit(writer->adopt(1));
  commit(writer->entries(1, "x"));
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> written{writer->last().value};
  std::vector<std::thread> readers;
  for (int n = 0; n < 3; ++n) {
    readers.emplace_back([&, n] {
      while (!stop) {
        const Zxid last{written.load()};
        if (n == 0) {
          EXPECT_LE(store->open_snapshot()->zxid().value, written.load() + 1000);
        } else if (n == 1) {
          Zxid seen;
          const auto read = store->read_log(Zxid{last.value - 1}, [&](const LogEntry& e) { seen = e.zxid; });
          if (read) {
            EXPECT_GE(seen, last);  // or it was purged meanwhile
          }
        } else {
          std::promise<std::vector<LogEntry>> got;
          store->read_log_later(Zxid{last.value - 1}, last, 1000, [&](auto entries) { got.set_value(entries); });
          const auto entries = got.get_future().get();
          EXPECT_TRUE(entries.empty() || entries[0].zxid == last);
        }
      }
    });
  }
  for (int i = 0; i < 300; ++i) {
    Batch b = writer->entries(1 + static_cast<std::size_t>(i) % 5, "x");
    if (i % 10 == 0) b.fold = fold_at(writer->last());
    const Zxid last = writer->last();
    commit(std::move(b));
    written = last.value;
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
}

}  // namespace
}  // namespace coord::store
