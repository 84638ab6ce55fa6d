#include "replica/runtime/session_owner.h"

#include <algorithm>

namespace coord::runtime {

void SessionOwners::begin(const std::vector<tree::SessionInfo>& sessions, std::int64_t now_ms) {
  end();
  for (const tree::SessionInfo& info : sessions) {
    sessions_[info.id] = Session{info.timeout_ms, Sid(), 0};
    tracker_.touch(info.id, info.timeout_ms, now_ms);
  }
}

// Generations go on counting: nothing of an older office may look like one of this.
void SessionOwners::end() {
  tracker_.clear();
  sessions_.clear();
  learners_.clear();
  due_.clear();
  confirmed_ms_ = -1;
}

void SessionOwners::learner_up(Sid sid) { learners_[sid] = Learner{}; }

void SessionOwners::learner_down(Sid sid, std::int64_t now_ms) {
  if (learners_.erase(sid) == 0) return;
  for (auto& [id, session] : sessions_) {
    if (session.owner != sid) continue;
    session.owner = Sid();
    touch(id, session, now_ms + options_.sync_limit_ms);
  }
}

void SessionOwners::confirmed(std::int64_t asked_ms) { confirmed_ms_ = std::max(confirmed_ms_, asked_ms); }

void SessionOwners::stalled(std::int64_t by_ms, std::int64_t now_ms) {
  tracker_.extend_all(by_ms);
  for (const auto& [id, since] : std::exchange(due_, {})) {
    const auto at = sessions_.find(id);
    if (at != sessions_.end()) tracker_.touch(id, at->second.timeout_ms, now_ms - at->second.timeout_ms + by_ms);
  }
}

// What was heard before the deadline that is behind us changes nothing.
void SessionOwners::touch(SessionId id, const Session& session, std::int64_t heard_ms) {
  const auto due = due_.find(id);
  if (due != due_.end()) {
    if (heard_ms + session.timeout_ms <= due->second) return;
    due_.erase(due);
  }
  tracker_.touch(id, session.timeout_ms, heard_ms);
}

void SessionOwners::created(SessionId session, std::int32_t timeout_ms, Sid owner, std::int64_t now_ms) {
  if (owner != options_.self && !learners_.contains(owner)) owner = Sid();
  sessions_[session] = Session{timeout_ms, owner, kFirstGeneration};
  tracker_.touch(session, timeout_ms, now_ms);
}

void SessionOwners::removed(SessionId session) {
  sessions_.erase(session);
  due_.erase(session);
  tracker_.remove(session);
}

std::optional<SessionOwners::Move> SessionOwners::attach(SessionId session, std::int32_t timeout_ms, Sid owner,
                                                         std::int64_t now_ms) {
  const auto at = sessions_.find(session);
  if (at == sessions_.end()) return std::nullopt;
  const Move move{next_generation_++, at->second.owner};
  if (owner != options_.self && !learners_.contains(owner)) owner = Sid();
  at->second = Session{timeout_ms, owner, move.generation};
  due_.erase(session);
  tracker_.touch(session, timeout_ms, now_ms);
  return move;
}

std::optional<SessionOwners::Move> SessionOwners::revoke(SessionId session) {
  const auto at = sessions_.find(session);
  if (at == sessions_.end()) return std::nullopt;
  const Move move{next_generation_++, at->second.owner};
  at->second.owner = Sid();
  at->second.generation = move.generation;
  return move;
}

void SessionOwners::released(SessionId session, Sid owner, std::uint64_t generation, std::int64_t heard_ms) {
  if (!current(session, owner, generation)) return;
  Session& found = sessions_[session];
  found.owner = Sid();
  touch(session, found, heard_ms);
}

void SessionOwners::heard(SessionId session, std::int64_t now_ms) {
  const auto at = sessions_.find(session);
  if (at != sessions_.end()) touch(session, at->second, now_ms);
}

bool SessionOwners::current(SessionId session, Sid from, std::uint64_t generation) const {
  const auto at = sessions_.find(session);
  return at != sessions_.end() && at->second.owner == from && at->second.generation == generation;
}

std::uint64_t SessionOwners::generation(SessionId session) const {
  const auto at = sessions_.find(session);
  return at == sessions_.end() ? 0 : at->second.generation;
}

void SessionOwners::table(Sid from, const forward::Touched& touched, std::int64_t now_ms) {
  for (const forward::Touch& entry : touched.touches) {
    if (!current(entry.session, from, entry.generation)) continue;
    Session& session = sessions_[entry.session];
    touch(entry.session, session, now_ms - std::min(entry.age_ms, now_ms));
    if (!entry.connected) session.owner = Sid();
  }
  const auto learner = learners_.find(from);
  if (learner == learners_.end()) return;
  Learner& l = learner->second;
  if (touched.answers == l.asked && l.answered < l.asked) {
    l.answered = l.asked;
    l.answered_ms = l.asked_ms;
  }
}

bool SessionOwners::proven(SessionId id, Session& session, std::int64_t due_ms, std::int64_t now_ms,
                           const Heard& heard_here, Due& out) {
  bool proof = true;
  if (session.owner == options_.self) {
    const auto heard = heard_here(id);
    if (heard && *heard + session.timeout_ms > now_ms) {
      touch(id, session, *heard);
      return false;
    }
  } else if (const auto at = learners_.find(session.owner); at != learners_.end()) {
    Learner& learner = at->second;
    if (learner.answered_ms < due_ms) {
      proof = false;
      if (learner.answered == learner.asked) {  // none is on its way
        out.ask.emplace_back(at->first, ++learner.asked);
        learner.asked_ms = now_ms;
      }
    }
  }
  if (!options_.alone && confirmed_ms_ < due_ms) {
    out.confirm = true;
    proof = false;
  }
  return proof;
}

SessionOwners::Due SessionOwners::due(std::int64_t now_ms, const Heard& heard_here) {
  Due out;
  for (const SessionId id : tracker_.expired(now_ms)) due_.try_emplace(id, now_ms);
  std::vector<SessionId> ids;
  ids.reserve(due_.size());
  for (const auto& [id, since] : due_) ids.push_back(id);
  for (const SessionId id : ids) {
    const auto session = sessions_.find(id);
    if (session == sessions_.end()) {
      due_.erase(id);
      continue;
    }
    if (!proven(id, session->second, due_[id], now_ms, heard_here, out)) continue;
    due_.erase(id);
    out.expired.push_back(id);
  }
  return out;
}

}  // namespace coord::runtime
