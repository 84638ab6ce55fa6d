// Turns: what the ZAB core wants is carried out, what a turn persists becomes one batch, and everything that is to be
// sent leaves at its end.
#include "replica/runtime/core.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/base/overloaded.h"
#include "replica/runtime/membership.h"
#include "replica/tree/txn.h"

namespace coord::runtime {
namespace {

constexpr auto kTick = std::chrono::milliseconds(20);
constexpr auto kTickAlone = std::chrono::milliseconds(50);

// A fold goes into a batch when so much has changed; smaller amounts wait for an idle moment.
constexpr std::size_t kFoldNodes = 256;
constexpr std::size_t kFoldBytes = 1u << 20;
constexpr std::uint64_t kFoldTxns = 10'000;

}  // namespace

tree::Limits Core::limits_of(const Config& config) {
  tree::Limits limits;
  limits.min_session_timeout_ms = config.min_timeout();
  limits.max_session_timeout_ms = config.max_timeout();
  limits.skip_acl = config.skip_acl;
  limits.enforce_quota = config.enforce_quota;
  limits.extended_types = config.extended_types;
  limits.super_digest = config.super_digest;
  limits.container_never_used_ms = config.container_never_used_ms;
  limits.feature_level_known = config.feature_level_max;
  return limits;
}

namespace {

bool alone(const Config& config) {
  return std::none_of(config.members.begin(), config.members.end(),
                      [&](const Member& member) { return member.sid.value != config.server_id; });
}

std::set<Sid> voters_of(const Config& config) {
  std::set<Sid> voters;
  for (const Member& member : config.members) {
    if (!member.observer) voters.insert(member.sid);
  }
  if (config.members.empty()) voters.insert(Sid(config.server_id));
  return voters;
}

zab::Config zab_config(const Config& config, std::uint64_t seed) {
  zab::Config zab;
  zab.self = Sid(config.server_id);
  zab.voters = zab::Quorum(voters_of(config));
  zab.membership_of = membership_of;
  zab.enrolment_of = enrolment_of;
  for (const Member& member : config.members) {
    if (member.observer) zab.observers.insert(member.sid);
    if (member.sid == zab.self) zab.observer = member.observer;
  }
  zab.counter_max = config.counter_max;
  zab.seed = seed;
  zab.timing.ping = config.peer_tick_ms / 2;
  zab.timing.sync_limit = config.peer_tick_ms * config.sync_limit;
  zab.timing.init_limit = config.peer_tick_ms * config.init_limit;
  // What is proposed when the last disk turns out to be nearly full must fit what is left.
  zab.limits.outstanding_bytes = std::min<std::size_t>(zab.limits.outstanding_bytes,
                                                       config.grow_size() / kGrowSharesOnTheWay);
  return zab;
}

// Replaying the log at start: nobody is connected yet.
class NobodyListens final : public tree::Sink {
  void watch_event(ConnId, WatchType, std::string_view, Zxid) override {}
  void change_event(ConnId, const wire::ChangeEvent&) override {}
  void session_closed(SessionId, Zxid) override {}
};

const char* name(zab::Role role) {
  switch (role) {
    case zab::Role::kLooking:
      return "looking";
    case zab::Role::kLeading:
      return "leading";
    case zab::Role::kFollowing:
      return "following";
    case zab::Role::kObserving:
      return "observing";
  }
  return "?";
}

const char* name(zab::Phase phase) {
  switch (phase) {
    case zab::Phase::kElection:
      return "election";
    case zab::Phase::kDiscovery:
      return "discovery";
    case zab::Phase::kSynchronization:
      return "synchronization";
    case zab::Phase::kBroadcast:
      return "broadcast";
  }
  return "?";
}

}  // namespace

Core::Core(const Config& config, net::Executor& executor, std::unique_ptr<store::Store> store, peers::Links& links,
           Environment environment)
    : config_(config),
      alone_(alone(config)),
      self_(config.server_id),
      executor_(executor),
      links_(links),
      store_(std::move(store)),
      environment_(std::move(environment)),
      tree_(std::make_unique<tree::StateMachine>(limits_of(config))),
      started_ms_(now_ms()),
      cluster_id_(store_->meta().cluster_id),
      secret_(store_->meta().secret),
      // Never those of an earlier start, which may still be on their way through the ensemble.
      next_origin_((environment_.incarnation << 24) + 1),
      epochs_(store_->meta().epochs),
      hinted_(store_->meta().commit_hint),
      folded_(store_->meta().tree_durable),
      owners_({self_, config.tick_time_ms, config.peer_tick_ms * config.sync_limit, alone_}) {}

Core::~Core() = default;

std::int64_t Core::uptime_ms() const { return now_ms() - started_ms_; }

Result<bool, Fault> Core::load_tree(tree::StateMachine& into, Zxid zxid) {
  auto loaded =
      store_->load_tree([&into](NodeId id, std::string_view record) { return into.load_node(id, record); },
                        [&into](SessionId id, std::string_view record) { return into.load_session(id, record); },
                        [&into](std::string_view record) { return into.load_counters(record); });
  if (!loaded) return loaded;
  return into.finish_load(zxid);
}

Result<bool, Fault> Core::load() {
  const store::Meta& meta = store_->meta();
  if (auto loaded = load_tree(*tree_, meta.tree_durable); !loaded) return loaded;
  NobodyListens nobody;
  // What is known to be committed is applied now; the rest of the log when the new epoch's quorum has settled it.
  std::int32_t level = 0;
  auto read = store_->read_log(meta.tree_durable, [&](store::LogEntry entry) {
    if (const auto change = tree::feature_level_of(*entry.payload)) level = std::max(level, change->level);
    if (level > config_.feature_level_max) return;  // see below
    if (entry.zxid <= meta.commit_hint) {
      tree_->apply(entry.zxid, *entry.payload, false, nobody);
    } else {
      outstanding_.push_back(Outstanding{entry.zxid, std::move(entry.payload), nullptr, {}, 0});
    }
  });
  if (!read) return read;
  if (level > config_.feature_level_max) {
    return fail(
        Fault{fmt::format("{}: the log is at feature level {}, and this replica knows {}: start a newer version "
                          "(or one that coord.featureLevelMax does not hold back)",
                          config_.data_dir, level, config_.feature_level_max)});
  }
  outstanding_count_ = outstanding_.size();
  zab::DurableState durable;
  durable.accepted_epoch = meta.epochs.accepted;
  durable.accepted_from = meta.epochs.accepted_from;
  durable.current_epoch = meta.epochs.current;
  durable.log = zab::LogShape{meta.log_floor, meta.epoch_ends};
  durable.commit_hint = meta.commit_hint;
  durable.directory_id = meta.directory_id;
  durable.cluster_id = meta.cluster_id;
  durable.secret = meta.secret;
  durable.damaged = meta.damaged;
  durable.fresh_cluster_id = environment_.fresh_cluster_id;
  durable.fresh_secret = environment_.fresh_secret;
  durable.enrolled = tree_->enrolled();
  if (tree_->members_version() != Zxid{}) {
    durable.memberships.push_back(membership(tree_->members(), tree_->members_version()));
  }
  for (const Outstanding& entry : outstanding_) {
    if (auto change = membership_of(*entry.payload)) {
      change->version = entry.zxid;
      durable.memberships.push_back(*std::move(change));
    }
  }
  for (const Outstanding& entry : outstanding_) {
    if (auto enrolment = enrolment_of(*entry.payload))
      durable.enrolments.emplace_back(entry.zxid, *std::move(enrolment));
  }
  if (auto fits = check_members(); !fits) return fits;
  peer_ = std::make_unique<zab::Peer>(zab_config(config_, environment_.seed), std::move(durable));
  log::info("core", "loaded nodes={} sessions={} zxid={} log_behind={} epoch={}", tree_->node_count(),
            tree_->sessions().size(), to_string(tree_->last_applied()), outstanding_.size(), epochs_.current);
  return true;
}

void Core::start(std::function<void()> on_serving) {
  on_serving_ = std::move(on_serving);
  store_->set_on_durable([this](std::uint64_t batch_id) {
    durable_batch_.store(batch_id);
    if (durable_posted_.exchange(true)) return;
    executor_.post([this] {
      durable_posted_ = false;
      durable(durable_batch_.load());
    });
  });
  store_->set_on_space([this](bool refuse) {
    refuse_writes_ = refuse;
    if (refuse) {
      log::error("store", "the disk is nearly full: {} until there is space again dir={}",
                 alone_ ? "writes are refused" : "this replica counts as one without space", config_.data_dir);
    } else {
      log::info("store", "there is space again dir={}", config_.data_dir);
    }
    executor_.post([this] {
      look_at_room();
      turn_done();
    });
  });
  refuse_writes_ = store_->space().refuse_writes;
  look_at_disk();
  next_session_ = (static_cast<std::uint64_t>(config_.server_id) << 56) |
                  ((static_cast<std::uint64_t>(executor_.wall_ms()) << 24) >> 8);
  last_tick_ms_ = last_reap_ms_ = last_table_ms_ = linked_ms_ = now_ms();
  executor_.every(alone_ ? kTickAlone : kTick, [this] { tick(); });
  announce_members();
  announce_candidates();
  links_.start(*this);
  step(zab::Start{now_ms()});
  turn_done();
}

void Core::stop() {
  stopping_ = true;
  serving_ = false;
  for (const auto& conn : connections()) conn->close(true);
  links_.stop();
}

void Core::resign() {
  executor_.dispatch([this] {
    if (!peer_ || !leading() || stopping_) return;
    step(zab::Resign{});
    turn_done();
  });
}

// ---------------------------------------------------------------- what the ZAB core wants

// In order, also when carrying one out leads to another step: what that asks for comes behind all that is at hand.
void Core::carry_out() {
  if (carrying_out_) return;
  if (stopping_ && !alone_) {  // the links are gone: from here on it is as if the process were
    actions_.clear();
    return;
  }
  carrying_out_ = true;
  for (;;) {
    while (!actions_.empty()) {
      const zab::Actions now = std::exchange(actions_, {});
      for (const zab::Action& action : now) carry_out(action);
    }
    if (serving_ || stopping_ || replacing_tree() || !peer_->serving()) break;
    begin_serving();
  }
  carrying_out_ = false;
}

void Core::carry_out(const zab::Action& action) {
  std::visit(
      Overloaded{
          [this](const zab::Persist& a) { persist(a); },
          [this](const zab::Deliver& a) {
            deliver_to_ = std::max(deliver_to_, a.up_to);
            deliver(deliver_to_);
          },
          [this](const zab::Discard& a) {
            while (!outstanding_.empty() && outstanding_.back().zxid > a.after) outstanding_.pop_back();
            outstanding_count_ = outstanding_.size();
          },
          [this](const zab::Appended& a) {
            for (const zab::LogEntry& entry : a.entries) {
              if (!outstanding_.empty() && entry.zxid <= outstanding_.back().zxid) continue;  // came with its Persist
              outstanding_.push_back(Outstanding{entry.zxid, entry.payload, nullptr, entry.origin, 0});
            }
            outstanding_count_ = outstanding_.size();
          },
          [this](const zab::Reload& a) { reload(a.zxid); },
          [this](const zab::PhaseChanged& a) { phase_changed(a); },
          [this](const zab::Send& a) { links_.send(a.link, a.message); },
          [this](const zab::DialLearner& a) { links_.dial_learner(a.number, a.leader); },
          [this](const zab::CloseLink& a) {
            known_links_.erase(a.link);
            sending_.erase(a.link);
            links_.close(a.link, a.reason);
          },
          [this](const zab::ReadLog& a) {
            store_->read_log_later(a.after, a.up_to, a.max_bytes,
                                   [this, number = a.number](std::vector<store::LogEntry> entries) {
                                     executor_.post([this, number, entries = std::move(entries)]() mutable {
                                       zab::LogRead read{number, {}};
                                       read.entries.reserve(entries.size());
                                       for (store::LogEntry& e : entries) {
                                         read.entries.push_back({e.zxid, e.previous, std::move(e.payload), {}});
                                       }
                                       step(read);
                                       turn_done();
                                     });
                                   });
          },
          [this](const zab::SendSnapshot& a) { send_snapshot(a); },
          [this](const zab::ReceiveSnapshot& a) { receive_snapshot(a); },
          [this](const zab::DropSnapshot&) {
            if (batch_filled_) send_batch();  // it may install what is staged
            store_->snapshot_drop();
          },
          [this](const zab::PassedUp& a) { passed_up(a); },
          [this](const zab::LearnerChanged& a) { learner_changed(a); },
          [this](const zab::LeadershipConfirmed& a) { leadership_confirmed(a); },
          [this](const zab::Enrol& a) { enrol(a); },
          [this](const zab::Alarm& a) { a.over ? alarm_over(a.text) : alarm(a.text); },
      },
      action);
}

// Several become one batch as long as the store's order of its parts is theirs.
void Core::persist(const zab::Persist& persist) {
  if (batch_persist_ != 0 && (persist.install_snapshot || persist.truncate_after)) send_batch();
  if (persist.install_snapshot) {
    // What was behind the old log is gone; what the new one begins with may have been announced already.
    batch_.install_snapshot = true;
    ++replacing_;
    outstanding_.clear();
    for (const zab::LogEntry& entry : persist.append) {
      outstanding_.push_back(Outstanding{entry.zxid, entry.payload, nullptr, entry.origin, 0});
    }
    outstanding_count_ = outstanding_.size();
  }
  if (persist.truncate_after) batch_.truncate_after = persist.truncate_after;
  for (const zab::LogEntry& entry : persist.append) {
    batch_.append.push_back(store::LogEntry{entry.zxid, entry.previous, entry.payload});
  }
  if (persist.accepted_epoch) {
    epochs_.accepted = *persist.accepted_epoch;
    epochs_.accepted_from = persist.accepted_from;
  }
  if (persist.current_epoch) epochs_.current = *persist.current_epoch;
  if (persist.accepted_epoch || persist.current_epoch) batch_.epochs = epochs_;
  if (!persist.cluster_id.empty()) {
    batch_.identity = store::Identity{persist.cluster_id, persist.secret};
    cluster_id_ = persist.cluster_id;
    secret_ = persist.secret;
    log::info("core", "this replica belongs to cluster {} now", cluster_id_);
  }
  if (persist.repaired) batch_.repaired = true;
  batch_persist_ = persist.id;
  batch_filled_ = true;
}

void Core::phase_changed(const zab::PhaseChanged& change) {
  log::info("zab", "role={} phase={} epoch={} leader={} last_logged={}", name(change.role), name(change.phase),
            change.epoch, change.leader.value, to_string(peer_->last_logged()));
  // An ensemble of one hands over to itself: everything is applied, and requests wait for the new epoch.
  if (change.phase == zab::Phase::kElection && !alone_) leave_broadcast();
  last_status_ms_ = 0;
}

void Core::begin_serving() {
  const std::int64_t now = now_ms();
  if (leading()) {
    // Whatever was promised to clients by the leader before: from here on each has its full timeout.
    owners_.begin(tree_->sessions(), now);
    for (const auto& [sid, learner] : learners_) owners_.learner_up(sid);
    look_at_low();
  }
  serving_ = true;
  serving_ms_ = last_table_ms_ = now;
  last_status_ms_ = now;
  refresh_status();  // before a client can ask
  table_refused_ = level_told_ = false;
  if (on_serving_) std::exchange(on_serving_, nullptr)();
  for (const zab::PassedUp& passed : std::exchange(early_, {})) passed_up(passed);
}

// What was asked for and not answered has an unknown fate: its clients see a lost connection, as with ZooKeeper. Log
// entries stay, the next epoch settles them.
void Core::leave_broadcast() {
  serving_ = false;
  for (const auto& conn : connections()) conn->close(true);  // with the answers that are ready
  tree_->forget_prepared();
  for (Outstanding& entry : outstanding_) {
    entry.conn.reset();
    entry.origin = {};
  }
  waiting_.clear();
  waiting_bytes_ = 0;
  forwarded_.clear();
  attaching_.clear();
  syncs_forwarded_.clear();
  syncs_.clear();
  syncs_asked_.clear();
  syncs_confirmed_.clear();
  question_open_ = confirm_wanted_ = false;
  sending_.clear();
  owners_.end();
  closing_.clear();
  learners_.clear();
  early_.clear();
  enrol_early_.reset();
  level_proposed_ = first_list_proposed_ = false;
  differing_.clear();
  quorum_low_ = may_hand_over_ = false;
  gone_.clear();
  notes_to_send_.clear();
  asked_ = 0;
  attached_.clear();
}

// Of our own accord, so the links do not tell the ZAB core.
void Core::close_link(zab::LinkId link, const std::string& reason) {
  if (known_links_.erase(link) == 0) return;
  log::warn("peers", "link {} is closed: {}", link.value, reason);
  sending_.erase(link);
  links_.close(link, reason);
  step(zab::LinkDown{link});
}

// ---------------------------------------------------------------- storage and turns

bool Core::fold_due() const {
  if (replacing_tree()) return false;
  return tree_->dirty_nodes() >= kFoldNodes || tree_->dirty_bytes() >= kFoldBytes || applied_since_fold_ >= kFoldTxns;
}

void Core::turn_done() {
  carry_out();
  announce_candidates();
  propose_waiting();
  ask_confirmation();
  if (fold_due()) batch_filled_ = true;
  if (batch_filled_) send_batch();
  if (!cluster_announced_ && peer_->last_logged() != Zxid{}) {
    // Not earlier: the name of a cluster that never logged anything must not keep its servers out of the one that did.
    links_.set_cluster_id(cluster_id_);
    cluster_announced_ = true;
  }
  if (!alone_ && !stopping_) links_.flush();
  flush_touched();
  if (last_status_ms_ == 0) {  // what was told to others just now is not to be denied by the status
    last_status_ms_ = now_ms();
    refresh_status();
  }
}

void Core::send_batch() {
  batch_.id = next_batch_id_++;
  if (!replacing_tree()) {
    const Zxid applied = tree_->last_applied();
    if (applied > hinted_) {
      batch_.commit_hint = applied;
      hinted_ = applied;
    }
    if (fold_due() && applied > folded_) {
      const std::lock_guard<TreeLock> lock(tree_lock_);
      tree::Fold fold = tree_->take_fold();
      folded_ = fold.tree_durable;
      batch_.fold = store::FoldRecord{fold.tree_durable, std::move(fold.nodes), std::move(fold.sessions),
                                      std::move(fold.counters)};
      applied_since_fold_ = 0;
    }
  }
  in_flight_.push_back(InFlight{batch_.id, std::exchange(batch_persist_, 0)});
  batch_filled_ = false;
  store_->submit(std::exchange(batch_, {}));
}

void Core::durable(std::uint64_t batch_id) {
  while (!in_flight_.empty() && in_flight_.front().batch_id <= batch_id) {
    const InFlight done = in_flight_.front();
    in_flight_.pop_front();
    if (done.persist_id != 0) step(zab::Persisted{done.persist_id});
  }
  turn_done();
}

}  // namespace coord::runtime
