// store_bench --dir DIR: the store alone, what a replica asks of it: entries of the log, batch after batch, with folds.
//
//   store_bench --dir DIR lone  --ops N     one batch at a time: latency until it is durable
//   store_bench --dir DIR load  --ops N     batches of --batch entries, --window of them under way: entries per second
//
// --journal 0: without a journal, each group of batches a transaction. Every 256th entry a fold of as many nodes.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "replica/store/store.h"

namespace coord {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string dir;
  std::uint64_t ops = 5000;
  std::uint64_t size = 1024;
  std::uint64_t batch = 1;
  std::uint64_t window = 1;
  std::uint64_t pause_us = 0;
  store::LmdbOptions store;
};

struct Progress {
  std::mutex mutex;
  std::condition_variable changed;
  std::uint64_t durable = 0;
};

int run(const Options& options) {
  Progress progress;
  store::LmdbOptions settings = options.store;
  settings.directory = options.dir;
  const auto opening = Clock::now();
  auto opened = store::open_lmdb(settings);
  if (!opened) {
    std::fprintf(stderr, "%s\n", opened.error().message.c_str());
    return 1;
  }
  auto store = std::move(*opened);
  const double open_ms = std::chrono::duration<double, std::milli>(Clock::now() - opening).count();
  store->set_on_durable([&](std::uint64_t id) {
    const std::lock_guard lock(progress.mutex);
    progress.durable = id;
    progress.changed.notify_one();
  });
  const auto wait = [&](std::uint64_t id) {
    std::unique_lock lock(progress.mutex);
    progress.changed.wait(lock, [&] { return progress.durable >= id; });
  };
  const std::uint32_t epoch = store->meta().epochs.current + 1;
  Zxid last = store->meta().last_logged;
  std::uint64_t id = 0;
  store::Batch adopt;
  adopt.id = ++id;
  adopt.epochs = store::Epochs{epoch, epoch, {}};
  store->submit(std::move(adopt));
  wait(id);

  const auto payload = std::make_shared<const std::string>(options.size, 'x');
  std::vector<double> samples;
  samples.reserve(options.ops);
  std::uint64_t unfolded = 0;
  std::uint64_t node = 0;
  const auto begin = Clock::now();
  for (std::uint64_t n = 0; n < options.ops; ++n) {
    const auto from = Clock::now();
    store::Batch batch;
    batch.id = ++id;
    for (std::uint64_t k = 0; k < options.batch; ++k) {
      const Zxid next = last.epoch() == epoch ? Zxid{last.value + 1} : Zxid{epoch, 1};
      batch.append.push_back({next, last, payload});
      last = next;
    }
    batch.commit_hint = batch.append.front().previous;
    if (batch.commit_hint->epoch() != epoch) batch.commit_hint.reset();
    unfolded += options.batch;
    if (unfolded >= 256) {
      batch.fold = store::FoldRecord{last, {}, {}, "counters"};
      for (; unfolded > 0; --unfolded) batch.fold->nodes.emplace_back(NodeId{1 + ++node % 100'000}, *payload);
    }
    store->submit(std::move(batch));
    if (id > options.window) wait(id - options.window + 1);
    samples.push_back(std::chrono::duration<double, std::micro>(Clock::now() - from).count());
    if (options.pause_us > 0) {
      const auto until = Clock::now() + std::chrono::microseconds(options.pause_us);
      while (Clock::now() < until) {
      }
    }
  }
  wait(id);
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  const store::Counters counters = store->counters();
  std::sort(samples.begin(), samples.end());
  const auto at = [&](double q) {
    return samples[static_cast<std::size_t>(q * static_cast<double>(samples.size() - 1))];
  };
  const auto closing = Clock::now();
  store.reset();
  std::printf(
      "p50 %.0f us p90 %.0f p99 %.0f max %.0f; %.0f entries/s; commits %llu journaled %llu applied %llu of %.1f ms; "
      "open %.0f ms close %.0f ms\n",
      at(0.5), at(0.9), at(0.99), samples.back(), static_cast<double>(options.ops * options.batch) / seconds,
      static_cast<unsigned long long>(counters.commits), static_cast<unsigned long long>(counters.journaled),
      static_cast<unsigned long long>(counters.applied),
      counters.applied == 0
          ? 0.0
          : static_cast<double>(counters.apply_ns_total) / 1e6 / static_cast<double>(counters.applied),
      open_ms, std::chrono::duration<double, std::milli>(Clock::now() - closing).count());
  return 0;
}

}  // namespace
}  // namespace coord

int main(int argc, char** argv) {
  coord::Options options;
  CLI::App app("store_bench: the store of a replica alone");
  app.add_option("--dir", options.dir, "its directory, made if it is not there")->required();
  app.add_option("--size", options.size, "of a payload, in bytes");
  app.add_option("--journal", options.store.journal_bytes, "bytes of a segment; 0: no journal");
  app.add_option("--age", options.store.apply_age_ms, "ms that a batch may wait for the database");
  app.add_option("--quiet", options.store.apply_quiet_ms, "ms without a batch until the database is brought up");
  app.require_subcommand(1);
  auto* lone = app.add_subcommand("lone", "one batch at a time");
  lone->add_option("--ops", options.ops);
  lone->add_option("--pause", options.pause_us, "us between two");
  auto* load = app.add_subcommand("load", "many under way");
  load->add_option("--ops", options.ops);
  load->add_option("--batch", options.batch, "entries in one");
  load->add_option("--window", options.window, "batches under way");
  CLI11_PARSE(app, argc, argv);
  return coord::run(options);
}
