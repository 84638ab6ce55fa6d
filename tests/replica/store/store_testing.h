// What the tests of the store share.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "replica/store/store.h"

namespace coord::store {

class TempDir {
 public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "coord-store-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline LmdbOptions small_options(const std::string& directory) {
  LmdbOptions options;
  options.directory = directory;
  options.map_bytes = 4ULL << 30;
  options.grow_bytes = 4ULL << 20;
  options.journal_bytes = 1ULL << 20;
  return options;
}

inline std::string slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string bytes(std::filesystem::file_size(path), '\0');
  in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  bytes.resize(static_cast<std::size_t>(in.gcount()));
  return bytes;
}

inline Payload payload(std::string text) { return std::make_shared<const std::string>(std::move(text)); }

// Waits for completions.
class Durable {
 public:
  void attach(Store& store) {
    store.set_on_durable([this](std::uint64_t id) {
      const std::lock_guard lock(mutex_);
      ordered_ = ordered_ && id > id_;
      id_ = id;
      changed_.notify_all();
    });
  }
  [[nodiscard]] bool wait(std::uint64_t id) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(60), [&] { return id_ >= id; }) && ordered_;
  }
  std::uint64_t reached() {
    const std::lock_guard lock(mutex_);
    return id_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t id_ = 0;
  bool ordered_ = true;
};

// Follows refuse_writes.
class SpaceWatch {
 public:
  void attach(Store& store) {
    store.set_on_space([this](bool refuse) {
      const std::lock_guard lock(mutex_);
      refuse_ = refuse;
      changed_.notify_all();
    });
  }
  [[nodiscard]] bool wait(bool refuse) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(30), [&] { return refuse_ == refuse; });
  }
  bool refuse() {
    const std::lock_guard lock(mutex_);
    return refuse_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool refuse_ = false;
};

// Everything a store holds, read through its face.
struct Contents {
  Meta meta;
  std::vector<LogEntry> log;  // above the floor
  std::map<std::uint64_t, std::string> nodes;
  std::map<std::int64_t, std::string> sessions;
  std::string counters;
};

inline Result<Contents, Fault> read_all(Store& store) {
  Contents all;
  all.meta = store.meta();
  auto tree = store.load_tree(
      [&](NodeId id, std::string_view record) -> Result<bool, Fault> {
        all.nodes[id.value] = record;
        return true;
      },
      [&](SessionId id, std::string_view record) -> Result<bool, Fault> {
        all.sessions[id.value] = record;
        return true;
      },
      [&](std::string_view record) -> Result<bool, Fault> {
        all.counters = record;
        return true;
      });
  if (!tree) return fail(tree.error());
  auto log = store.read_log(all.meta.log_floor, [&](LogEntry entry) { all.log.push_back(std::move(entry)); });
  if (!log) return fail(log.error());
  return all;
}

// Builds batches whose log is without gaps.
class Writer {
 public:
  explicit Writer(Store& store) : store_(store), last_(store.meta().last_logged) {}

  Batch batch() {
    Batch b;
    b.id = ++id_;
    return b;
  }
  Batch entries(std::size_t count, const std::string& text) {
    Batch b = batch();
    for (std::size_t i = 0; i < count; ++i) {
      const Zxid next = last_.epoch() == epoch ? Zxid{epoch, last_.counter() + 1} : Zxid{epoch, 1};
      b.append.push_back({next, last_, payload(text)});
      last_ = next;
    }
    return b;
  }
  Batch adopt(std::uint32_t e) {
    epoch = e;
    Batch b = batch();
    b.epochs = Epochs{e, e, {}};
    return b;
  }
  void cut(Zxid last) { last_ = last; }
  Zxid last() const { return last_; }
  std::uint64_t id() const { return id_; }
  void submit(Batch b) { store_.submit(std::move(b)); }

  std::uint32_t epoch = 1;

 private:
  Store& store_;
  Zxid last_;
  std::uint64_t id_ = 0;
};

inline FoldRecord fold_at(Zxid at) {
  FoldRecord fold;
  fold.tree_durable = at;
  fold.counters = "counters at " + to_string(at);
  return fold;
}

}  // namespace coord::store
