#include "tests/sim/world.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "tests/sim/describe.h"

namespace coord::sim {

namespace {

// Servers `from` to `to`.
std::set<Sid> range(int from, int to) {
  std::set<Sid> sids;
  for (int i = from; i <= to; ++i) sids.insert(Sid{static_cast<std::uint32_t>(i)});
  return sids;
}

zab::Membership founders(const WorldOptions& options) {
  zab::Membership members;
  members.voters = range(1, options.voters);
  members.observers = range(options.voters + 1, options.voters + options.observers);
  return members;
}

}  // namespace

World::World(WorldOptions options)
    : options_(std::move(options)),
      random_(options_.seed),
      network_(scheduler_, random_, *this, options_.mutant),
      ghost_(founders(options_)) {
  network_.set_fixed_latency(options_.fixed);
  network_.set_latency(options_.network_us);
  const int founding = options_.voters + options_.observers;
  retired_ = range(founding + 1, founding + options_.spares);
  for (const Sid sid : range(1, founding + options_.spares)) {
    NodeOptions node;
    node.config.self = sid;
    node.writes_list = options_.writes_list;
    node.config.counter_max = options_.counter_max;
    node.config.seed = random_.next();
    node.config.timing = options_.timing;
    node.config.limits = options_.limits;
    node.log_keep = options_.log_keep;
    node.fold_every = options_.fold_every;
    auto made = std::make_unique<Node>(sid, node, scheduler_, random_, network_, ghost_, *this, options_.mutant);
    made->disk().set_latency(options_.disk_us);
    made->disk().set_fixed_latency(options_.fixed);
    made->set_file(founders(options_));
    disks_[sid] = &made->disk().durable();
    nodes_[sid] = std::move(made);
  }
}

World::~World() = default;

void World::run_for(std::int64_t ms) {
  const std::int64_t until = scheduler_.now_us() + ms * 1000;
  while (scheduler_.run_one(until)) {
  }
}

bool World::run_until(const std::function<bool()>& true_now, std::int64_t ms) {
  const std::int64_t until = scheduler_.now_us() + ms * 1000;
  std::int64_t look = 0;
  while (true) {
    if (scheduler_.now_us() >= look) {  // not after each of the steps
      if (true_now()) return true;
      look = scheduler_.now_us() + 1000;
    }
    if (!scheduler_.run_one(until)) return true_now();
  }
}

void World::must(const std::function<bool()>& true_now, std::int64_t ms, const std::string& what) {
  if (!run_until(true_now, ms)) {
    std::string text = what + " did not happen within " + std::to_string(ms) + " ms;";
    for (const auto& [sid, node] : nodes_) {
      text += " " + std::to_string(sid.value) + ":";
      if (!node->up()) {
        text += "down";
        continue;
      }
      const zab::Peer& peer = node->peer();
      text += name_of(peer.role(), peer.phase()) + " of " + std::to_string(peer.leader().value) + " epoch " +
              std::to_string(peer.current_epoch()) + "/" + std::to_string(peer.accepted_epoch()) + " log " +
              to_string(peer.last_logged()) + " applied " + to_string(node->applied().zxid) +
              (node->serving() ? " serving" : "") + (node->disk().durable().damaged ? " damaged" : "") +
              (lost.contains(sid) ? " lost" : "");
      text += " enrolled";
      for (const auto& [other, directory] : node->applied().enrolled) text += " " + std::to_string(other.value);
      text += " members " + to_string(peer.membership().version) + " voters";
      for (const Sid other : peer.membership().voters) text += " " + std::to_string(other.value);
      if (peer.pending_membership() != nullptr) text += " pending " + to_string(peer.pending_membership()->version);
      text += ";";
    }
    ghost_.violate(24, Sid{0}, text);
  }
}

std::vector<Sid> World::all() const {
  std::vector<Sid> sids;
  for (const auto& [sid, node] : nodes_) {
    if (!retired_.contains(sid)) sids.push_back(sid);
  }
  return sids;
}

std::vector<Sid> World::servers() const {
  std::vector<Sid> sids;
  for (const auto& [sid, node] : nodes_) sids.push_back(sid);
  return sids;
}

std::vector<Sid> World::voters() const { return {members().voters.begin(), members().voters.end()}; }

Node* World::leader() {
  Node* best = nullptr;
  for (const auto& [sid, node] : nodes_) {
    if (node->leads() && (best == nullptr || node->peer().epoch() > best->peer().epoch())) best = node.get();
  }
  return best;
}

Sid World::elect(std::int64_t ms) {
  must([this] { return leader() != nullptr && leader()->peer().accepts_proposals(); }, ms, "an election");
  return leader()->sid();
}

void World::write(int count) {
  for (int i = 0; i < count; ++i) {
    elect();
    const std::size_t before = ghost_.history_size();
    if (!leader()->propose(32)) ghost_.violate(24, leader()->sid(), "a leader takes no write");
    must([&] { return ghost_.history_size() > before; }, 5000, "a write");
  }
}

bool World::caught_up(Sid sid) {
  Node& one = node(sid);
  return one.serving() && one.applied().count == ghost_.history_size();
}

// --- faults

void World::boot(std::uint32_t sid) {
  Node& one = node(sid);
  if (one.up() || retired_.contains(Sid{sid})) return;
  correct_file(one.sid());
  one.boot();
  if (one.disk().durable().damaged) lost.insert(one.sid());
}

void World::crash(std::uint32_t sid, bool power_cut) { node(sid).crash(power_cut); }

void World::power_cut() {
  for (const auto& [sid, node] : nodes_) node->crash(true);
}

void World::partition(const std::set<std::uint32_t>& side) {
  for (const Sid a : all()) {
    for (const Sid b : all()) {
      if (side.contains(a.value) != side.contains(b.value)) network_.block(a, b, true);
    }
  }
}

void World::wipe(std::uint32_t sid) {
  node(sid).disk().wipe("directory-" + std::to_string(++wipes_) + "-of-" + std::to_string(sid));
  lost.insert(Sid{sid});
  note("wipe", sid, wipes_, 0);
}

// --- administrators

// What an administrator writes there: the present members, and the server itself.
void World::correct_file(Sid sid) {
  zab::Membership file = members();
  if (!file.is_member(sid)) (guest_observers_.contains(sid) ? file.observers : file.voters).insert(sid);
  node(sid).set_file(file);
}

void World::enlist(std::uint32_t sid, bool as_observer, bool empty_disk) {
  if (retired_.erase(Sid{sid}) == 0) return;
  note("enlist", sid, as_observer ? 1 : 0, empty_disk ? 1 : 0);
  guest_observers_.erase(Sid{sid});
  if (as_observer) guest_observers_.insert(Sid{sid});
  if (empty_disk) {
    node(sid).disk().wipe("directory-" + std::to_string(++wipes_) + "-of-" + std::to_string(sid));
    lost.erase(Sid{sid});
  }
  boot(sid);
}

void World::retire(std::uint32_t sid) {
  note("retire", sid, 0, 0);
  node(sid).crash(true);
  retired_.insert(Sid{sid});
}

bool World::is_dispensable(Sid sid) const {
  if (members().is_member(sid) || !members_settled()) return false;
  return std::all_of(members().voters.begin(), members().voters.end(), [this](Sid voter) {
    const Image& image = *disks_.at(voter);
    return lost.contains(voter) || image.commit_hint >= members().version;
  });
}

bool World::members_settled() const {
  if (ghost_.change_undecided()) return false;
  const Zxid version = members().version;
  for (const auto& [sid, node] : nodes_) {
    const std::vector<zab::Membership> on_disk = node->disk().durable().memberships();
    if (!on_disk.empty() && on_disk.back().version > version) return false;
    if (node->up() && node->peer().pending_membership() != nullptr &&
        node->peer().pending_membership()->version > version) {
      return false;
    }
  }
  return true;
}

void World::crash_at(std::uint32_t sid, Stage stage, int nth, bool power_cut) {
  traps_.push_back({Sid{sid}, stage, nth, power_cut});
}

void World::calm() {
  note("calm", 0, 0, 0);
  on_stage = nullptr;
  on_action = nullptr;
  traps_.clear();
  network_.release();
  network_.heal();
  network_.slow(1);
  network_.set_half_open(false);
  for (const auto& [sid, node] : nodes_) {
    node->disk().calm();
    node->starve_ticks(20'000);
    node->resume();
    boot(sid.value);
  }
  correct_files_of_the_lost();
  const auto settled = [this] {
    Node* const one = leader();
    return one != nullptr && one->peer().accepts_proposals();
  };
  must(settled, kLeaderWithin, "a leader in the calm");
  correct_files_of_the_lost();
  const std::vector<Sid> everybody = all();
  must([&] { return std::all_of(everybody.begin(), everybody.end(), [this](Sid sid) { return caught_up(sid); }); },
       kCaughtUpWithin, "catching up in the calm");
  const std::size_t before = ghost_.history_size();
  elect(kLeaderWithin);
  if (!leader()->propose(16)) ghost_.violate(24, leader()->sid(), "no write in the calm");
  must(
      [this, before] {
        for (const Sid sid : all()) {
          if (!caught_up(sid) || node(sid).applied().count <= before) return false;
          if (node(sid).peer().membership().version < members().version) return false;
        }
        return true;
      },
      kCaughtUpWithin, "a write everywhere in the calm");
  for (const Sid sid : voters()) {
    if (retired_.contains(sid)) ghost_.violate(22, sid, "is a voter and was turned off");
  }
}

// Who was not told of a member is started again with the present ones in its file; a guest that knows nobody any more
// who runs is emptied as well.
void World::correct_files_of_the_lost() {
  for (const Sid sid : all()) {
    const zab::Membership view = node(sid).view();
    const bool alone = std::none_of(view.voters.begin(), view.voters.end(),
                                    [&](Sid other) { return other != sid && !retired_.contains(other); });
    if (alone && is_dispensable(sid)) {
      retire(sid.value);
      enlist(sid.value, false, true);
      continue;
    }
    const auto known = [&](Sid other) { return other == sid || network_.knows(sid, other); };
    if (std::all_of(members().voters.begin(), members().voters.end(), known)) continue;
    crash(sid.value, false);
    boot(sid.value);
  }
}

// --- NetworkUser

void World::link_up(Sid at, zab::LinkId link, zab::Channel channel, Sid peer, bool dialed) {
  if (node(at).up()) node(at).step(zab::LinkUp{link, channel, peer, dialed});
}

void World::link_down(Sid at, zab::LinkId link) {
  if (node(at).up()) node(at).step(zab::LinkDown{link});
}

void World::dial_failed(Sid at, std::uint64_t number) {
  if (node(at).up()) node(at).step(zab::DialFailed{number});
}

void World::received(Sid at, zab::LinkId link, zab::Message message) {
  note("got", at.value, link.value, key_of(message));
  if (options_.trace) note_text(at, "got on " + std::to_string(link.value) + " " + describe(message));
  node(at).received(link, std::move(message));
}

// --- NodeUser

void World::note(const char* what, std::uint64_t a, std::uint64_t b, std::uint64_t c) {
  hash_ = mix(hash_, static_cast<std::uint64_t>(scheduler_.now_us()));
  for (const char* at = what; *at != '\0'; ++at) hash_ = mix(hash_, static_cast<std::uint64_t>(*at));
  hash_ = mix(mix(mix(hash_, a), b), c);
  if (options_.trace && what[0] != 'g') {
    std::printf("%10.3f %-8s %llu %llx %llx\n", static_cast<double>(scheduler_.now_us()) / 1000, what,
                static_cast<unsigned long long>(a), static_cast<unsigned long long>(b),
                static_cast<unsigned long long>(c));
  }
}

void World::note_text(Sid at, const std::string& text) {
  std::printf("%10.3f   [%u] %s\n", static_cast<double>(scheduler_.now_us()) / 1000, at.value, text.c_str());
}

bool World::crash_here(Sid at, Stage stage) {
  note("stage", at.value, static_cast<std::uint64_t>(stage), 0);
  for (std::size_t i = 0; i < traps_.size(); ++i) {
    if (traps_[i].sid != at || traps_[i].stage != stage || --traps_[i].left > 0) continue;
    const bool power_cut = traps_[i].power_cut;
    traps_.erase(traps_.begin() + static_cast<std::ptrdiff_t>(i));
    node(at).crash(power_cut);
    return true;
  }
  return on_stage && on_stage(at, stage);
}

bool World::crash_in_actions(Sid at) { return on_action && on_action(at); }

void World::storage_error(Sid at) {
  note("eio", at.value, 0, 0);
  node(at).crash(false);
  if (on_storage_error) on_storage_error(at);
}

void World::history_grew() {
  // Under another directory than the one that was lost it counts anew.
  if (members().version == ghost_.last_delivered()) {
    for (const auto& [sid, directory] : members().joins) {
      if (disks_.at(sid)->directory_id == directory && !disks_.at(sid)->damaged) lost.erase(sid);
    }
  }
  ghost_.durable(disks_, lost);
}

void World::alarm(Sid at, const std::string& text) {
  note("alarm", at.value, text.size(), 0);
  alarms_.push_back(std::to_string(at.value) + ": " + text);
}

}  // namespace coord::sim
