// The real store under load: merging, purging, growing, and being killed.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <random>
#include <thread>

#include "tests/replica/store/store_testing.h"

namespace coord::store {
namespace {

TEST(LmdbLoadTest, queued_batches_are_merged_and_all_reported) {
  TempDir dir;
  Durable durable;
  auto store = *open_lmdb(small_options(dir / "data"));
  durable.attach(*store);
  Writer writer(*store);
  writer.submit(writer.adopt(1));
  for (int i = 0; i < 5000; ++i) writer.submit(writer.entries(1, "entry"));
  ASSERT_TRUE(durable.wait(writer.id()));
  const Counters counters = store->counters();
  EXPECT_EQ(counters.entries, 5000U);
  EXPECT_LT(counters.commits, 2500U);
  EXPECT_GE(counters.commits, 5U) << "a transaction is bounded";
  EXPECT_GT(counters.commit_ns_max, 0U);
}

TEST(LmdbLoadTest, the_destructor_waits_for_what_was_submitted) {
  TempDir dir;
  {
    auto store = *open_lmdb(small_options(dir / "data"));
    Writer writer(*store);
    writer.submit(writer.adopt(1));
    for (int i = 0; i < 2000; ++i) writer.submit(writer.entries(2, "entry"));
  }
  auto store = *open_lmdb(small_options(dir / "data"));
  EXPECT_EQ(store->meta().last_logged, (Zxid{1, 4000}));
}

TEST(LmdbLoadTest, the_file_stays_bounded_over_200k_entries) {
  TempDir dir;
  LmdbOptions options = small_options(dir / "data");
  options.log_keep_bytes = 4U << 20;
  options.log_keep_entries = 1'000'000;
  Durable durable;
  auto store = *open_lmdb(options);
  durable.attach(*store);
  Writer writer(*store);
  writer.submit(writer.adopt(1));
  const std::string text(100, 'x');
  std::uint64_t after_first = 0;
  for (int i = 0; i < 400; ++i) {
    Batch b = writer.entries(500, text);
    b.fold = fold_at(writer.last());
    for (std::uint64_t n = 0; n < 20; ++n) b.fold->nodes.emplace_back(NodeId{n * 7 % 400}, std::string(300, 'n'));
    writer.submit(std::move(b));
    if (i % 20 == 19) {
      ASSERT_TRUE(durable.wait(writer.id()));
    }
    if (i == 159) after_first = store->space().used_bytes;
  }
  EXPECT_LT(store->space().used_bytes, 16U << 20);
  EXPECT_LT(store->space().used_bytes, after_first + (2U << 20)) << "still growing";
  store.reset();
  EXPECT_LT(std::filesystem::file_size(dir / "data/data.mdb"), 40U << 20);
  store = *open_lmdb(options);
  const auto all = read_all(*store);
  ASSERT_TRUE(all) << all.error().message;
  EXPECT_EQ(all->meta.last_logged, (Zxid{1, 200'000}));
  EXPECT_GT(all->log.size(), 10'000U);
  EXPECT_LT(all->log.size(), 60'000U);
}

// Asserts of the writer check the bound on each commit.
TEST(LmdbLoadTest, heavy_mixed_load_never_outruns_what_is_written_ahead) {
  TempDir dir;
  LmdbOptions options = small_options(dir / "data");
  options.log_keep_bytes = 8U << 20;
  Durable durable;
  auto store = *open_lmdb(options);
  durable.attach(*store);
  Writer writer(*store);
  writer.submit(writer.adopt(1));
  std::mt19937 random(11);
  std::map<std::uint64_t, std::string> model;
  for (int i = 0; i < 1500; ++i) {
    const bool large = random() % 30 == 0;
    Batch b = writer.entries(1 + random() % (large ? 4 : 60), std::string(random() % (large ? 400'000 : 1500), 'e'));
    if (random() % 3 == 0) {
      b.fold = fold_at(writer.last());
      const auto changes = random() % (random() % 20 == 0 ? 2000 : 50);
      std::map<std::uint64_t, std::optional<std::string>> folded;
      for (std::size_t k = 0; k < changes; ++k) {
        const std::uint64_t id = random() % 5000;
        folded[id] = random() % 4 == 0
                         ? std::nullopt
                         : std::optional(std::string(random() % (random() % 200 == 0 ? 90'000 : 900), 'n'));
      }
      for (auto& [id, record] : folded) {
        if (record) {
          model[id] = *record;
        } else {
          model.erase(id);
        }
        b.fold->nodes.emplace_back(NodeId{id}, std::move(record));
      }
    }
    writer.submit(std::move(b));
    const Space space = store->space();
    ASSERT_GE(space.grown_bytes, space.used_bytes);
    if (i % 50 == 0) {
      ASSERT_TRUE(durable.wait(writer.id()));
    }
  }
  store.reset();
  store = *open_lmdb(options);
  const auto all = read_all(*store);
  ASSERT_TRUE(all) << all.error().message;
  EXPECT_EQ(all->nodes, model);
}

// --- kill -9

constexpr std::uint64_t kNodes = 97;
constexpr std::uint64_t kSessions = 7;

// What entry n does to the tree.
void model_step(std::uint64_t n, std::map<std::uint64_t, std::string>& nodes,
                std::map<std::int64_t, std::string>& sessions) {
  if (n % 13 == 0) {
    nodes.erase(n % kNodes);
  } else {
    nodes[n % kNodes] = std::to_string(n);
  }
  sessions[static_cast<std::int64_t>(n % kSessions)] = std::to_string(n);
}

LmdbOptions kill_options(const std::string& directory) {
  LmdbOptions options = small_options(directory);
  options.log_keep_entries = 700;
  return options;
}

// The number of the last entry; entries carry their number.
std::uint64_t last_number(Store& store) {
  auto all = read_all(store);
  if (!all) return UINT64_MAX;
  if (!all->log.empty()) return std::stoull(*all->log.back().payload);
  return all->counters.empty() ? 0 : std::stoull(all->counters);
}

// Writes numbered entries for ever; numbers that are durable go to `out`.
[[noreturn]] void child_writes(const std::string& directory, int out, std::uint32_t seed) {
  auto opened = open_lmdb(kill_options(directory));
  if (!opened) ::_exit(3);
  auto store = std::move(*opened);
  std::uint64_t n = last_number(*store);
  if (n == UINT64_MAX) ::_exit(4);
  std::uint64_t folded = n;  // the first fold of a life repeats what the last one may have missed
  if (auto all = read_all(*store); all && !all->counters.empty()) folded = std::stoull(all->counters);

  std::mutex mutex;
  std::condition_variable room;
  std::map<std::uint64_t, std::uint64_t> number_of;  // batch id -> last number in it
  store->set_on_durable([&](std::uint64_t id) {
    const std::lock_guard lock(mutex);
    const std::uint64_t number = std::prev(number_of.upper_bound(id))->second;
    number_of.erase(number_of.begin(), number_of.upper_bound(id));
    if (::write(out, &number, sizeof number) != sizeof number) ::_exit(5);
    room.notify_one();
  });
  std::mt19937 random(seed);
  Writer writer(*store);
  Batch adopt = writer.adopt(store->meta().epochs.accepted + 1);
  number_of[adopt.id] = n;
  writer.submit(std::move(adopt));
  for (;;) {
    Batch b = writer.batch();
    const std::uint64_t count = 1 + random() % 6;
    for (std::uint64_t i = 0; i < count; ++i) {
      ++n;
      const Zxid last = b.append.empty() ? writer.last() : b.append.back().zxid;
      const Zxid next = last.epoch() == writer.epoch ? Zxid{last.value + 1} : Zxid{writer.epoch, 1};
      b.append.push_back({next, last, payload(std::to_string(n))});
    }
    writer.cut(b.append.back().zxid);
    if (random() % 5 == 0) {
      b.fold = fold_at(writer.last());
      b.fold->counters = std::to_string(n);
      std::map<std::uint64_t, std::optional<std::string>> nodes;
      std::map<std::int64_t, std::string> sessions;
      for (++folded; folded <= n; ++folded) {
        nodes[folded % kNodes] = folded % 13 == 0 ? std::nullopt : std::optional(std::to_string(folded));
        sessions[static_cast<std::int64_t>(folded % kSessions)] = std::to_string(folded);
      }
      folded = n;
      for (auto& [id, record] : nodes) b.fold->nodes.emplace_back(NodeId{id}, std::move(record));
      for (auto& [id, record] : sessions) b.fold->sessions.emplace_back(SessionId{id}, std::move(record));
    }
    std::unique_lock lock(mutex);
    room.wait(lock, [&] { return number_of.size() < 64; });
    number_of[b.id] = n;
    lock.unlock();
    writer.submit(std::move(b));
  }
}

void check_after_kill(const std::string& directory, std::uint64_t reported) {
  auto store = open_lmdb(kill_options(directory));
  ASSERT_TRUE(store) << store.error().message;
  const auto all = read_all(**store);  // checks checksums and the chain
  ASSERT_TRUE(all) << all.error().message;
  std::uint64_t last = all->counters.empty() ? 0 : std::stoull(all->counters);
  const std::uint64_t in_tree = last;
  for (std::size_t i = 0; i < all->log.size(); ++i) {
    const std::uint64_t number = std::stoull(*all->log[i].payload);
    if (i > 0) {
      ASSERT_EQ(number, std::stoull(*all->log[i - 1].payload) + 1);
    }
    if (all->log[i].zxid == all->meta.tree_durable) {
      ASSERT_EQ(number, in_tree);
    }
    last = std::max(last, number);
  }
  ASSERT_GE(last, reported) << "lost what was durable";
  std::map<std::uint64_t, std::string> nodes;
  std::map<std::int64_t, std::string> sessions;
  for (std::uint64_t n = 1; n <= in_tree; ++n) model_step(n, nodes, sessions);
  ASSERT_EQ(all->nodes, nodes);
  ASSERT_EQ(all->sessions, sessions);
}

TEST(LmdbKillTest, nothing_reported_durable_is_lost_in_30_kills) {
  TempDir dir;
  const std::string directory = dir / "data";
  std::mt19937 random(20);
  std::uint64_t reported = 0;
  for (std::uint32_t round = 0; round < 30; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    int pipe_fds[2];
    ASSERT_EQ(::pipe(pipe_fds), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      ::close(pipe_fds[0]);
      child_writes(directory, pipe_fds[1], round);
    }
    ::close(pipe_fds[1]);
    const std::uint64_t commits = random() % 60;  // killed after so many reports, at some point of the next
    std::uint64_t number = 0;
    for (std::uint64_t i = 0; i <= commits; ++i) {
      ASSERT_EQ(::read(pipe_fds[0], &number, sizeof number), static_cast<ssize_t>(sizeof number)) << "child ended";
      reported = std::max(reported, number);
    }
    ::usleep(static_cast<useconds_t>(random() % 3000));
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "child exit status " << WEXITSTATUS(status);
    while (::read(pipe_fds[0], &number, sizeof number) == sizeof number) reported = std::max(reported, number);
    ::close(pipe_fds[0]);
    check_after_kill(directory, reported);
    if (::testing::Test::HasFatalFailure()) return;
  }
  EXPECT_GT(reported, 1000U) << "too little happened to mean anything";
}

}  // namespace
}  // namespace coord::store
