// What a store was told to keep, and whether what was found after a power cut is what store.h promises of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/replica/store/store_testing.h"

namespace coord::store::power_cut {

struct Tree {
  Zxid at;
  std::map<std::uint64_t, std::string> nodes;
  std::map<std::int64_t, std::string> sessions;
  std::string counters;
};

// After one batch, as if everything were durable at once.
struct Step {
  std::shared_ptr<const std::vector<LogEntry>> log;  // nothing purged
  Zxid floor;                                        // it begins above
  Zxid last;
  Epochs epochs;
  Identity identity;
  Zxid hint;
  std::shared_ptr<const Tree> tree;
  std::size_t tree_least = 0;  // the tree is not older than that of this step: a snapshot is not a fold
  bool forces = false;         // a batch of nothing
};

class History {
 public:
  History();  // of a new directory
  explicit History(const Contents& contents);

  // `staged`: the snapshot that is installed, if one is. The number of the batch is its id.
  void add(const Batch& batch, const std::shared_ptr<const Tree>& staged);
  const Step& last() const { return steps_.back(); }
  std::size_t size() const { return steps_.size() - 1; }  // batches
  const Step& at(std::size_t number) const { return steps_.at(number); }

  // What is wrong with this, found after a cut when batches up to `acked` were reported durable, and up to `submitted`
  // were there at all; empty: nothing.
  std::string judge(const Contents& found, std::size_t acked, std::size_t submitted) const;

  std::string directory_id;  // empty: any

 private:
  static std::string difference(const Contents& found, const Step& step);
  std::string judge_tree(const Contents& found, std::size_t acked, std::size_t present) const;

  std::vector<Step> steps_;
};

}  // namespace coord::store::power_cut
