#include "tests/sim/invariants.h"

#include <algorithm>
#include <functional>
#include <iterator>

#include "tests/replica/zab/members.h"
#include "tests/sim/random.h"

namespace coord::sim {

namespace {

std::uint64_t digest(const std::string& bytes) {
  std::uint64_t hash = 1469598103934665603ULL;
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return hash;
}

}  // namespace

std::uint64_t Ghost::chain(std::uint64_t before, Zxid zxid, const std::string& payload) {
  return mix(mix(before, zxid.value), digest(payload));
}

void Ghost::violate(int number, Sid at, const std::string& text) const {
  throw Violation("invariant " + std::to_string(number) + ", server " + std::to_string(at.value) + ": " + text);
}

void Ghost::proposed(Sid leader, std::uint32_t epoch, const zab::LogEntry& entry, const Tree& applied) {
  const auto [owner, first] = broadcasters_.try_emplace(epoch, leader);
  if (owner->second != leader)
    violate(8, leader, "proposes in the epoch of server " + std::to_string(owner->second.value));
  const auto made = established_.find(epoch);
  if (made == established_.end() || made->second.leader != leader) violate(8, leader, "proposes without an office");
  if (!made->second.has_proposed) {
    made->second.has_proposed = true;
    if (applied.zxid != made->second.base) violate(7, leader, "proposes before it applied its history");
  }
  if (entry.zxid.epoch() != epoch) violate(5, leader, "proposes in another epoch: " + to_string(entry.zxid));
  if (!broadcast_.try_emplace(entry.zxid, Broadcast{entry.previous, digest(*entry.payload), leader}).second) {
    violate(20, leader, "proposes " + to_string(entry.zxid) + " twice");
  }
  if (auto members = zab::testing::members_of(*entry.payload)) {
    members->version = entry.zxid;
    lists_[entry.zxid] = *std::move(members);
  }
}

void Ghost::appended(Sid at, const zab::LogEntry& entry, Zxid behind) {
  const auto known = broadcast_.find(entry.zxid);
  if (known == broadcast_.end()) violate(1, at, "logs what nobody proposed: " + to_string(entry.zxid));
  if (known->second.payload != digest(*entry.payload)) violate(1, at, "another payload at " + to_string(entry.zxid));
  if (known->second.previous != entry.previous || entry.previous != behind) {
    violate(4, at, to_string(entry.zxid) + " logged behind " + to_string(behind) + ", proposed behind " +
                       to_string(known->second.previous));
  }
}

void Ghost::delivered(Sid at, std::uint64_t index, const zab::LogEntry& entry) {
  const auto known = broadcast_.find(entry.zxid);
  if (known == broadcast_.end()) violate(1, at, "applies what nobody proposed: " + to_string(entry.zxid));
  if (known->second.payload != digest(*entry.payload))
    violate(1, at, "applies another payload at " + to_string(entry.zxid));
  if (index < history_.size()) {
    if (history_[index] == entry.zxid) return;
    const bool twice = place_.contains(entry.zxid);
    violate(twice ? 20 : 2, at, "applies " + to_string(entry.zxid) + " as transaction " + std::to_string(index) +
                                    ", others " + to_string(history_[index]));
  }
  if (index > history_.size()) violate(2, at, "applies beyond a hole: " + to_string(entry.zxid));
  if (known->second.previous != last_delivered()) {
    violate(5, at,
            "applies " + to_string(entry.zxid) + " behind " + to_string(last_delivered()) + ", proposed behind " +
                to_string(known->second.previous));
  }
  if (entry.zxid <= last_delivered()) violate(6, at, "applies " + to_string(entry.zxid) + " late");
  if (!established_.empty()) {
    const auto& [epoch, newest] = *established_.rbegin();
    if (entry.zxid.epoch() < epoch && !in_history(newest.base, entry.zxid)) {
      violate(7, at,
              "applies " + to_string(entry.zxid) + ", which the leader of epoch " + std::to_string(epoch) + " lacks");
    }
  }
  chains_.push_back(chain(chains_.empty() ? 0 : chains_.back(), entry.zxid, *entry.payload));
  place_[entry.zxid] = history_.size();
  history_.push_back(entry.zxid);
  answered_.erase(entry.zxid);
  if (const auto list = lists_.find(entry.zxid); list != lists_.end()) {
    previous_ = std::exchange(in_force_, list->second);
    ++changes_;
  }
}

void Ghost::installed(Sid at, const Tree& tree) {
  if (tree.count > history_.size()) violate(2, at, "a snapshot of transactions that nobody applied");
  if (chain_at(tree.count) != tree.chain)
    violate(2, at, "a snapshot whose content nobody had: " + to_string(tree.zxid));
  if (tree.count > 0 && history_[tree.count - 1] != tree.zxid) {
    violate(2, at, "a snapshot labelled " + to_string(tree.zxid) + " holds " + to_string(history_[tree.count - 1]));
  }
}

bool Ghost::in_history(Zxid last, Zxid older) const {
  for (Zxid at = last; at >= older && at != Zxid{};) {
    if (at == older) return true;
    const auto placed = place_.find(at);
    if (placed != place_.end()) {  // from here on it is what was delivered
      const auto other = place_.find(older);
      return other != place_.end() && other->second <= placed->second;
    }
    const auto known = broadcast_.find(at);
    if (known == broadcast_.end()) return false;
    at = known->second.previous;
  }
  return older == Zxid{};
}

void Ghost::established(Sid leader, std::uint32_t epoch, Zxid last, Zxid cluster_applied) {
  static_cast<void>(cluster_applied);
  const auto [made, first] = established_.try_emplace(epoch, Establishment{leader, last});
  if (!first) {
    violate(8, leader, "epoch " + std::to_string(epoch) + " has server " + std::to_string(made->second.leader.value) +
                           " for a leader");
  }
  // A nominee that was stopped may find its quorum's acknowledgements when a later epoch has gone on without it.
  const auto end = std::lower_bound(history_.begin(), history_.end(), Zxid{epoch, 0});
  const Zxid before = end == history_.begin() ? Zxid{} : *std::prev(end);
  if (!in_history(last, before)) {
    violate(9, leader, "leads epoch " + std::to_string(epoch) + " from " + to_string(last) + " without " +
                           to_string(before) + ", which was delivered");
  }
  for (const Zxid zxid : answered_) {
    if (zxid.epoch() < epoch && !in_history(last, zxid))
      violate(11, leader, "leads without " + to_string(zxid) + ", which a client was told of");
  }
}

void Ghost::acknowledged_to_client(Zxid zxid) {
  if (!place_.contains(zxid)) answered_.insert(zxid);
}

void Ghost::truncated(Sid at, const std::vector<zab::LogEntry>& entries) {
  for (const zab::LogEntry& entry : entries) {
    if (place_.contains(entry.zxid)) violate(10, at, "truncates " + to_string(entry.zxid) + ", which was delivered");
  }
}

void Ghost::sent(Sid from, const zab::Message& message, const Image& disk) {
  if (const auto* ack = std::get_if<zab::Ack>(&message)) {
    if (!disk.holds(ack->up_to))
      violate(12, from, "acknowledges " + to_string(ack->up_to) + ", its disk ends at " + to_string(disk.last()));
  } else if (const auto* adopted = std::get_if<zab::AckNewLeader>(&message)) {
    if (disk.current_epoch != adopted->epoch) {
      violate(12, from, "acknowledges NEWLEADER of " + std::to_string(adopted->epoch) + " with current epoch " +
                            std::to_string(disk.current_epoch) + " on disk");
    }
  } else if (const auto* promise = std::get_if<zab::AckEpoch>(&message)) {
    if (promise->counts && disk.accepted_epoch < promise->epoch) violate(12, from, "promises without its disk");
    if (promise->current_epoch > disk.current_epoch) violate(12, from, "reports another epoch than its disk's");
    if (promise->log.last() != disk.last() && !disk.holds(promise->log.last())) {
      violate(
          12, from,
          "reports a log up to " + to_string(promise->log.last()) + ", the disk's ends at " + to_string(disk.last()));
    }
  } else if (const auto* minted = std::get_if<zab::LeaderInfo>(&message)) {
    if (disk.accepted_epoch < minted->epoch) violate(12, from, "announces an epoch that its disk does not know");
  }
}

void Ghost::order(Sid at, const zab::Peer& peer, const Tree& applied) {
  if (peer.accepted_epoch() < peer.current_epoch()) violate(13, at, "accepted epoch below the current one");
  if (peer.current_epoch() < peer.last_logged().epoch()) violate(13, at, "logged an epoch that it did not adopt");
  if (applied.zxid > peer.last_committed()) {
    violate(13, at, "applied " + to_string(applied.zxid) + ", committed " + to_string(peer.last_committed()));
  }
  if (peer.last_committed() > peer.last_logged()) violate(13, at, "committed beyond its log");
  if (peer.last_durable() > peer.last_logged()) violate(13, at, "durable beyond its log");
}

void Ghost::members(Sid at, const zab::Peer& peer, Zxid newest, Zxid& before) const {
  const zab::Membership& base = peer.membership();
  const zab::Membership* const pending = peer.pending_membership();
  const auto check_content = [&](const zab::Membership& one) {
    const auto list = lists_.find(one.version);
    if (list == lists_.end()) violate(22, at, "has members that nobody proposed: " + to_string(one.version));
    if (list->second.voters != one.voters || list->second.observers != one.observers) {
      violate(22, at, "has other members of " + to_string(one.version) + " than were proposed");
    }
  };
  if (base.version != Zxid{}) {
    check_content(base);
    if (!place_.contains(base.version)) {
      violate(22, at, "takes the members of " + to_string(base.version) + " to be committed, and nobody applied them");
    }
  }
  if (base.version < before) violate(22, at, "goes back to the members of " + to_string(base.version));
  before = base.version;
  if (pending != nullptr) {
    check_content(*pending);
    if (pending->version != newest || pending->version <= base.version) {
      violate(22, at, "waits for the members of " + to_string(pending->version) + ", the last in its log are of " +
                          to_string(newest));
    }
    if (pending->version <= peer.last_committed()) {
      violate(22, at, "waits for the members of " + to_string(pending->version) + ", which are committed");
    }
  } else if (base.version < newest) {
    violate(22, at, "has the members of " + to_string(base.version) + ", its log those of " + to_string(newest));
  }
  const bool leads = peer.role() == zab::Role::kLeading && peer.phase() == zab::Phase::kBroadcast;
  if (leads && !base.voters.contains(at) && (pending == nullptr || !pending->voters.contains(at))) {
    violate(22, at, "leads and is no voter");
  }
}

// Until a later leader was established without it.
bool Ghost::change_undecided() const {
  for (auto list = lists_.upper_bound(in_force_.version); list != lists_.end(); ++list) {
    const auto& [epoch, newest] = *established_.rbegin();
    if (epoch == list->first.epoch() || in_history(newest.base, list->first)) return true;
  }
  return false;
}

void Ghost::held_by_majority(const zab::Membership& members, const std::map<Sid, const Image*>& disks,
                             const std::set<Sid>& lost) const {
  std::size_t holders = 0;
  for (const Sid sid : members.voters) {
    const auto disk = disks.find(sid);
    const bool holds = disk != disks.end() && !disk->second->damaged && disk->second->holds(history_.back());
    if (holds || lost.contains(sid)) ++holders;
  }
  if (holders * 2 <= members.voters.size()) {
    violate(10, Sid{0}, to_string(history_.back()) + " was delivered, but only " + std::to_string(holders) + " of " +
                            std::to_string(members.voters.size()) + " voters of " + to_string(members.version) +
                            " have it on disk");
  }
}

void Ghost::durable(const std::map<Sid, const Image*>& disks, const std::set<Sid>& lost) {
  if (history_.empty()) return;
  held_by_majority(in_force_, disks, lost);
  if (in_force_.version == history_.back()) held_by_majority(previous_, disks, lost);
}

void Ghost::asked(Sid at, std::uint64_t number) { questions_[at][number] = last_delivered(); }

void Ghost::confirmed(Sid at, std::uint64_t number, Zxid committed) {
  auto& mine = questions_[at];
  const auto question = mine.find(number);
  if (question == mine.end()) violate(23, at, "answers a question nobody asked");
  if (committed < question->second) {
    violate(21, at,
            "confirms its leadership with " + to_string(committed) + ", committed was " + to_string(question->second));
  }
  mine.erase(question);
}

}  // namespace coord::sim
