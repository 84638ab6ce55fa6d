// What must hold whatever happens, checked against what an all-seeing observer noted (zab.md section 7.1). The numbers
// in the messages are those of that table. Each check throws Violation.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "replica/zab/peer.h"
#include "tests/sim/disk.h"

namespace coord::sim {

struct Violation : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Ghost {
 public:
  explicit Ghost(std::set<Sid> voters) : voters_(std::move(voters)) {}

  // --- what happens
  void proposed(Sid leader, std::uint32_t epoch, const zab::LogEntry& entry, const Tree& applied);
  void appended(Sid at, const zab::LogEntry& entry, Zxid behind);  // 1, 4: only what was proposed, in its place
  // `at` applies `entry` as its transaction number `index` (from 0). 1, 2, 3, 5, 6, 7, 20
  void delivered(Sid at, std::uint64_t index, const zab::LogEntry& entry);
  void installed(Sid at, const Tree& tree);                        // 2: a snapshot is a prefix too
  void established(Sid leader, std::uint32_t epoch, Zxid last, Zxid cluster_applied);  // 8, 9, 11
  void acknowledged_to_client(Zxid zxid);                          // 11
  void truncated(Sid at, const std::vector<zab::LogEntry>& entries);  // 10: from the disk
  // 12: `message` is sent by `from`, whose synced image is `disk`.
  void sent(Sid from, const zab::Message& message, const Image& disk);
  // 13, after each step.
  void order(Sid at, const zab::Peer& peer, const Tree& applied);
  // 10, when something new has been delivered: a quorum's disks hold it. `disks`: of the voters; `lost`: how many of
  // them have lost their content, perhaps after they acknowledged.
  void durable(const std::map<Sid, const Image*>& disks, std::size_t lost);
  // 21, the core's part: an answer of a leader that is one covers what was committed when it was asked.
  void asked(Sid at, std::uint64_t number);
  void confirmed(Sid at, std::uint64_t number, Zxid committed);
  void forget_questions(Sid at) { questions_.erase(at); }

  [[noreturn]] void violate(int number, Sid at, const std::string& text) const;

  std::size_t history_size() const { return history_.size(); }
  Zxid last_delivered() const { return history_.empty() ? Zxid{} : history_.back(); }
  std::uint64_t chain_at(std::uint64_t count) const { return count == 0 ? 0 : chains_[count - 1]; }
  std::size_t established_count() const { return established_.size(); }
  bool was_proposed(Zxid zxid) const { return broadcast_.contains(zxid); }
  static std::uint64_t chain(std::uint64_t before, Zxid zxid, const std::string& payload);

 private:
  struct Broadcast {
    Zxid previous;
    std::uint64_t payload = 0;
    Sid leader;
  };
  struct Establishment {
    Sid leader;
    Zxid base;
    bool has_proposed = false;
  };
  // Is `older` in the history that ends with `last`?
  bool in_history(Zxid last, Zxid older) const;

  std::set<Sid> voters_;
  std::unordered_map<Zxid, Broadcast> broadcast_;
  std::vector<Zxid> history_;  // delivered by anybody
  std::vector<std::uint64_t> chains_;
  std::unordered_map<Zxid, std::size_t> place_;
  std::map<std::uint32_t, Establishment> established_;
  std::map<std::uint32_t, Sid> broadcasters_;
  std::set<Zxid> answered_;    // to clients, not delivered by anybody yet
  std::map<Sid, std::map<std::uint64_t, Zxid>> questions_;
};

}  // namespace coord::sim
