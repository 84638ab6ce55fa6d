#include "replica/zab/peer.h"

#include <utility>

#include "common/base/check.h"

namespace coord::zab {

namespace {

// Nothing mints two thousand million epochs: a number this high is damage (zab.md section 1.3).
constexpr std::uint32_t kEpochMax = 1U << 31;

template <class... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};

}  // namespace

Peer::Peer(Config config, DurableState durable)
    : config_(std::move(config)),
      accepted_epoch_(durable.accepted_epoch),
      current_epoch_(durable.current_epoch),
      last_logged_(durable.last_logged),
      last_durable_(durable.last_logged),
      last_committed_(durable.commit_hint) {
  COORD_CHECK_MSG(config_.counter_max >= 1, "an epoch needs room for one transaction");
  COORD_CHECK_MSG(config_.counter_max < 0xffffffff, "the last counter of an epoch is never proposed");
  COORD_CHECK_MSG(accepted_epoch_ >= current_epoch_, "an epoch was adopted that was never promised");
  COORD_CHECK_MSG(current_epoch_ >= last_logged_.epoch(), "the log holds an epoch that was never adopted");
  COORD_CHECK_MSG(last_committed_ <= last_logged_, "the log lacks what was committed");
}

void Peer::step(const Event& event, Actions& out) {
  std::visit(Overloaded{[&](const Start&) {
                          COORD_CHECK_MSG(!started_, "Start comes once");
                          started_ = true;
                          start_election(out);
                        },
                        [&](const Propose& proposal) { propose(proposal, out); },
                        [&](const Persisted& done) { persisted(done.id, out); },
                        // Timers belong to messages: a quorum of one waits for nobody.
                        [](const Tick&) {}},
             event);
}

std::uint32_t Peer::epoch() const { return phase_ == Phase::kDiscovery ? accepted_epoch_ : current_epoch_; }

bool Peer::epoch_is_full() const {
  return last_logged_.epoch() == current_epoch_ && last_logged_.counter() >= config_.counter_max;
}

Zxid Peer::next_zxid() const {
  COORD_CHECK(accepts_proposals());
  return last_logged_.epoch() == current_epoch_ ? Zxid{current_epoch_, last_logged_.counter() + 1}
                                                : Zxid{current_epoch_, 1};
}

// With other voters this waits for their notifications; alone, the vote for itself is the vote of a quorum.
void Peer::start_election(Actions& out) {
  set_phase(Role::kLooking, Phase::kElection, out);
  if (config_.voters.is_quorum({config_.self})) start_discovery(out);
}

void Peer::start_discovery(Actions& out) {
  COORD_CHECK_MSG(in_flight_.empty(), "discovery starts from a settled log");
  COORD_CHECK_MSG(accepted_epoch_ < kEpochMax, "refusing to lead: the epoch is absurdly high, the data is damaged");
  ++accepted_epoch_;
  set_phase(Role::kLeading, Phase::kDiscovery, out);
  Persist promise;
  promise.id = next_persist_id_++;
  promise.accepted_epoch = accepted_epoch_;
  in_flight_.push_back({promise.id, Zxid{}, true, false});
  out.emplace_back(std::move(promise));
}

void Peer::start_synchronization(Actions& out) {
  COORD_CHECK(phase_ == Phase::kDiscovery);
  current_epoch_ = accepted_epoch_;
  set_phase(Role::kLeading, Phase::kSynchronization, out);
  Persist adopt;
  adopt.id = next_persist_id_++;
  adopt.current_epoch = current_epoch_;
  in_flight_.push_back({adopt.id, Zxid{}, false, true});
  out.emplace_back(std::move(adopt));
}

void Peer::establish(Actions& out) {
  COORD_CHECK(phase_ == Phase::kSynchronization);
  COORD_CHECK(last_durable_ == last_logged_);
  acks_.clear();
  last_committed_ = last_logged_;
  set_phase(Role::kLeading, Phase::kBroadcast, out);
  if (last_committed_ != Zxid{}) out.emplace_back(Commit{last_committed_});
}

void Peer::propose(const Propose& proposal, Actions& out) {
  COORD_CHECK_MSG(accepts_proposals(), "proposals are taken in broadcast only, and not by a full epoch");
  COORD_CHECK_MSG(proposal.zxid == next_zxid(), "proposals come in order, without gaps");
  COORD_CHECK(proposal.payload != nullptr);
  Persist append;
  append.id = next_persist_id_++;
  append.append.push_back({proposal.zxid, last_logged_, proposal.payload});
  last_logged_ = proposal.zxid;
  in_flight_.push_back({append.id, proposal.zxid, false, false});
  out.emplace_back(std::move(append));
}

void Peer::persisted(std::uint64_t id, Actions& out) {
  COORD_CHECK_MSG(id < next_persist_id_, "durable before it was handed out");
  bool promised = false;
  bool adopted = false;
  while (!in_flight_.empty() && in_flight_.front().id <= id) {
    const InFlight done = in_flight_.front();
    in_flight_.pop_front();
    if (done.log_end != Zxid{}) last_durable_ = done.log_end;
    promised = promised || done.promises_epoch;
    adopted = adopted || done.adopts_epoch;
  }
  COORD_CHECK_MSG(!(promised && adopted), "adopting waits for the promise");
  if (promised) return start_synchronization(out);
  if (adopted) return establish(out);
  if (phase_ == Phase::kBroadcast) advance_commit(out);
}

void Peer::advance_commit(Actions& out) {
  // Only acknowledgements of this epoch count: what came before was settled by the NEWLEADER quorum (section 3.4).
  if (last_durable_.epoch() == current_epoch_) acks_.acknowledge(config_.self, last_durable_);
  const Zxid committed = acks_.committed(config_.voters);
  if (committed > last_committed_) {
    COORD_CHECK(committed.epoch() == current_epoch_);
    COORD_CHECK(committed <= last_logged_);
    last_committed_ = committed;
    out.emplace_back(Commit{last_committed_});
  }
  // The counter ran out and all of it is settled: on to the next epoch.
  if (epoch_is_full() && last_committed_ == last_logged_ && in_flight_.empty()) start_election(out);
}

void Peer::set_phase(Role role, Phase phase, Actions& out) {
  role_ = role;
  phase_ = phase;
  out.emplace_back(PhaseChanged{role, phase, epoch()});
}

}  // namespace coord::zab
