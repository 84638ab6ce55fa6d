// What the tree of one replica says of its sessions and of the nodes that they own, read as a client would read it; and
// whether replicas that have applied the same transactions say the same.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/model/records.h"
#include "tests/sim/replica/world.h"

namespace coord::sim {

struct Tables {
  struct Row {
    std::int32_t timeout_ms = 0;
    std::set<std::string> ephemerals;  // as the session's own list has it
    friend bool operator==(const Row&, const Row&) = default;
  };
  Zxid zxid;
  std::uint64_t digest = 0;
  std::map<std::int64_t, Row> sessions;
  std::map<std::string, Stat> nodes;  // all but the root, by path; an ephemeral's owner as the node has it
  friend bool operator==(const Tables&, const Tables&) = default;

  std::set<std::string> owned_by(std::int64_t session) const;  // by the nodes
};
Tables read_tables(runtime::Core& core);
// What the two tables of sessions and ephemerals have against each other: an ephemeral whose session does not exist or
// does not know it. Empty: nothing.
std::string contradiction(const Tables& tables);

// Runs the world, and looks after each step at every replica that has applied something: what two of them say at the
// same zxid must be the same. A difference is a Violation.
class AtEqualZxid {
 public:
  explicit AtEqualZxid(ReplicaWorld& world) : world_(world) {}

  void run_for(std::int64_t ms);
  bool run_until(const std::function<bool()>& true_now, std::int64_t ms);
  std::uint64_t compared() const { return compared_; }
  std::uint64_t changes_of_role() const { return changes_of_role_; }  // that were seen

 private:
  struct Noted {
    Sid by;
    std::uint64_t digest = 0;
    std::map<std::int64_t, Tables::Row> sessions;
  };
  void look();

  ReplicaWorld& world_;
  std::map<Sid, std::pair<std::uint64_t, Zxid>> last_;  // incarnation, applied
  std::map<Sid, zab::Role> roles_;
  std::map<Zxid, Noted> noted_;
  std::uint64_t compared_ = 0;
  std::uint64_t changes_of_role_ = 0;
};

// All that are up have applied the same, and their tables are one and the same and free of contradictions, or a
// Violation. Returns them.
Tables one_truth(ReplicaWorld& world);

}  // namespace coord::sim
