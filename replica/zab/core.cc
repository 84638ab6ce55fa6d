#include "replica/zab/core.h"

#include <algorithm>

#include "common/base/check.h"
#include "replica/zab/mutation.h"

namespace coord::zab {

namespace {

// Of an entry besides its payload, in memory and on the wire, about.
constexpr std::size_t kEntryOverhead = 64;
// Assumed of entries that this process has not seen.
constexpr std::size_t kUnseenEntryBytes = 512;
constexpr std::size_t kAlarmsKept = 256;

Zxid start_committed(const DurableState& state) { return std::max(state.commit_hint, state.log.floor); }

}  // namespace

std::size_t bytes_of(const LogEntry& entry) { return entry.payload->size() + kEntryOverhead; }

Core::Core(Config configuration, DurableState durable_state)
    : config(std::move(configuration)),
      start_state(std::move(durable_state)),
      accepted_epoch(start_state.accepted_epoch),
      accepted_from(start_state.accepted_from),
      current_epoch(start_state.current_epoch),
      log(start_state.log),
      durable(log.last()),
      committed(start_committed(start_state)),
      delivered(committed),
      cluster_id(start_state.cluster_id),
      secret(start_state.secret),
      damaged(start_state.damaged),
      enrolled(start_state.enrolled),
      epoch(current_epoch),
      random_(config.seed * 0x9e3779b97f4a7c15ULL + config.self.value) {
  COORD_CHECK_MSG(config.counter_max >= 1, "an epoch needs room for one transaction");
  COORD_CHECK_MSG(config.counter_max < 0xffffffff, "the last counter of an epoch is never proposed");
  COORD_CHECK_MSG(well_formed(log), "the log's shape contradicts itself");
  COORD_CHECK_MSG(accepted_epoch >= current_epoch, "an epoch was adopted that was never promised");
  COORD_CHECK_MSG(current_epoch >= log.last().epoch(), "the log holds an epoch that was never adopted");
  COORD_CHECK_MSG(committed <= log.last(), "the log lacks what was committed");
  base_.voters = config.voters.voters();
  base_.observers = config.observers;
  if (config.observer) {
    base_.voters.erase(config.self);
    base_.observers.insert(config.self);
  }
  logged_enrolments_.assign(start_state.enrolments.begin(), start_state.enrolments.end());
  for (const Membership& membership : start_state.memberships) {
    if (COORD_MUTANT(kPendingForgottenAtRestart) && membership.version > committed) break;
    note_membership(membership);
  }
  rebuild_voters();
  settle_membership();
  members_changed = false;
}

// --- members

void Core::rebuild_voters() {
  voters = pending_ ? Quorum(base_.voters, pending_->voters) : Quorum(base_.voters);
  members_changed = true;
}

// Of an entry of the log. That there is another one behind it proves that the one before is committed.
void Core::note_membership(Membership membership) {
  if (membership.version <= base_.version) return;
  if (pending_) promote();
  pending_ = std::move(membership);
  rebuild_voters();
}

// Joins stay known until the tree has them, which may be several changes behind the log.
void Core::promote() {
  for (const auto& [sid, directory] : base_.joins) {
    if (pending_->is_member(sid)) pending_->joins.emplace(sid, directory);
  }
  base_ = std::move(*pending_);
  pending_.reset();
}

void Core::settle_membership() {
  if (!pending_ || pending_->version > committed) return;
  promote();
  rebuild_voters();
}

void Core::install_membership(const Membership& membership) {
  if (COORD_MUTANT(kSnapshotWithoutMembership)) return;
  if (membership.version != Zxid{}) base_ = membership;
  pending_.reset();
  rebuild_voters();
}

void Core::membership_committed(Zxid version) {
  if (!pending_ || pending_->version != version) return;
  promote();
  rebuild_voters();
}

void Core::emit(Action action) { out_->push_back(std::move(action)); }

void Core::send(LinkId link, Message message) { emit(Send{link, std::move(message)}); }

void Core::close(LinkId link, const std::string& reason) {
  const auto it = links.find(link);
  if (it == links.end()) return;
  if (it->second.channel == Channel::kElection) election_links.erase(it->second.peer);
  links.erase(it);
  emit(CloseLink{link, reason});
}

void Core::alarm(const std::string& text) {
  if (alarms_.size() < kAlarmsKept && alarms_.insert(text).second) emit(Alarm{text});
}

void Core::alarm_over(const std::string& text) {
  if (alarms_.erase(text) != 0) emit(Alarm{text, true});
}

void Core::set_phase(Role new_role, Phase new_phase, Sid new_leader) {
  role = new_role;
  phase = new_phase;
  leader = new_leader;
  emit(PhaseChanged{role, phase, epoch, leader});
}

std::uint64_t Core::persist(Persist persist, Zxid installs) {
  persist.id = next_persist_id_++;
  const bool changes_log = persist.install_snapshot || persist.truncate_after || !persist.append.empty();
  if (persist.install_snapshot) {
    log = LogShape{installs, {}};
    logged_enrolments_.clear();
  }
  if (persist.truncate_after) {
    COORD_CHECK_MSG(*persist.truncate_after >= committed, "what is committed is never cut");
    log.truncate_after(*persist.truncate_after);
    durable = std::min(durable, log.last());
    while (!logged_enrolments_.empty() && logged_enrolments_.back().first > log.last()) logged_enrolments_.pop_back();
    if (pending_ && pending_->version > log.last() && !COORD_MUTANT(kMembershipNotCutWithLog)) {
      pending_.reset();
      rebuild_voters();
    }
  }
  for (const LogEntry& entry : persist.append) {
    COORD_CHECK(entry.previous == log.last());
    log.append(entry.zxid);
    ++seen_entries_;
    seen_bytes_ += bytes_of(entry);
    if (config.enrolment_of) {
      if (auto enrolment = config.enrolment_of(*entry.payload)) {
        logged_enrolments_.emplace_back(entry.zxid, *std::move(enrolment));
        members_changed = true;
      }
    }
    if (!config.membership_of) continue;
    if (auto membership = config.membership_of(*entry.payload)) {
      membership->version = entry.zxid;
      note_membership(*std::move(membership));
    }
  }
  durable = std::min(durable, log.last());
  in_flight_.push_back({persist.id, changes_log ? std::optional<Zxid>(log.last()) : std::nullopt,
                        persist.install_snapshot ? std::optional<Zxid>(installs) : std::nullopt, persist.repaired});
  const std::uint64_t id = persist.id;
  emit(std::move(persist));
  return id;
}

void Core::persisted(std::uint64_t id) {
  COORD_CHECK_MSG(id < next_persist_id_, "durable before it was handed out");
  while (!in_flight_.empty() && in_flight_.front().id <= id) {
    const InFlight done = in_flight_.front();
    in_flight_.pop_front();
    if (done.log_end) durable = *done.log_end;
    if (done.repairs) damaged = false;
    if (!done.installs) continue;
    // Whatever became of the role that asked for it: the state on disk is this one now.
    committed = std::max(committed, *done.installs);
    settle_membership();
    delivered = *done.installs;
    emit(Reload{*done.installs});
  }
}

void Core::deliver(Zxid up_to, bool again) {
  COORD_CHECK_MSG(up_to <= log.last(), "committed beyond the log");
  committed = std::max(committed, up_to);
  settle_membership();
  if (committed == Zxid{} || (committed <= delivered && !again)) return;
  delivered = committed;
  emit(Deliver{committed});
}

std::size_t Core::average_entry_bytes() const {
  return seen_entries_ == 0 ? kUnseenEntryBytes : static_cast<std::size_t>(seen_bytes_ / seen_entries_);
}

bool Core::enrolled_as(Sid sid, const std::string& directory_id) const {
  if (enrolled.empty() || COORD_MUTANT(kUnenrolledCounted)) return true;
  const std::string* directory = enrolled_directory(sid);
  return directory != nullptr && *directory == directory_id;
}

bool Core::enrolled_otherwise(Sid sid, const std::string& directory_id) const {
  if (enrolled.empty()) return false;
  const std::string* directory = enrolled_directory(sid);
  return directory != nullptr && *directory != directory_id;
}

const std::string* Core::enrolled_directory(Sid sid) const {
  // Enrolled by the change of the members itself, which counts before it is committed.
  for (const Membership* membership : {pending_ ? &*pending_ : nullptr, &base_}) {
    if (membership == nullptr) continue;
    if (const auto join = membership->joins.find(sid); join != membership->joins.end()) {
      return &join->second;
    }
  }
  if (const auto it = enrolled.find(sid); it != enrolled.end()) return &it->second;
  for (const auto& [zxid, directories] : logged_enrolments_) {
    if (const auto it = directories.find(sid); it != directories.end()) return &it->second;
  }
  return nullptr;
}

void Core::forget_enrolments() {
  const auto applied = [this](const auto& logged) {
    return std::all_of(logged.second.begin(), logged.second.end(),
                       [this](const auto& one) { return enrolled.contains(one.first); });
  };
  while (!logged_enrolments_.empty() && applied(logged_enrolments_.front())) logged_enrolments_.pop_front();
}

bool Core::self_counts() const {
  return is_voter() && (!damaged || COORD_MUTANT(kDamagedCounted)) &&
         enrolled_as(config.self, start_state.directory_id);
}

std::int64_t Core::jittered(std::int64_t span) {
  // splitmix64
  random_ += 0x9e3779b97f4a7c15ULL;
  std::uint64_t z = random_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  z ^= z >> 31;
  const std::int64_t quarter = std::max<std::int64_t>(span / 4, 1);
  return span - quarter + static_cast<std::int64_t>(z % static_cast<std::uint64_t>(2 * quarter + 1));
}

}  // namespace coord::zab
