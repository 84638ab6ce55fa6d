// For the checker's own tests: a correct service in miniature, with concurrent clients, replicas that lag, lost
// connections, sessions that end, watches, multis and sequential names. It writes the history that its clients see.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <random>
#include <set>

#include "tests/history/checker.h"

namespace coord::history {

struct ModelOptions {
  int operations = 200;
  int sessions = 5;
  int paths = 4;
  double lost_connections = 0.02;  // per step
  double session_ends = 0.01;
  bool zxids = true;               // false: as a client that is not told reply headers
};

class Model {
 public:
  Model(std::uint64_t seed, ModelOptions options);
  History run();

 private:
  struct Node {
    std::uint64_t czxid = 0, mzxid = 0;
    std::int32_t version = 0;
    std::int64_t owner = 0;
    std::string value;
    int creates = 0;
  };
  using Tree = std::map<std::string, Node>;
  struct Event {
    std::string path{};
    WatchType type;
  };
  struct Txn {
    std::uint64_t zxid;
    Tree after;
    std::vector<Event> events;  // data events; child events follow from them
  };
  struct Out {  // on its way to the client
    bool event = false;
    std::uint64_t id = 0;
    Err error = Err::kOk;
    Answer answer{};
    WatchType type = WatchType::kNone;
    std::string path{};
    std::uint64_t zxid = 0;
  };
  struct Client {
    std::int64_t session = 0;
    std::size_t applied = 0;  // index into log_: its replica's position, as far as this client needs it
    bool alive = false;
    std::int64_t touched = 0;
    std::deque<std::pair<std::uint64_t, Request>> sent;  // not yet processed
    std::deque<Out> outbox;
    std::set<std::uint64_t> waiting;  // invoked, not answered
    std::set<std::string> data_watches, child_watches;
    bool closing = false;
  };

  int below(int n) { return static_cast<int>(rng_() % static_cast<std::uint64_t>(n)); }
  bool chance(double p) { return static_cast<double>(rng_() % 100000) < p * 100000; }
  std::int64_t tick() { return now_ += 1 + below(1000); }
  std::string unique() { return "u" + std::to_string(++values_); }
  std::string some_path() { return "/p/" + std::to_string(below(options_.paths)); }
  const Tree& tip() const { return log_.back().after; }

  void open(Client& c);
  void invoke(Client& c);
  Request some_request(bool in_multi);
  void process(Client& c);
  Answer execute(Tree& tree, const Request& r, std::int64_t session, std::uint64_t zxid, std::vector<Event>& events,
                 Err& error);
  Answer write(const Request& r, std::int64_t session, Err& error);
  Answer read(Client& c, const Request& r, Err& error);
  void commit(Tree tree, std::uint64_t zxid, std::vector<Event> events);
  void advance(Client& c, std::size_t to);
  void deliver(Client& c);
  void lose_connection(Client& c);
  void end_session(Client& c);
  std::uint64_t close_session(std::int64_t session);

  std::mt19937_64 rng_;
  ModelOptions options_;
  History h_;
  std::int64_t now_ = 0;
  std::uint64_t values_ = 0;
  std::int64_t last_session_ = 0;
  std::vector<Txn> log_;
  std::vector<Client> clients_;
  // Requests of lost connections that may still be carried out, per session and in order.
  std::map<std::int64_t, std::deque<Request>> ghosts_;
  static constexpr std::int64_t kTimeout = 20'000;
};

}  // namespace coord::history
