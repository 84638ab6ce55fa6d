// A simulated network: connections between replicas as pairs of FIFO streams, with delays, resets, ends that learn of
// a death late or not at all, and partitions by direction. It plays the transport's part too (replica/peers/links.h):
// election links are kept up by whoever dials, learner links are dialed on demand, at most one per peer and channel.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "replica/zab/message.h"
#include "replica/zab/peer.h"
#include "tests/sim/mutants.h"
#include "tests/sim/random.h"
#include "tests/sim/scheduler.h"

namespace coord::sim {

class NetworkUser {
 public:
  virtual ~NetworkUser() = default;
  // 0: the process is down. Grows with each start.
  virtual std::uint64_t incarnation(Sid sid) const = 0;
  // Runs `work` in that process, now or when it is no longer paused; not at all if it has ended by then.
  virtual void enter(Sid sid, std::function<void()> work) = 0;
  virtual void link_up(Sid at, zab::LinkId link, zab::Channel channel, Sid peer, bool dialed) = 0;
  virtual void link_down(Sid at, zab::LinkId link) = 0;
  virtual void dial_failed(Sid at, std::uint64_t number) = 0;
  virtual void received(Sid at, zab::LinkId link, zab::Message message) = 0;
  virtual void note(const char* what, std::uint64_t a, std::uint64_t b, std::uint64_t c) = 0;
};

class Network {
 public:
  Network(Scheduler& scheduler, Random& random, NetworkUser& user, Mutant mutant)
      : scheduler_(scheduler), random_(random), user_(user), mutant_(mutant) {}

  // --- for a replica
  // Whom `at` takes for the members from now on. It dials a voter with a smaller id at once, one with a larger id when
  // that did not dial for a while, and all at once if it is no voter itself; a leader only if it was ever told of it.
  void set_members(Sid at, const std::set<Sid>& voters, const std::set<Sid>& observers);
  void forget_addresses(Sid at) { addresses_[at].clear(); }  // of a process that has ended
  bool knows(Sid at, Sid other) const;
  void started(Sid sid);                       // its election links are dialed from now on
  void dial_learner(Sid from, std::uint64_t number, Sid leader);
  void send(Sid from, zab::LinkId link, zab::Message message);
  void close(Sid from, zab::LinkId link);
  bool open(zab::LinkId link) const;
  std::map<zab::LinkId, Sid> learner_links(Sid at) const;  // that are open at this end, and to whom

  // --- faults
  void crashed(Sid sid, bool power_cut);       // before the incarnation ends
  void block(Sid from, Sid to, bool blocked);  // one direction
  bool blocked(Sid from, Sid to) const { return blocked_.contains({from, to}); }
  void heal();
  void reset_some(Sid a, Sid b);               // one of the connections between them
  void duplicate_dial(Sid from, Sid to);       // dials though a link is up
  void slow(std::int64_t factor) { slow_ = factor; }
  void set_latency(std::int64_t us) { latency_us_ = us; }
  void set_fixed_latency(bool fixed) { fixed_ = fixed; }
  void set_half_open(bool allowed) { half_open_ = allowed; }
  // Messages for which this says true are held back until release().
  void hold(std::function<bool(Sid from, Sid to, const zab::Message&)> hold) { hold_ = std::move(hold); }
  void release();
  std::uint64_t delivered() const { return delivered_; }

 private:
  struct End {
    Sid sid;
    std::uint64_t incarnation = 0;
    zab::LinkId link;
    bool up = false;    // LinkUp was handed over, LinkDown was not, and it has not been closed
    bool over = false;
    std::uint64_t number = 0;  // of the dial
  };
  struct Item {
    std::int64_t ready = 0;
    bool fin = false;
    zab::Message message;
  };
  struct Stream {
    std::deque<Item> items;
    std::int64_t last_ready = 0;
    std::int64_t stuck_since = -1;
  };
  struct Connection {
    std::uint64_t id = 0;
    zab::Channel channel;
    std::array<End, 2> ends;        // 0 dialed
    std::array<Stream, 2> streams;  // by sender
    bool dead = false;
  };
  using Ref = std::shared_ptr<Connection>;

  struct Handle {
    Ref connection;
    int side = 0;
  };

  std::int64_t delay();
  void dial(Sid from, Sid to, zab::Channel channel, std::uint64_t number);
  void accept(const Ref& c, std::int64_t gives_up);
  void connected(const Ref& c, std::int64_t gives_up);
  void refuse(const Ref& c, std::int64_t after);
  void replace_old(Sid at, Sid peer, zab::Channel channel);
  void pump(const Ref& c, int from);
  bool hand_over(const Ref& c, int to, Item item);
  void kill(const Ref& c);
  void learn_of_death(const Ref& c, int side, std::int64_t after);
  void down(const Ref& c, int side);
  void redial_later(Sid from, Sid to);
  void redial_both(const Ref& c);
  bool dials(Sid from, Sid to) const;          // sooner or later
  bool dials_at_once(Sid from, Sid to) const;
  const Handle* find(zab::LinkId link) const;

  Scheduler& scheduler_;
  Random& random_;
  NetworkUser& user_;
  const Mutant mutant_;
  std::map<Sid, std::set<Sid>> voters_;     // in the eyes of each
  std::map<Sid, std::set<Sid>> addresses_;  // that each was told of since its process started
  std::set<std::pair<Sid, Sid>> blocked_;
  std::map<zab::LinkId, Handle> links_;
  std::map<std::uint64_t, Ref> connections_;
  std::set<std::pair<Sid, Sid>> redialing_;
  std::function<bool(Sid, Sid, const zab::Message&)> hold_;
  std::uint64_t next_ = 1;
  std::uint64_t delivered_ = 0;
  std::int64_t slow_ = 1;
  std::int64_t latency_us_ = 200;
  bool fixed_ = false;
  bool half_open_ = true;
};

}  // namespace coord::sim
