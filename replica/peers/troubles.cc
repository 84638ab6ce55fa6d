#include "replica/peers/troubles.h"

#include <algorithm>

namespace coord::peers {

namespace {
constexpr std::int64_t kOtherTextMs = 1'000;  // a stranger may send another text each time
}  // namespace

Troubles::Noted Troubles::note(Sid sid, int cause, const std::string& text, std::int64_t now_ms) {
  const auto [at, fresh] = all_.try_emplace({sid, cause});
  Trouble& trouble = at->second;
  Noted out;
  out.changed = !trouble.present || trouble.text != text;
  const std::int64_t logged = now_ms - trouble.logged_ms;
  out.log = fresh || logged >= log_again_ms_ || (trouble.text != text && logged >= kOtherTextMs);
  trouble.text = text;
  trouble.present = true;
  trouble.seen_ms = now_ms;
  if (out.log) trouble.logged_ms = now_ms;
  return out;
}

bool Troubles::present(Sid sid, int cause) const {
  const auto at = all_.find({sid, cause});
  return at != all_.end() && at->second.present;
}

bool Troubles::clear(Sid sid, int cause) {
  const auto at = all_.find({sid, cause});
  if (at == all_.end() || !at->second.present) return false;
  at->second.present = false;
  return true;
}

std::vector<Sid> Troubles::expire(std::int64_t now_ms) {
  std::vector<Sid> changed;
  for (auto& [key, trouble] : all_) {
    if (!trouble.present || now_ms - trouble.seen_ms < lasts_ms_) continue;
    trouble.present = false;
    if (changed.empty() || changed.back() != key.first) changed.push_back(key.first);
  }
  std::erase_if(all_, [&](const auto& entry) {
    return !entry.second.present && now_ms - entry.second.logged_ms >= std::max(log_again_ms_, lasts_ms_);
  });
  return changed;
}

std::string Troubles::text(Sid sid) const {
  std::string out;
  for (auto at = all_.lower_bound({sid, 0}); at != all_.end() && at->first.first == sid; ++at) {
    if (!at->second.present) continue;
    if (!out.empty()) out += "; ";
    out += at->second.text;
  }
  return out;
}

}  // namespace coord::peers
