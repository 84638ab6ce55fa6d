#include "replica/runtime/replica.h"

#include <systemd/sd-daemon.h>

#include <algorithm>
#include <csignal>
#include <thread>
#include <vector>

#include "common/base/log.h"
#include "common/base/version.h"
#include "replica/net/loop.h"
#include "replica/net/stream.h"
#include "replica/peers/transport.h"
#include "replica/runtime/client_conn.h"
#include "replica/runtime/core.h"
#include "replica/runtime/environment.h"
#include "replica/runtime/no_links.h"
#include "replica/store/store.h"

namespace coord::runtime {
namespace {

constexpr auto kStopLimit = std::chrono::milliseconds(500);  // for the last answers to leave

class RunningReplica final : public Replica {
 public:
  explicit RunningReplica(const Config& config) : config_(config) {
    for (int n = 0; n < config.io_threads; ++n) loops_.push_back(std::make_unique<net::Loop>());
  }

  ~RunningReplica() override {
    listeners_.clear();
    stop_workers();
    core_.reset();
  }

  Result<bool, Fault> prepare() {
    auto ready = open_and_load(false);
    if (!ready && !ready.error().no_room && !alone()) {
      // What a broken disk lost is to be had from the others. What else may be wrong is so the second time too.
      log::error("core", "{}; trying what the other members have", ready.error().message);
      core_.reset();
      links_.reset();
      ready = open_and_load(true);
    }
    if (!ready) return ready;
    return listen();
  }

  Result<bool, Fault> open_and_load(bool salvage) {
    store::LmdbOptions options;
    options.directory = config_.data_dir;
    options.sid = Sid(config_.server_id);
    options.map_bytes = config_.map_bytes;
    options.grow_bytes = config_.grow_size();
    options.journal_bytes = config_.journal_bytes;
    options.log_keep_bytes = config_.log_keep_bytes;
    options.log_keep_entries = config_.log_keep_entries;
    options.log_keep_ms = config_.log_keep_seconds * 1000;
    options.salvage = salvage;
    options.wait_for_room = !alone();
    auto store = store::open_lmdb(options);
    if (!store) return fail(store.error());
    auto environment = real_environment();
    if (!environment) return fail(environment.error());
    if (auto linked = link((*store)->meta(), environment->incarnation); !linked) return linked;
    core_ = std::make_unique<Core>(config_, *loops_[0], std::move(*store), *links_, std::move(*environment));
    return core_->load();
  }

  int run() override {
    for (std::size_t n = 1; n < loops_.size(); ++n) workers_.emplace_back([this, n] { loops_[n]->run(); });
    loops_[0]->on_signals([this](int number) { end(number); }, [] { log::reopen(); });
    loops_[0]->post([this] { core_->start([this] { announce(); }); });
    watchdog();
    loops_[0]->run();
    stop_workers();
    return 0;
  }

  void stop() override {
    loops_[0]->post([this] { end(SIGTERM); });
  }

  std::uint16_t client_port() const override { return listeners_.empty() ? std::uint16_t{0} : listeners_[0]->port(); }
  bool serving() const override { return core_->serving(); }
  EnsembleStatus ensemble_status() const override { return core_->ensemble_status(); }

 private:
  // The connections to the other replicas, if there are any.
  Result<bool, Fault> link(const store::Meta& meta, std::uint64_t incarnation) {
    if (alone()) {
      links_ = std::make_unique<NoLinks>();
      return true;
    }
    peers::TransportOptions options;
    options.self = Sid(config_.server_id);
    for (const Member& member : config_.members) {
      options.members[member.sid] = peers::PeerAddress{member.host, member.port, member.observer};
      if (member.sid != options.self) continue;
      options.listen_address = config_.peer_address.empty() ? member.host : config_.peer_address;
      options.listen_port = member.port;
    }
    options.secret = config_.peer_secret;
    options.tls = {config_.peer_certificate, config_.peer_key, config_.peer_authority};
    options.feature_level_known = config_.feature_level_max;
    options.directory_id = meta.directory_id;
    // Provisional while nothing was logged; but what a damaged store had logged is only lost.
    if (meta.last_logged != Zxid{} || meta.damaged) options.cluster_id = meta.cluster_id;
    options.incarnation = incarnation;
    auto transport = peers::Transport::open(*loops_[0], std::move(options));
    if (!transport) return fail(transport.error());
    links_ = std::move(*transport);
    return true;
  }

  bool alone() const {
    return std::none_of(config_.members.begin(), config_.members.end(),
                        [this](const Member& member) { return member.sid.value != config_.server_id; });
  }

  Result<bool, Fault> listen() {
    std::vector<net::Loop*> loops;
    for (const auto& loop : loops_) loops.push_back(loop.get());
    const auto on_accept = [this](std::shared_ptr<net::Stream> stream) { accepted(std::move(stream)); };
    if (config_.has_client_port) {
      auto tcp = net::listen_tcp(loops, config_.client_address, config_.client_port, config_.client_backlog, on_accept);
      if (!tcp) return fail(tcp.error());
      log::info("net", "listening address={} port={}", config_.client_address.empty() ? "*" : config_.client_address,
                (*tcp)->port());
      listeners_.push_back(std::move(*tcp));
    }
    if (!config_.socket.empty()) {
      auto local = net::listen_unix(loops, config_.socket, config_.socket_group, on_accept);
      if (!local) return fail(local.error());
      log::info("net", "listening socket={}", config_.socket);
      listeners_.push_back(std::move(*local));
    }
    return true;
  }

  void accepted(std::shared_ptr<net::Stream> stream) {
    if (core_->too_many(stream->remote())) {
      log::warn("net", "too many connections from={} (maxClientCnxns, maxCnxns)", stream->remote().address);
      return;  // dropped: closes
    }
    const ConnId id(next_conn_.fetch_add(1));
    auto conn = std::make_shared<ClientConn>(*core_, stream, id);
    core_->opened(conn);
    stream->start(conn);
  }

  void announce() {
    log::info("core", "serving sid={} version={}", config_.server_id, kVersion);
    sd_notify(0, "READY=1\nSTATUS=serving");
  }

  void watchdog() {
    std::uint64_t period_us = 0;
    if (sd_watchdog_enabled(0, &period_us) <= 0) return;
    loops_[0]->every(std::chrono::milliseconds(std::max<std::uint64_t>(period_us / 3000, 1)),
                     [] { sd_notify(0, "WATCHDOG=1"); });
  }

  void end(int signal_number) {
    log::info("core", "stopping signal={}", signal_number);
    sd_notify(0, "STOPPING=1");
    for (const auto& listener : listeners_) listener->close();
    core_->stop();
    loops_[0]->every(kStopLimit, [this] { loops_[0]->stop(); });
    loops_[0]->every(std::chrono::milliseconds(5), [this] {
      if (core_->connection_count() == 0) loops_[0]->stop();
    });
  }

  void stop_workers() {
    for (std::size_t n = 1; n < loops_.size(); ++n) loops_[n]->stop();
    for (std::thread& worker : workers_) {
      if (worker.joinable()) worker.join();
    }
    workers_.clear();
  }

  const Config config_;
  // Destroyed in reverse: listeners and connections first, then the core, the loops last.
  std::vector<std::unique_ptr<net::Loop>> loops_;
  std::unique_ptr<peers::Links> links_;
  std::unique_ptr<Core> core_;
  std::vector<std::unique_ptr<net::Listener>> listeners_;
  std::vector<std::thread> workers_;
  std::atomic<std::uint64_t> next_conn_{1};
};

}  // namespace

Result<std::unique_ptr<Replica>, Fault> Replica::open(const Config& config) {
  auto replica = std::make_unique<RunningReplica>(config);
  if (auto ready = replica->prepare(); !ready) return fail(ready.error());
  return std::unique_ptr<Replica>(std::move(replica));
}

}  // namespace coord::runtime
