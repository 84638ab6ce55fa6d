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
  // `first`: the members as the files of the founders say.
  explicit Ghost(zab::Membership first) : in_force_(std::move(first)) {}

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
  // 22, after each step: what the core takes for the members follows from its log. `newest`: the last change in the log
  // or the tree; 0: none. `before`: what it took to be committed last time, updated; a snapshot may take it back.
  void members(Sid at, const zab::Peer& peer, Zxid newest, Zxid& before) const;
  // 10, 22, when something new has been delivered: the disks of a majority of the voters in force hold it; of a change
  // of the members, of the old ones and of the new ones. `disks`: of all servers; `lost`: those that have lost their
  // content, perhaps after they acknowledged.
  void durable(const std::map<Sid, const Image*>& disks, const std::set<Sid>& lost);
  // 21, the core's part: an answer of a leader that is one covers what was committed when it was asked.
  void asked(Sid at, std::uint64_t number);
  void confirmed(Sid at, std::uint64_t number, Zxid committed);
  void forget_questions(Sid at) { questions_.erase(at); }

  [[noreturn]] void violate(int number, Sid at, const std::string& text) const;

  const zab::Membership& in_force() const { return in_force_; }  // as of the last transaction that was delivered
  bool change_undecided() const;  // one was proposed that may yet be committed
  std::uint64_t changes() const { return changes_; }             // of the members, delivered
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
  void held_by_majority(const zab::Membership& members, const std::map<Sid, const Image*>& disks,
                        const std::set<Sid>& lost) const;

  zab::Membership in_force_, previous_;  // previous_: before in_force_
  std::map<Zxid, zab::Membership> lists_;  // all that were proposed
  std::uint64_t changes_ = 0;
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
