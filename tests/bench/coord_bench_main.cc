// A lean load generator for any server of the ZooKeeper protocol: plain frames over TCP, one thread, epoll. It spends
// next to nothing per operation, so that it measures the server and not itself. Prints one JSON object a run.
//
//   coord_bench --server HOST:PORT lone  --ops N                    one outstanding setData
//   coord_bench --server HOST:PORT load  --mix write|read|mixed     many sessions, many outstanding
//   coord_bench --server HOST:PORT fill  --nodes N --size BYTES     creates /fill/DDD/NNN
//   coord_bench --server HOST:PORT sessions --count N               opens sessions, counts them per second
//   coord_bench --server HOST:PORT fanout --count N                 one change seen by the watches of N sessions
//   coord_bench --server A,B,C gap --seconds S                      writes without end, over any server that answers:
//                                                                   the longest time without an acknowledged one
// Several servers: sessions go to them in turn.
#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "common/wire/protocol.h"

namespace {

using namespace coord;
using wire::Op;
using Clock = std::chrono::steady_clock;

[[noreturn]] void die(const std::string& why) {
  std::fprintf(stderr, "coord_bench: %s\n", why.c_str());
  std::exit(1);
}

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

Address resolve(const std::string& server) {
  const auto colon = server.rfind(':');
  if (colon == std::string::npos) die("--server wants HOST:PORT, not " + server);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(server.substr(0, colon).c_str(), server.substr(colon + 1).c_str(), &hints, &found);
  if (error != 0) die("cannot resolve " + server + ": " + gai_strerror(error));
  Address address;
  std::copy_n(reinterpret_cast<const char*>(found->ai_addr), found->ai_addrlen,
              reinterpret_cast<char*>(&address.storage));
  address.size = found->ai_addrlen;
  freeaddrinfo(found);
  return address;
}

std::vector<Address> resolve_all(const std::string& servers) {
  std::vector<Address> all;
  for (std::size_t at = 0; at <= servers.size();) {
    const auto end = std::min(servers.find(',', at), servers.size());
    all.push_back(resolve(servers.substr(at, end - at)));
    at = end + 1;
  }
  return all;
}

// Throws std::runtime_error when the server is not there, closes, or does not answer within the limit.
class Connection {
 public:
  explicit Connection(const Address& address, std::chrono::milliseconds limit = std::chrono::seconds(30)) {
    fd_ = ::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd_ < 0) throw std::runtime_error("no socket");
    const timeval most{limit.count() / 1000, (limit.count() % 1000) * 1000};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most);
    ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most);
    const int on = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    try {
      if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address.storage), address.size) != 0) {
        throw std::runtime_error("cannot connect");
      }
      handshake();
    } catch (...) {
      ::close(fd_);
      throw;
    }
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() { ::close(fd_); }

  int fd() const { return fd_; }
  std::size_t events() const { return events_; }

  template <class Body>
  void put(Op op, Body&& body) {
    const std::size_t frame = wire::begin_frame(out_);
    wire::Writer writer(out_);
    writer.i32(++xid_);
    writer.i32(static_cast<std::int32_t>(op));
    body(writer);
    wire::end_frame(out_, frame);
  }

  void flush() {
    std::size_t at = 0;
    while (at < out_.size()) {
      const ssize_t n = ::send(fd_, out_.data() + at, out_.size() - at, MSG_NOSIGNAL);
      if (n <= 0) throw std::runtime_error("the server closed the connection");
      at += static_cast<std::size_t>(n);
    }
    out_.clear();
  }

  // Reads what is there (blocking if nothing is) and calls back for each reply: error code and body.
  template <class Each>
  void receive(Each&& each) {
    char chunk[256 * 1024];
    const ssize_t n = ::recv(fd_, chunk, sizeof chunk, 0);
    if (n <= 0) throw std::runtime_error("the server closed the connection or did not answer in time");
    in_.append(chunk, static_cast<std::size_t>(n));
    std::size_t at = 0;
    while (in_.size() - at >= 4) {
      const auto length = static_cast<std::size_t>(wire::load_be<std::int32_t>(in_.data() + at));
      if (in_.size() - at - 4 < length) break;
      const std::string_view frame(in_.data() + at + 4, length);
      at += 4 + length;
      if (wire::load_be<std::int32_t>(frame.data()) < 0) {  // pings, events
        ++events_;
        continue;
      }
      each(static_cast<Err>(wire::load_be<std::int32_t>(frame.data() + 12)), frame.substr(16));
    }
    in_.erase(0, at);
  }

  // One request and its answer.
  template <class Body>
  Err call(Op op, Body&& body) {
    put(op, body);
    flush();
    bool done = false;
    Err result = Err::kOk;
    while (!done) {
      receive([&](Err err, std::string_view) {
        done = true;
        result = err;
      });
    }
    return result;
  }

 private:
  void handshake() {
    const std::size_t frame = wire::begin_frame(out_);
    wire::Writer writer(out_);
    wire::ConnectRequest request;
    request.timeout_ms = 40'000;
    request.password = std::string(wire::kPasswordSize, '\0');
    request.has_read_only = true;
    write(writer, request);
    wire::end_frame(out_, frame);
    flush();
    char answer[41];
    for (std::size_t got = 0; got < sizeof answer;) {
      const ssize_t n = ::recv(fd_, answer + got, sizeof answer - got, 0);
      if (n <= 0) throw std::runtime_error("the server refused the session");
      got += static_cast<std::size_t>(n);
    }
    if (wire::load_be<std::int32_t>(answer + 8) == 0) throw std::runtime_error("the session is not valid");
  }

  int fd_ = -1;
  std::int32_t xid_ = 0;
  std::size_t events_ = 0;
  std::string out_;
  std::string in_;
};

void put_create(wire::Writer& writer, const std::string& path, std::string_view data) {
  writer.buffer(path);
  writer.buffer(data);
  write(writer, open_acl());
  writer.i32(0);
}

void put_set(wire::Writer& writer, const std::string& path, std::string_view data) {
  writer.buffer(path);
  writer.buffer(data);
  writer.i32(-1);
}

void put_get(wire::Writer& writer, const std::string& path, bool watch = false) {
  writer.buffer(path);
  writer.boolean(watch);
}

void put_delete(wire::Writer& writer, const std::string& path) {
  writer.buffer(path);
  writer.i32(-1);
}

struct Options {
  std::string server = "127.0.0.1:2181";
  std::size_t size = 1024;
  std::size_t ops = 5000;
  std::size_t nodes = 1000;
  std::size_t sessions = 8;
  std::size_t outstanding = 100;
  double seconds = 5;
  std::string mix = "write";
  std::size_t rounds = 20;
};

double us(Clock::duration d) { return std::chrono::duration<double, std::micro>(d).count(); }

double quantile(std::vector<double>& sorted, double q) {
  return sorted.empty()
             ? 0
             : sorted[std::min(sorted.size() - 1, static_cast<std::size_t>(q * static_cast<double>(sorted.size())))];
}

void print_latency(const char* name, std::vector<double> samples, double seconds) {
  std::sort(samples.begin(), samples.end());
  std::printf(
      "{\"run\":\"%s\",\"ops\":%zu,\"per_s\":%.0f,\"p50_us\":%.0f,\"p90_us\":%.0f,\"p99_us\":%.0f,\"max_us\":%.0f}\n",
      name, samples.size(), static_cast<double>(samples.size()) / seconds, quantile(samples, 0.5),
      quantile(samples, 0.9), quantile(samples, 0.99), samples.empty() ? 0 : samples.back());
}

std::vector<std::string> make_nodes(Connection& conn, const Options& options, const std::string& data) {
  conn.call(Op::kCreate, [](wire::Writer& w) { put_create(w, "/bench", ""); });
  std::vector<std::string> paths;
  for (std::size_t n = 0; n < options.nodes; ++n) paths.push_back("/bench/node" + std::to_string(n));
  for (std::size_t at = 0; at < paths.size(); at += 100) {
    const std::size_t end = std::min(paths.size(), at + 100);
    for (std::size_t n = at; n < end; ++n) {
      conn.put(Op::kCreate, [&](wire::Writer& w) { put_create(w, paths[n], data); });
    }
    conn.flush();
    for (std::size_t got = 0; got < end - at;) conn.receive([&](Err, std::string_view) { ++got; });
  }
  return paths;
}

int lone(const Options& options) {
  const std::string data(options.size, 'x');
  Connection conn(resolve(options.server));
  Options few = options;
  few.nodes = 100;
  const auto paths = make_nodes(conn, few, data);
  std::vector<double> samples;
  Clock::time_point begin;
  for (std::size_t n = 0; n < options.ops + options.ops / 10; ++n) {
    if (n == options.ops / 10) begin = Clock::now();
    const auto start = Clock::now();
    const Err err = conn.call(Op::kSetData, [&](wire::Writer& w) { put_set(w, paths[n % paths.size()], data); });
    if (err != Err::kOk) die("setData failed with code " + std::to_string(static_cast<int>(err)));
    if (n >= options.ops / 10) samples.push_back(us(Clock::now() - start));
  }
  print_latency("lone", samples, us(Clock::now() - begin) / 1e6);
  return 0;
}

struct Loader {
  std::unique_ptr<Connection> conn;
  std::deque<Clock::time_point> sent;
  std::string own;             // churn: creates and deletes nodes below this prefix, in turn
  std::size_t churned = 0;
};

int load(const Options& options) {
  const std::string data(options.size, 'x');
  const std::vector<Address> addresses = resolve_all(options.server);
  std::vector<std::string> paths;
  {
    Connection conn(addresses[0]);
    paths = make_nodes(conn, options, data);
  }
  for (const Address& address : addresses) {  // no read before its server has the nodes
    Connection conn(address);
    conn.call(Op::kSync, [](wire::Writer& w) { w.buffer("/"); });
  }
  const int write_percent = options.mix == "write" ? 100 : options.mix == "read" ? 0 : 10;
  std::mt19937 random(42);
  std::vector<Loader> loaders(options.sessions);
  const int poller = epoll_create1(EPOLL_CLOEXEC);
  for (std::size_t n = 0; n < loaders.size(); ++n) {
    loaders[n].conn = std::make_unique<Connection>(addresses[n % addresses.size()]);
    loaders[n].own = "/bench/own" + std::to_string(n) + "-";
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = n;
    epoll_ctl(poller, EPOLL_CTL_ADD, loaders[n].conn->fd(), &event);
  }
  const auto send_one = [&](Loader& loader) {
    if (options.mix == "churn") {
      const std::string node = loader.own + std::to_string(loader.churned / 2);
      if (loader.churned++ % 2 == 0) {
        loader.conn->put(Op::kCreate, [&](wire::Writer& w) { put_create(w, node, data); });
      } else {
        loader.conn->put(Op::kDelete, [&](wire::Writer& w) { put_delete(w, node); });
      }
      loader.sent.push_back(Clock::now());
      return;
    }
    const std::string& path = paths[random() % paths.size()];
    if (static_cast<int>(random() % 100) < write_percent) {
      loader.conn->put(Op::kSetData, [&](wire::Writer& w) { put_set(w, path, data); });
    } else {
      loader.conn->put(Op::kGetData, [&](wire::Writer& w) { put_get(w, path); });
    }
    loader.sent.push_back(Clock::now());
  };
  for (Loader& loader : loaders) {
    for (std::size_t n = 0; n < options.outstanding; ++n) send_one(loader);
    loader.conn->flush();
  }
  const auto warm = Clock::now() + std::chrono::milliseconds(500);
  const auto end = warm + std::chrono::microseconds(static_cast<std::int64_t>(options.seconds * 1e6));
  std::vector<double> samples;
  samples.reserve(4'000'000);
  std::size_t errors = 0;
  for (auto now = Clock::now(); now < end; now = Clock::now()) {
    epoll_event events[64];
    const int ready = epoll_wait(poller, events, 64, 1000);
    if (ready <= 0) die("no reply for a second");
    for (int n = 0; n < ready; ++n) {
      Loader& loader = loaders[events[n].data.u64];
      std::size_t got = 0;
      const auto arrived = Clock::now();
      loader.conn->receive([&](Err err, std::string_view) {
        if (err != Err::kOk) ++errors;
        if (arrived >= warm) samples.push_back(us(arrived - loader.sent.front()));
        loader.sent.pop_front();
        ++got;
      });
      for (; got > 0; --got) send_one(loader);
      loader.conn->flush();
    }
  }
  if (errors > 0) die(std::to_string(errors) + " requests failed");
  print_latency(options.mix.c_str(), samples, options.seconds);
  return 0;
}

int fill(const Options& options) {
  Connection conn(resolve(options.server));
  const std::string data(options.size, 'x');
  conn.call(Op::kCreate, [](wire::Writer& w) { put_create(w, "/fill", ""); });
  const auto begin = Clock::now();
  std::size_t sent = 0, done = 0, errors = 0;
  constexpr std::size_t kPerDirectory = 1000, kWindow = 500;
  while (done < options.nodes) {
    std::size_t replies = 0, wanted = 0;
    while (sent < options.nodes && wanted < kWindow) {
      const std::string directory = "/fill/" + std::to_string(sent / kPerDirectory);
      if (sent % kPerDirectory == 0) {
        conn.put(Op::kCreate, [&](wire::Writer& w) { put_create(w, directory, ""); });
        ++wanted;
      }
      conn.put(Op::kCreate, [&](wire::Writer& w) { put_create(w, directory + "/" + std::to_string(sent), data); });
      ++sent;
      ++wanted;
    }
    conn.flush();
    while (replies < wanted) {
      conn.receive([&](Err err, std::string_view) {
        ++replies;
        if (err != Err::kOk && err != Err::kNodeExists) ++errors;
      });
    }
    done = sent;
  }
  if (errors > 0) die(std::to_string(errors) + " creates failed");
  const double seconds = us(Clock::now() - begin) / 1e6;
  std::printf("{\"run\":\"fill\",\"nodes\":%zu,\"size\":%zu,\"per_s\":%.0f}\n", options.nodes, options.size,
              static_cast<double>(options.nodes) / seconds);
  return 0;
}

int sessions(const Options& options) {
  const std::vector<Address> addresses = resolve_all(options.server);
  const auto begin = Clock::now();
  std::vector<std::unique_ptr<Connection>> open;
  for (std::size_t n = 0; n < options.ops; ++n) {
    open.push_back(std::make_unique<Connection>(addresses[n % addresses.size()]));
  }
  const double seconds = us(Clock::now() - begin) / 1e6;
  std::printf("{\"run\":\"sessions\",\"ops\":%zu,\"per_s\":%.0f}\n", options.ops,
              static_cast<double>(options.ops) / seconds);
  return 0;
}

// From the moment a change is sent until the last of N sessions has its watch event.
int fanout(const Options& options) {
  const std::vector<Address> addresses = resolve_all(options.server);
  Connection writer(addresses[0]);
  writer.call(Op::kCreate, [](wire::Writer& w) { put_create(w, "/fanout", ""); });
  std::vector<std::unique_ptr<Connection>> watchers;
  for (std::size_t n = 0; n < options.ops; ++n) {
    watchers.push_back(std::make_unique<Connection>(addresses[n % addresses.size()]));
    watchers.back()->call(Op::kSync, [](wire::Writer& w) { w.buffer("/fanout"); });
  }
  std::vector<double> samples;
  for (std::size_t round = 0; round < options.rounds; ++round) {
    for (const auto& watcher : watchers) {
      const Err err = watcher->call(Op::kGetData, [](wire::Writer& w) { put_get(w, "/fanout", true); });
      if (err != Err::kOk) die("getData failed with code " + std::to_string(static_cast<int>(err)));
    }
    const auto start = Clock::now();
    writer.put(Op::kSetData, [&](wire::Writer& w) { put_set(w, "/fanout", std::to_string(round)); });
    writer.flush();
    for (const auto& watcher : watchers) {
      while (watcher->events() == round) watcher->receive([](Err, std::string_view) {});
    }
    samples.push_back(us(Clock::now() - start));
    bool answered = false;
    while (!answered) writer.receive([&](Err, std::string_view) { answered = true; });
  }
  double total = 0;
  for (const double sample : samples) total += sample / 1e6;
  print_latency("fanout", samples, total);
  return 0;
}

// Writes one after the other to whichever server takes them, as a client that wants to go on at once would.
int gap(const Options& options) {
  const std::vector<Address> addresses = resolve_all(options.server);
  constexpr auto kLimit = std::chrono::milliseconds(200);
  const auto end = Clock::now() + std::chrono::microseconds(static_cast<std::int64_t>(options.seconds * 1e6));
  std::unique_ptr<Connection> conn;
  std::size_t next = 0, writes = 0;
  auto last = Clock::now();
  double longest_ms = 0;
  bool first = true;
  while (Clock::now() < end) {
    try {
      if (!conn) {
        conn = std::make_unique<Connection>(addresses[next++ % addresses.size()], kLimit);
        conn->call(Op::kCreate, [](wire::Writer& w) { put_create(w, "/gap", ""); });
      }
      if (conn->call(Op::kSetData, [](wire::Writer& w) { put_set(w, "/gap", "x"); }) != Err::kOk) die("setData failed");
      const auto now = Clock::now();
      if (!first) longest_ms = std::max(longest_ms, us(now - last) / 1e3);
      if (first) std::fprintf(stderr, "ready\n");
      first = false;
      last = now;
      ++writes;
    } catch (const std::runtime_error&) {
      conn.reset();
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }
  longest_ms = std::max(longest_ms, us(Clock::now() - last) / 1e3);
  std::printf("{\"run\":\"gap\",\"writes\":%zu,\"longest_ms\":%.1f}\n", writes, longest_ms);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Load generator for servers of the ZooKeeper protocol", "coord_bench");
  app.require_subcommand(1);
  app.add_option("--server", options.server, "HOST:PORT[,HOST:PORT...]");
  app.add_option("--size", options.size, "bytes of data of a node");
  auto* lone_cmd = app.add_subcommand("lone", "one outstanding write");
  lone_cmd->add_option("--ops", options.ops);
  auto* load_cmd = app.add_subcommand("load", "many outstanding requests");
  load_cmd->add_option("--mix", options.mix)->check(CLI::IsMember({"write", "read", "mixed", "churn"}));
  load_cmd->add_option("--sessions", options.sessions);
  load_cmd->add_option("--outstanding", options.outstanding);
  load_cmd->add_option("--seconds", options.seconds);
  load_cmd->add_option("--nodes", options.nodes);
  auto* fill_cmd = app.add_subcommand("fill", "create many nodes");
  fill_cmd->add_option("--nodes", options.nodes);
  auto* sessions_cmd = app.add_subcommand("sessions", "open many sessions");
  sessions_cmd->add_option("--count", options.ops);
  auto* fanout_cmd = app.add_subcommand("fanout", "one change, many watches");
  fanout_cmd->add_option("--count", options.ops);
  fanout_cmd->add_option("--rounds", options.rounds);
  auto* gap_cmd = app.add_subcommand("gap", "the longest time without an acknowledged write");
  gap_cmd->add_option("--seconds", options.seconds);
  CLI11_PARSE(app, argc, argv);
  try {
    if (lone_cmd->parsed()) return lone(options);
    if (load_cmd->parsed()) return load(options);
    if (fill_cmd->parsed()) return fill(options);
    if (fanout_cmd->parsed()) return fanout(options);
    if (gap_cmd->parsed()) return gap(options);
    return sessions(options);
  } catch (const std::runtime_error& error) {
    die(error.what());
  }
}
