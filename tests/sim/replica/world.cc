#include "tests/sim/replica/world.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <utility>

#include "common/base/log.h"
#include "tests/history/checker.h"
#include "tests/history/json.h"
#include "tests/sim/describe.h"

namespace coord::sim {

namespace {

constexpr std::int64_t kStorePoll = 500;
constexpr std::int64_t kConnectTimeoutUs = 1'000'000;

}  // namespace

// --- the links

class ReplicaWorld::SimLinks final : public peers::Links {
 public:
  SimLinks(ReplicaWorld& world, Sid self) : world_(world), self_(self) {}
  void start(peers::LinksUser& user) override { user_ = &user; }
  void stop() override { user_ = nullptr; }
  void dial_learner(std::uint64_t number, Sid leader) override { world_.network_.dial_learner(self_, number, leader); }
  bool send(zab::LinkId link, const zab::Message& message) override {
    world_.network_.send(self_, link, message);
    return true;
  }
  void flush() override {}
  void close(zab::LinkId link, const std::string&) override { world_.network_.close(self_, link); }
  std::size_t queued_bytes(zab::LinkId) const override { return 0; }
  void set_cluster_id(const std::string&) override {}
  void set_members(Zxid, std::map<Sid, peers::PeerAddress> members) override {
    std::set<Sid> voters, observers;
    for (const auto& [sid, address] : members) (address.observer ? observers : voters).insert(sid);
    voters_ = voters;
    observers_ = observers;
    tell();
  }
  void set_candidates(std::map<Sid, peers::PeerAddress> candidates) override {
    candidates_.clear();
    for (const auto& [sid, address] : candidates) {
      if (!address.observer) candidates_.insert(sid);
    }
    if (!voters_.empty()) tell();
  }
  void set_feature_level(int) override {}
  peers::LinksUser* user() { return user_; }

 private:
  void tell() {
    std::set<Sid> dialed = voters_;
    dialed.insert(candidates_.begin(), candidates_.end());
    world_.network_.set_members(self_, dialed, observers_);
  }

  ReplicaWorld& world_;
  const Sid self_;
  std::set<Sid> voters_, observers_, candidates_;
  peers::LinksUser* user_ = nullptr;
};

// --- the world

ReplicaWorld::ReplicaWorld(ReplicaOptions options)
    : options_(options),
      random_(options.seed),
      network_(scheduler_, random_, *this, Mutant::kNone),
      book_([this](int number, const std::string& what) { violate(number, Sid{0}, what); }) {
  log::set_level(options_.trace ? log::Level::kDebug : log::Level::kOff);
  for (int n = 1; n <= options_.voters + options_.observers; ++n) {
    disks_[Sid{static_cast<std::uint32_t>(n)}] = std::make_shared<store::MemoryDisk>();
  }
  const int replicas = options_.voters + options_.observers;
  for (int n = 1; n <= options_.clients + options_.mounts + options_.scripted; ++n) {
    const auto number = static_cast<std::uint32_t>(n);
    if (n > options_.clients + options_.mounts) {
      auto client = std::make_unique<ScriptedClient>(number, replicas, options_.timeout_ms, scheduler_, random_, *this,
                                                     history_);
      scripted_.push_back(client.get());
      clients_.push_back(std::move(client));
    } else if (n <= options_.clients) {
      clients_.push_back(std::make_unique<SimClient>(number, replicas, options_.timeout_ms, scheduler_, random_, *this,
                                                     history_));
    } else {
      auto mount = std::make_unique<SimMount>(number, replicas, options_.timeout_ms, scheduler_, random_, *this,
                                              history_);
      mounts_.push_back(mount.get());
      clients_.push_back(std::move(mount));
    }
    clients_.back()->on_wrong = [this, n](int invariant, const std::string& what) {
      violate(invariant, Sid{0}, "client " + std::to_string(n) + ": " + what);
    };
  }
}

ReplicaWorld::~ReplicaWorld() {
  while (!processes_.empty()) crash(processes_.begin()->first, true);
}

void ReplicaWorld::violate(int number, Sid at, const std::string& text) {
  throw Violation("invariant " + std::to_string(number) + ", server " + std::to_string(at.value) + ": " + text);
}

std::vector<Sid> ReplicaWorld::all() const {
  std::vector<Sid> sids;
  for (const auto& [sid, disk] : disks_) sids.push_back(sid);
  return sids;
}

void ReplicaWorld::boot(Sid sid) {
  if (up(sid)) return;
  graveyard_.clear();
  auto process = std::make_unique<Process>();
  Process& p = *process;
  p.incarnation = ++next_incarnation_;
  p.executor = std::make_shared<SimExecutor>(scheduler_, random_.between(-1000, 1000));
  p.links = std::make_unique<SimLinks>(*this, sid);
  auto store = std::make_unique<store::MemoryStore>(
      disks_.at(sid), store::MemoryStore::Options{sid, store::MemoryStore::Completion::kManual, options_.log_keep,
                                                  std::string(15, 'd') + static_cast<char>('0' + sid.value)});
  p.store = store.get();
  runtime::Config config;
  config.data_dir = "/nowhere";
  config.server_id = sid.value;
  std::set<Sid> voters, observers;
  for (const Sid other : all()) {
    const bool observer = static_cast<int>(other.value) > options_.voters;
    (observer ? observers : voters).insert(other);
    config.members.push_back(
        Member{other, "10.0.1." + std::to_string(other.value), 2888, 3888, observer, {}});
  }
  network_.forget_addresses(sid);
  network_.set_members(sid, voters, observers);
  runtime::Environment environment;
  environment.fresh_cluster_id = std::string(32, static_cast<char>('0' + sid.value));
  environment.fresh_secret = std::string(32, static_cast<char>('0' + sid.value));
  environment.seed = random_.next();
  environment.incarnation = p.incarnation;
  p.core = std::make_unique<runtime::Core>(config, *p.executor,
                                           std::make_unique<NotingStore>(std::move(store), book_), *p.links,
                                           std::move(environment));
  note("boot", sid.value, p.incarnation, 0);
  const auto loaded = p.core->load();
  if (!loaded) violate(13, sid, "does not start: " + loaded.error().message);
  processes_[sid] = std::move(process);
  p.core->start([] {});
  network_.started(sid);
  poll_store(sid, p.incarnation);
}

// Batches become durable one by one or merged, a while after they were submitted.
void ReplicaWorld::poll_store(Sid sid, std::uint64_t incarnation) {
  scheduler_.after(kStorePoll, [this, sid, incarnation] {
    const auto at = processes_.find(sid);
    if (at == processes_.end() || at->second->incarnation != incarnation) return;
    Process& p = *at->second;
    if (p.store->later() > 0) {
      p.executor->enter([this, sid] { processes_.at(sid)->store->run_later(1); });
    }
    if (!p.writing && p.store->pending() > 0) {
      p.writing = true;
      scheduler_.after(std::min<std::int64_t>(random_.heavy(options_.disk_us), 2000 * kMs), [this, sid, incarnation] {
        const auto still = processes_.find(sid);
        if (still == processes_.end() || still->second->incarnation != incarnation) return;
        still->second->executor->enter([this, sid] {
          Process& mine = *processes_.at(sid);
          mine.writing = false;
          mine.store->complete(1 + random_.below(mine.store->pending() + 1));
        });
      });
    }
    poll_store(sid, incarnation);
  });
}

void ReplicaWorld::crash(Sid sid, bool power_cut) {
  const auto at = processes_.find(sid);
  if (at == processes_.end()) return;
  note("crash", sid.value, power_cut ? 1 : 0, 0);
  network_.crashed(sid, power_cut);
  std::unique_ptr<Process> p = std::move(at->second);
  processes_.erase(at);
  // Durable, and nobody was told.
  if (p->store->pending() > 0 && random_.chance(0.4)) p->store->complete(1 + random_.below(p->store->pending()), false);
  for (const auto& weak : p->streams) {
    if (const auto stream = weak.lock()) stream->cut();
  }
  p->executor->kill();
  executors_.push_back(p->executor);
  p->core.reset();
  graveyard_.push_back(std::move(p));
}

void ReplicaWorld::pause(Sid sid, std::int64_t ms) {
  const auto at = processes_.find(sid);
  if (at == processes_.end() || at->second->executor->paused()) return;
  note("pause", sid.value, static_cast<std::uint64_t>(ms), 0);
  const std::shared_ptr<SimExecutor> executor = at->second->executor;
  executor->pause();
  scheduler_.after(ms * kMs, [executor] { executor->resume(); });
}

bool ReplicaWorld::serves(Sid sid) { return up(sid) && processes_.at(sid)->core->serving(); }

Sid ReplicaWorld::leader() {
  for (const auto& [sid, process] : processes_) {
    if (process->core->serving() && process->core->peer().role() == zab::Role::kLeading) return sid;
  }
  return {};
}

void ReplicaWorld::run_for(std::int64_t ms) {
  const std::int64_t until = scheduler_.now_us() + ms * kMs;
  while (scheduler_.run_one(until)) {
  }
}

bool ReplicaWorld::run_until(const std::function<bool()>& true_now, std::int64_t ms) {
  const std::int64_t until = scheduler_.now_us() + ms * kMs;
  std::int64_t look = 0;
  while (true) {
    if (scheduler_.now_us() >= look) {
      if (true_now()) return true;
      look = scheduler_.now_us() + 5 * kMs;
    }
    if (!scheduler_.run_one(until)) return true_now();
  }
}

void ReplicaWorld::cut_client(std::uint32_t number, Sid replica, Direction direction, bool cut) {
  note("cut", number * 2 + (cut ? 1 : 0), replica.value, static_cast<std::uint64_t>(direction));
  if (cut) {
    cuts_.insert({number, replica, direction});
    return;
  }
  if (cuts_.erase({number, replica, direction}) == 0) return;
  std::erase_if(all_streams_, [](const auto& weak) { return weak.expired(); });
  for (const auto& weak : std::vector(all_streams_)) {
    if (const auto stream = weak.lock()) stream->reachable();
  }
}

// What they have asked for is answered, then they read all of it back.
void ReplicaWorld::settle_mounts() {
  for (SimMount* mount : mounts_) mount->settle();
  const auto all = [this](bool (SimMount::*is)() const) {
    return std::all_of(mounts_.begin(), mounts_.end(), [is](const SimMount* mount) { return (mount->*is)(); });
  };
  if (!run_until([&] { return all(&SimMount::settled); }, 30'000)) {
    violate(24, leader(), "mounts get no answers in the calm");
  }
  for (SimMount* mount : mounts_) mount->inspect();
  if (!run_until([&] { return all(&SimMount::inspected); }, 30'000)) {
    violate(24, leader(), "mounts cannot read in the calm");
  }
}

void ReplicaWorld::calm() {
  note("calm", 0, 0, 0);
  for (const auto& [number, replica, direction] : std::set(cuts_)) cut_client(number, replica, direction, false);
  network_.heal();
  network_.slow(1);
  network_.set_half_open(false);
  for (const Sid sid : all()) boot(sid);
  const auto all_serve = [this] {
    const std::vector<Sid> sids = all();
    return std::all_of(sids.begin(), sids.end(), [this](Sid sid) { return serves(sid); });
  };
  if (!run_until(all_serve, 60'000)) violate(24, leader(), "not all replicas serve in the calm");
  std::map<std::uint32_t, std::uint64_t> before;
  for (const auto& one : clients_) before[one->number()] = one->answers();
  const auto answered = [&] {
    return std::all_of(clients_.begin(), clients_.end(), [&](const auto& one) {
      return one->in_session() && one->answers() > before[one->number()] + 10;
    });
  };
  if (!run_until(answered, 30'000)) violate(24, leader(), "clients get no answers in the calm");
  settle_mounts();
  for (const auto& one : clients_) one->stop();
  const auto equal = [this] {
    const tree::StateMachine& first = processes_.begin()->second->core->tree();
    return std::all_of(processes_.begin(), processes_.end(), [&](const auto& entry) {
      const tree::StateMachine& tree = entry.second->core->tree();
      return entry.second->core->serving() && tree.last_applied() == first.last_applied();
    });
  };
  run_for(500);
  if (!run_until(equal, 20'000)) violate(3, leader(), "replicas do not arrive at the same transaction");
  const std::uint64_t digest = processes_.begin()->second->core->tree().digest();
  for (const auto& [sid, process] : processes_) {
    if (process->core->tree().digest() != digest) violate(3, sid, "another tree than server 1's at the same zxid");
  }
}

void ReplicaWorld::judge() {
  const Zxid last = processes_.begin()->second->core->tree().last_applied();
  once_ = judge_exactly_once(book_.history(last), {mounts_.begin(), mounts_.end()});
  if (!once_.violation.empty()) violate(20, Sid{0}, once_.violation);
  history::Options options;
  options.touch_lag_ns = 1'500'000'000;
  options.expiry_slack_ns = 200'000'000;
  const history::Verdict verdict = history::check(history_, options);
  if (verdict.outcome == history::Outcome::kOk) return;
  violate(21, Sid{0}, (verdict.outcome == history::Outcome::kUnknown ? "unknown: " : "") + verdict.rule + ": " +
                          verdict.text + (options_.trace ? "\n" + history::explain(history_, verdict) : ""));
}

void ReplicaWorld::write_history(const std::string& path) const {
  std::ofstream out(path);
  history::write_json_lines(out, history_);
}

// --- NetworkUser

std::uint64_t ReplicaWorld::incarnation(Sid sid) const {
  const auto at = processes_.find(sid);
  return at == processes_.end() ? 0 : at->second->incarnation;
}

void ReplicaWorld::enter(Sid sid, std::function<void()> work) {
  const auto at = processes_.find(sid);
  if (at != processes_.end()) at->second->executor->enter(std::move(work));
}

void ReplicaWorld::link_up(Sid at, zab::LinkId link, zab::Channel channel, Sid peer, bool dialed) {
  if (auto* const user = processes_.at(at)->links->user()) user->link_up(link, channel, peer, dialed);
}
void ReplicaWorld::link_down(Sid at, zab::LinkId link) {
  if (auto* const user = processes_.at(at)->links->user()) user->link_down(link, "simulated");
}
void ReplicaWorld::dial_failed(Sid at, std::uint64_t number) {
  if (auto* const user = processes_.at(at)->links->user()) user->dial_failed(number, Sid{0}, "simulated");
}
void ReplicaWorld::received(Sid at, zab::LinkId link, zab::Message message) {
  note("got", at.value, link.value, key_of(message));
  if (options_.trace) {
    std::printf("%10.3f   [%u] got on %llu %s\n", static_cast<double>(scheduler_.now_us()) / 1000, at.value,
                static_cast<unsigned long long>(link.value), describe(message).c_str());
  }
  std::vector<zab::Message> messages;
  messages.push_back(std::move(message));
  if (auto* const user = processes_.at(at)->links->user()) user->received(link, std::move(messages));
}

void ReplicaWorld::note(const char* what, std::uint64_t a, std::uint64_t b, std::uint64_t c) {
  hash_ = mix(mix(mix(mix(hash_, static_cast<std::uint64_t>(scheduler_.now_us())), a), b), c);
  for (const char* at = what; *at != '\0'; ++at) hash_ = mix(hash_, static_cast<std::uint64_t>(*at));
  if (options_.trace && what[0] != 'g') {
    std::printf("%10.3f %-8s %llu %llu %llu\n", static_cast<double>(scheduler_.now_us()) / 1000, what,
                static_cast<unsigned long long>(a), static_cast<unsigned long long>(b),
                static_cast<unsigned long long>(c));
  }
}

void ReplicaWorld::gave(std::uint32_t number, std::uint64_t connection, const std::string& bytes) {
  std::uint64_t sum = 0;
  for (const char byte : bytes) sum = mix(sum, static_cast<unsigned char>(byte));
  note("gave", number, connection, sum);
}

// --- ClientNet

std::uint64_t ReplicaWorld::open(std::uint32_t number, std::uint32_t replica) {
  const Sid sid{replica};
  const auto at = processes_.find(sid);
  if (at == processes_.end()) return 0;
  const std::uint64_t connection = next_connection_++;
  scheduler_.after(random_.heavy(200), [this, number, sid, connection, incarnation = at->second->incarnation] {
    if (client_cut(number, sid, Direction::kToReplica) || client_cut(number, sid, Direction::kToClient)) {
      scheduler_.after(kConnectTimeoutUs, [this, number, connection] { client(number).closed(connection); });
      return;
    }
    const auto still = processes_.find(sid);
    if (still == processes_.end() || still->second->incarnation != incarnation)
      return client(number).closed(connection);
    Process& p = *still->second;
    auto stream =
        std::make_shared<SimStream>(*this, connection, number, sid, client(number).is_mount(), p.executor);
    streams_[connection] = stream;
    all_streams_.push_back(stream);
    p.streams.push_back(stream);
    p.executor->enter([this, sid, stream, connection] {
      auto conn = std::make_shared<runtime::ClientConn>(*processes_.at(sid)->core, stream, ConnId(connection));
      processes_.at(sid)->core->opened(conn);
      stream->start(conn);
    });
    client(number).connected(connection);
  });
  return connection;
}

void ReplicaWorld::send(std::uint64_t connection, std::string bytes) {
  const auto at = streams_.find(connection);
  if (at != streams_.end()) at->second->from_client(std::move(bytes));
}

void ReplicaWorld::close(std::uint64_t connection) {
  const auto at = streams_.find(connection);
  if (at == streams_.end()) return;
  const std::shared_ptr<SimStream> stream = at->second;
  streams_.erase(at);
  stream->hang_up();
}

}  // namespace coord::sim
