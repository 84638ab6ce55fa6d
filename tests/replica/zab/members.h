// Transactions that change the members, as these tests and the simulator spell them:
// "members:1,2,3;o:4;join:4=directory4,5=directory5" (voters; observers; data directories that it enrolls).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>

#include "replica/zab/quorum.h"

namespace coord::zab::testing {

inline std::set<Sid> sids(const std::set<std::uint32_t>& numbers) {
  std::set<Sid> result;
  for (const std::uint32_t number : numbers) result.insert(Sid{number});
  return result;
}

inline std::string members_text(const Membership& membership) {
  std::string text;
  const auto list = [&](const char* name, const std::set<Sid>& set) {
    text += name;
    for (const Sid sid : set) text += (text.back() == ':' ? "" : ",") + std::to_string(sid.value);
  };
  list("members:", membership.voters);
  list(";o:", membership.observers);
  text += ";join:";
  for (const auto& [sid, directory] : membership.joins) {
    text += (text.back() == ':' ? "" : ",") + std::to_string(sid.value) + "=" + directory;
  }
  return text;
}

// nullopt: it is another kind of transaction. The version is left 0.
inline std::optional<Membership> members_of(const std::string& payload) {
  if (!payload.starts_with("members:")) return std::nullopt;
  Membership membership;
  std::istringstream parts(payload);
  std::string part, item;
  while (std::getline(parts, part, ';')) {
    const auto colon = part.find(':');
    const std::string kind = part.substr(0, colon);
    std::istringstream items(part.substr(colon + 1));
    while (std::getline(items, item, ',')) {
      const Sid sid{static_cast<std::uint32_t>(std::stoul(item))};
      if (kind == "members") membership.voters.insert(sid);
      if (kind == "o") membership.observers.insert(sid);
      if (kind == "join") membership.joins[sid] = item.substr(item.find('=') + 1);
    }
  }
  return membership;
}

// "enrol 1=directory1 2=directory2"; nullopt: it is another kind of transaction.
inline std::optional<std::map<Sid, std::string>> enrolment_of(const std::string& payload) {
  if (!payload.starts_with("enrol")) return std::nullopt;
  std::map<Sid, std::string> directories;
  std::istringstream items(payload.substr(5));
  std::string item;
  while (items >> item) {
    const auto at = item.find('=');
    directories[Sid{static_cast<std::uint32_t>(std::stoul(item))}] = item.substr(at + 1);
  }
  return directories;
}

}  // namespace coord::zab::testing
