// Fast leader election: finds, with high probability at once, the voter whose (currentEpoch, last zxid) is maximal in
// some quorum. It is for liveness only: whoever it names must still win discovery (leader.h). zab.md section 2.
//
// Decided beyond the text: only votes for servers that this one has a link to are adopted, and a server proposes itself
// only while its links and itself are a quorum, so nobody is elected who could not lead. One whose disk is low does not
// propose itself, nor support anybody whose history is behind its own, for a connect limit; then it goes by the order
// of votes like everybody, so who must lead because nobody else has its history does. After a failed attempt a decision
// waits a little, doubling. A server joins a live leader whose quorum includes the joiner itself: joining is always
// safe, and it saves a restarted follower the wait for its leader's end.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>

#include "replica/zab/core.h"

namespace coord::zab {

class Election {
 public:
  explicit Election(Core& core) : core_(core) {}

  void start();   // the log is settled
  void cancel();  // the role is over; not yet looking
  void succeeded() { failures_ = 0; }
  void failed() { ++failures_; }

  // In every state of this server: the others are told how it stands.
  void link_up(Sid peer);
  void link_down(Sid peer);
  void received(Sid from, const Notification& notification);
  void tick();
  void reconsider();  // whether this server may be elected has changed
  void announce();    // the present role, to all

  bool running() const { return running_; }
  bool decided() const { return decision_.has_value(); }  // not taken yet
  std::uint64_t round() const { return round_; }
  std::optional<Vote> take_decision();
  const Vote& elected() const { return elected_; }
  const std::set<Sid>& supporters() const { return supporters_; }  // as of the decision

 private:
  Notification present(Sid to) const;
  void tell(Sid to);
  void send(Sid to, LinkId link);
  void drop_deaf_links();
  void broadcast();
  bool eligible() const;
  bool yields() const;
  // It knows members that are in force and newer than those known here: its word counts for more than the list here.
  bool knows_better(Sid sid) const;
  bool takes_part(Sid sid) const { return core_.voters.is_voter(sid) || knows_better(sid); }
  bool believed(Sid sid, bool speaks) const;  // what `sid` says of its leader, without a quorum that says so
  void answer_stranger(Sid sid);
  bool linked(Sid sid) const { return core_.election_links.contains(sid); }
  Vote initial_vote() const;
  bool adopt(Sid from, const Vote& vote);
  void new_round();
  void looking(Sid from, const Notification& notification);
  void check();
  bool check_live_leader();
  std::set<Sid> supporters_of(Sid leader) const;
  bool leader_speaks(Sid leader) const;
  bool all_agree(const std::set<Sid>& supporters) const;
  void decide(const Vote& vote, std::set<Sid> supporters);

  Core& core_;
  bool running_ = false;
  std::uint64_t round_ = 0;
  Vote vote_;
  std::map<Sid, Vote> votes_;           // of this round, of servers that are looking
  std::map<Sid, Notification> others_;  // of servers that are not, since this election began
  std::optional<std::int64_t> quorum_since_;
  std::int64_t not_before_ = 0, started_at_ = 0;
  std::int64_t resend_at_ = 0, resend_after_ = 0;
  int failures_ = 0;
  std::optional<Vote> decision_;
  Vote elected_;
  std::set<Sid> supporters_;
  std::map<Sid, Zxid> members_known_;         // version of the members, as each link's other end said last
  std::map<Sid, std::int64_t> answer_again_;  // servers that take no part here: not before
  std::map<Sid, std::int64_t> unanswered_since_;  // asked, and nothing came back on this link
};

}  // namespace coord::zab
