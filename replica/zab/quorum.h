// Who is a member, and majority arithmetic on sets of voters, in one place (zab.md section 2.2: never write n/2+1
// elsewhere). Pure.
//
// While a change of the members is in the log and not known to be committed, a quorum is a majority of the old voters
// and one of the new (zab.md section 8).
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "common/model/ids.h"

namespace coord::zab {

// The members as of one transaction of the log.
struct Membership {
  Zxid version;  // its zxid; 0: as the files say
  std::set<Sid> voters, observers;
  std::map<Sid, std::string> joins;  // data directories that it enrolls, instead of earlier ones of the same server

  bool is_member(Sid sid) const { return voters.contains(sid) || observers.contains(sid); }
  friend bool operator==(const Membership&, const Membership&) = default;
};

class Quorum {
 public:
  Quorum() = default;
  explicit Quorum(std::set<Sid> voters) : voters_(std::move(voters)) {}
  // Both must agree: from one set of voters to another.
  Quorum(std::set<Sid> old_voters, std::set<Sid> new_voters)
      : voters_(std::move(old_voters)), new_voters_(std::move(new_voters)) {}

  std::set<Sid> voters() const;  // of either
  bool is_voter(Sid sid) const { return voters_.contains(sid) || (new_voters_ && new_voters_->contains(sid)); }
  // Do those of `members` that are voters form a majority of the voters, of each set?
  bool is_quorum(const std::set<Sid>& members) const;

 private:
  friend class Acks;
  std::set<Sid> voters_;
  std::optional<std::set<Sid>> new_voters_;
};

// How far each voter's log is durable in the present epoch, and what a quorum of them has.
class Acks {
 public:
  void clear() { up_to_.clear(); }
  // Positions of one voter never go back.
  void acknowledge(Sid sid, Zxid up_to);
  // The highest position that a quorum has reached, of each set; 0 if none.
  Zxid committed(const Quorum& quorum) const;

 private:
  std::map<Sid, Zxid> up_to_;
};

}  // namespace coord::zab
