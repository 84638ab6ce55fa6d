// A simulated disk with the store on it, as LMDB does it: a commit writes its pages beside the old ones, flushes
// (barrier 1), writes the root record into the other of two slots, flushes (barrier 2), and is durable. Pages and roots
// that no barrier has covered live in the page cache: a killed process leaves them there, a power cut loses any subset.
//
// `visible` is what the process reads, `durable` what a power cut now would certainly leave.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "replica/zab/history.h"
#include "replica/zab/peer.h"
#include "replica/zab/quorum.h"
#include "tests/sim/mutants.h"
#include "tests/sim/random.h"
#include "tests/sim/scheduler.h"

namespace coord::sim {

// What stands for the tree: how many transactions were applied, a hash over them, who is enrolled, and who is a member
// (version 0: as the files say).
struct Tree {
  Zxid zxid;
  std::uint64_t count = 0;
  std::uint64_t chain = 0;
  std::map<Sid, std::string> enrolled;
  zab::Membership members;
};
std::string encode_tree(const Tree& tree, std::size_t filler);
std::optional<Tree> decode_tree(const std::string& bytes);  // nullopt: damaged

struct Image {
  std::uint32_t accepted_epoch = 0;
  Sid accepted_from;
  std::uint32_t current_epoch = 0;
  std::string directory_id, cluster_id, secret;
  bool damaged = false;
  Zxid floor;
  std::deque<zab::LogEntry> log;
  Zxid commit_hint;
  Tree tree;

  Zxid last() const { return log.empty() ? floor : log.back().zxid; }
  bool holds(Zxid zxid) const;  // in the log, or below it in the tree
  zab::LogShape shape() const;
  // The one that the tree holds (if it holds one), then what is in the log above it.
  std::vector<zab::Membership> memberships() const;
};

struct InstallOp { Tree tree; };
struct TruncateOp { Zxid after; };
struct AppendOp { zab::LogEntry entry; };
struct PromiseOp { std::uint32_t epoch; Sid from; };
struct AdoptOp { std::uint32_t epoch; };
struct IdentityOp { std::string cluster_id, secret; };
struct RepairedOp {};
struct HintOp { Zxid zxid; };
struct FoldOp { Tree tree; };
struct PurgeOp { std::size_t keep; Zxid pin; };  // pin: an open snapshot's
using Op = std::variant<InstallOp, TruncateOp, AppendOp, PromiseOp, AdoptOp, IdentityOp, RepairedOp, HintOp, FoldOp,
                        PurgeOp>;

// "" or what is wrong with it.
std::string apply_op(Image& image, const Op& op, bool purge_unapplied);

struct DiskBatch {
  std::uint64_t id = 0;
  std::vector<Op> ops;
};

enum class Stage { kBeforeWrite, kPagesWritten, kPagesSynced, kRootWritten, kDurable };
inline constexpr int kStages = 5;
inline constexpr Stage kAllStages[kStages] = {Stage::kBeforeWrite, Stage::kPagesWritten, Stage::kPagesSynced,
                                              Stage::kRootWritten, Stage::kDurable};

class Disk {
 public:
  struct User {
    virtual ~User() = default;
    virtual void durable(std::uint64_t batch_id) = 0;
    virtual bool stage(Stage stage) = 0;             // true: the process died of a fault put there
    virtual void storage_error() = 0;                // the process is to end
    virtual void wrong(const std::string& what) = 0;  // the store would have refused this
    virtual void truncated(const std::vector<zab::LogEntry>& entries) = 0;  // about to vanish
  };

  Disk(Scheduler& scheduler, Random& random, Mutant mutant, std::string directory_id);

  // --- the process
  void open(User& user);  // after a crash or at the first start
  void submit(DiskBatch batch);
  bool idle() const { return !busy_ && queue_.empty(); }
  const Image& visible() const { return visible_; }
  const Image& durable() const { return durable_; }

  // --- faults
  void crash(bool power_cut);
  void stall_until(std::int64_t us) { stalled_until_ = us; }
  void slow(std::int64_t factor) { slow_ = factor; }
  void fail_next_sync() { fail_next_ = true; }
  void fill(bool full) { full_ = full; }        // ends the process
  void starve(bool starved) { starved_ = starved; }  // what is written waits for room
  bool waiting() const { return waiting_; }
  void low(bool low) { low_ = low; }                 // nearly full, and no more than that
  bool is_low() const { return low_; }
  void calm();  // nothing of the above any more
  void flip_bit();                              // found by a checksum at the next open
  void wipe(std::string new_directory_id);      // only while no process runs
  Image backup() const { return durable_; }
  void restore(Image image);                    // only while no process runs
  void set_latency(std::int64_t us) { latency_us_ = us; }
  void set_fixed_latency(bool fixed) { fixed_ = fixed; }

 private:
  struct Commit {
    std::vector<std::vector<Op>> pages;
    bool pages_synced = false;
    bool root_written = false;
    bool root_synced = false;
    std::uint64_t last_id = 0;
  };
  void begin();
  void run(Stage stage, std::uint64_t generation);
  void next(Stage stage, std::int64_t delay_us);
  std::int64_t delay();
  bool write(const Commit& commit, Image& image, bool lossy);  // false: something did not fit
  void settle(std::size_t leave);  // the oldest, all but so many, are certainly on disk from now on
  void salvage(Image& image);
  void look(const Commit& commit);

  Scheduler& scheduler_;
  Random& random_;
  const Mutant mutant_;
  User* user_ = nullptr;
  std::uint64_t generation_ = 0;
  Image visible_;
  Image durable_;
  std::deque<DiskBatch> queue_;
  std::deque<Commit> unsynced_;  // written by the process, the last one perhaps still being written
  bool busy_ = false;
  bool fail_next_ = false;
  bool full_ = false;
  bool starved_ = false;
  bool waiting_ = false;
  bool low_ = false;
  bool flipped_ = false;
  bool fixed_ = false;
  std::int64_t stalled_until_ = 0;
  std::int64_t slow_ = 1;
  std::int64_t latency_us_ = 300;
};

}  // namespace coord::sim
