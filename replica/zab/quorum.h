// Majority arithmetic on sets of voters, in one place (zab.md section 2.2: never write n/2+1 elsewhere). Pure.
#pragma once

#include <map>
#include <set>

#include "common/model/ids.h"

namespace coord::zab {

class Quorum {
 public:
  Quorum() = default;
  explicit Quorum(std::set<Sid> voters) : voters_(std::move(voters)) {}

  const std::set<Sid>& voters() const { return voters_; }
  bool is_voter(Sid sid) const { return voters_.contains(sid); }
  // Do those of `members` that are voters form a majority of the voters?
  bool is_quorum(const std::set<Sid>& members) const;

 private:
  std::set<Sid> voters_;
};

// How far each voter's log is durable in the present epoch, and what a quorum of them has.
class Acks {
 public:
  void clear() { up_to_.clear(); }
  // Positions of one voter never go back.
  void acknowledge(Sid sid, Zxid up_to);
  // The highest position that a quorum has reached; 0 if none.
  Zxid committed(const Quorum& quorum) const;

 private:
  std::map<Sid, Zxid> up_to_;
};

}  // namespace coord::zab
