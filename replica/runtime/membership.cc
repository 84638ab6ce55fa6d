#include "replica/runtime/membership.h"

#include <fmt/format.h>

#include "replica/tree/txn.h"

namespace coord::runtime {

std::optional<zab::Membership> membership_of(const std::string& payload) {
  auto txn = tree::reconfig_of(payload);
  if (!txn) return std::nullopt;
  zab::Membership result = membership(txn->members, Zxid{});
  result.joins = std::move(txn->directories);
  return result;
}

std::optional<std::map<Sid, std::string>> enrolment_of(const std::string& payload) {
  auto txn = tree::enrolment_of(payload);
  return txn ? std::optional(std::move(txn->directories)) : std::nullopt;
}

zab::Membership membership(const std::vector<Member>& members, Zxid version) {
  zab::Membership result;
  result.version = version;
  for (const Member& member : members) (member.observer ? result.observers : result.voters).insert(member.sid);
  return result;
}

std::map<Sid, peers::PeerAddress> addresses(const std::vector<Member>& members) {
  std::map<Sid, peers::PeerAddress> result;
  for (const Member& member : members) {
    result[member.sid] = peers::PeerAddress{member.host, member.port, member.observer};
  }
  return result;
}

std::string lines_of(const std::vector<Member>& members) {
  std::string lines;
  for (const Member& member : members) {
    if (!lines.empty()) lines += '\n';
    lines += to_text(member);
  }
  return lines;
}

std::string difference(const std::vector<Member>& file, const std::vector<Member>& replicated) {
  std::map<Sid, const Member*> left;
  for (const Member& member : file) left[member.sid] = &member;
  std::string text;
  const auto add = [&text](Sid sid, const std::string& what) {
    text += fmt::format("{}server.{} {}", text.empty() ? "" : ", ", sid.value, what);
  };
  for (const Member& member : replicated) {
    const auto at = left.find(member.sid);
    if (at == left.end()) {
      add(member.sid, "is not in the file");
      continue;
    }
    if (at->second->observer != member.observer) add(member.sid, "has another role there");
    if (at->second->host != member.host || at->second->port != member.port)
      add(member.sid, "has another address there");
    left.erase(at);
  }
  for (const auto& [sid, member] : left) add(sid, "is only in the file");
  return text;
}

}  // namespace coord::runtime
