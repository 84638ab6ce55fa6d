// reconfig and the feature level: what the leader lets become a change of the ensemble. The order of the tests of a
// reconfig is client-protocol.md section 15, row by row.
#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "common/base/number.h"
#include "replica/tree/prepare_step.h"

namespace coord::tree {
namespace {

using Text = std::string_view;
using Members = std::vector<Member>;

struct ReconfigBody {
  std::optional<Text> joining, leaving, whole;
  std::int64_t from_version = -1;
};

// The items between any of `separators`, without blanks around them; empty ones do not count.
std::vector<Text> items_of(Text list, Text separators) {
  constexpr Text kBlank = " \t\r\n";
  std::vector<Text> items;
  while (!list.empty()) {
    const auto end = std::min(list.find_first_of(separators), list.size());
    Text item = list.substr(0, end);
    list.remove_prefix(std::min(end + 1, list.size()));
    item.remove_prefix(std::min(item.find_first_not_of(kBlank), item.size()));
    item = item.substr(0, item.find_last_not_of(kBlank) + 1);
    if (!item.empty()) items.push_back(item);
  }
  return items;
}

const Member* find(const Members& members, Sid sid) {
  const auto at = std::find_if(members.begin(), members.end(), [sid](const Member& m) { return m.sid == sid; });
  return at == members.end() ? nullptr : &*at;
}

void remove(Members& members, Sid sid) {
  std::erase_if(members, [sid](const Member& m) { return m.sid == sid; });
}

void put(Members& members, Member member) {
  remove(members, member.sid);
  const auto at = std::find_if(members.begin(), members.end(), [&](const Member& m) { return m.sid > member.sid; });
  members.insert(at, std::move(member));
}

std::size_t voters_of(const Members& members) {
  return static_cast<std::size_t>(
      std::count_if(members.begin(), members.end(), [](const Member& m) { return !m.observer; }));
}

// kBadArguments: something in the list is no server, or one is there twice. `whole`: it may look like
// /zookeeper/config. `needs_client`: must the part for clients of the server with this id be there?
template <class NeedsClient>
Err parse_list(Text list, bool whole, const NeedsClient& needs_client, Members& out) {
  for (const Text item : items_of(list, whole ? ",\n" : ",")) {
    if (whole && item.starts_with("version=")) continue;
    auto member = parse_member(item, {.election_port = true});
    if (!member || find(out, member->sid) != nullptr) return Err::kBadArguments;
    if (member->client.empty() && needs_client(member->sid)) return Err::kBadArguments;
    put(out, *std::move(member));
  }
  return Err::kOk;
}

Err leave(Text list, Members& members) {
  for (const Text item : items_of(list, ",")) {
    const auto number = parse_number<std::int64_t>(item);
    if (!number) return Err::kMarshallingError;
    if (*number > 0 && *number <= 254) remove(members, Sid(static_cast<std::uint32_t>(*number)));
  }
  return Err::kOk;
}

// What the request makes of the list, as far as it can be read.
Err next_members(const Members& present, const ReconfigBody& body, Members& next) {
  Members said;
  if (body.whole) {
    const auto is_new = [&](Sid sid) { return find(present, sid) == nullptr; };
    if (const Err err = parse_list(*body.whole, true, is_new, said); err != Err::kOk) return err;
  } else {
    next = present;
    if (const Err err = leave(body.leaving.value_or(Text()), next); err != Err::kOk) return err;
    const auto always = [](Sid) { return true; };
    if (const Err err = parse_list(body.joining.value_or(Text()), false, always, said); err != Err::kOk) return err;
  }
  for (Member& member : said) {
    if (member.client.empty()) member.client = find(present, member.sid)->client;
    put(next, std::move(member));
  }
  return Err::kOk;
}

// --- addresses

using Address = std::pair<Text, std::uint32_t>;

bool same_address(const Member& a, const Member& b) { return a.host == b.host && a.port == b.port; }

// Addresses that mean another server to each server: the same one twice says nothing.
bool is_local(Text host) {
  return host == "0.0.0.0" || host == "::" || host == "::1" || host == "localhost" || host.starts_with("127.");
}

std::array<Address, 3> addresses_of(const Member& member) {
  std::array<Address, 3> out{Address{member.host, member.port}, Address{member.host, member.election_port}, {}};
  const Text client = member.client;
  const auto colon = client.rfind(':');
  if (colon == Text::npos) return out;
  Text host = client.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  out[2] = {host, parse_number<std::uint32_t>(client.substr(colon + 1)).value_or(0)};
  return out;
}

bool clash(const Member& a, const Member& b) {
  if (same_address(a, b)) return true;  // whatever it is, nobody could tell them apart
  for (const Address& one : addresses_of(a)) {
    if (one.first.empty() || is_local(one.first)) continue;
    for (const Address& other : addresses_of(b)) {
      if (one == other) return true;
    }
  }
  return false;
}

// Does a server that is new, or described anew, have an address of another one?
bool clashes(const Members& present, const Members& next) {
  for (const Member& member : next) {
    const Member* was = find(present, member.sid);
    if (was != nullptr && *was == member) continue;
    for (const Member& other : next) {
      if (other.sid != member.sid && clash(member, other)) return true;
    }
  }
  return false;
}

// At most one server added, removed or with another role, and none that moved?
bool is_one_step(const Members& present, const Members& next) {
  int changes = 0;
  for (const Member& was : present) changes += find(next, was.sid) == nullptr ? 1 : 0;
  for (const Member& member : next) {
    const Member* was = find(present, member.sid);
    if (was != nullptr && !same_address(*was, member)) return false;
    changes += was == nullptr || was->observer != member.observer ? 1 : 0;
  }
  return changes <= 1;
}

}  // namespace

Err Step::reconfig() {
  wire::Reader reader(request_.body);
  ReconfigBody body;
  body.joining = reader.buffer();
  body.leaving = reader.buffer();
  body.whole = reader.buffer();
  body.from_version = reader.i64();
  if (reader.failed()) return Err::kMarshallingError;
  if (!is_internal()) {
    if (!electorate_.reconfig_enabled && !is_root()) return Err::kReconfigDisabled;
    if (const Err err = check_session(); err != Err::kOk) return err;
  }
  if (electorate_.alone || overlay_.feature_level() < kFeatureLevelReconfig) return Err::kUnimplemented;
  if (is_internal()) return first_members(body.whole.value_or(Text()));

  // No list yet: this leader is about to write down the first.
  const Members& present = overlay_.members();
  if (electorate_.pending || overlay_.reconfig_outstanding() || present.empty()) return Err::kReconfigInProgress;
  if (body.from_version != -1 && body.from_version != tree_.members_version().wire()) return Err::kBadVersion;
  ReconfigTxn change;
  if (const Err err = next_members(present, body, change.members); err != Err::kOk) return err;
  if (clashes(present, change.members) || !is_one_step(present, change.members)) return Err::kBadArguments;
  if (voters_of(change.members) < 2) return Err::kBadArguments;
  change.directories = joining_directories(change.members);
  if (!synced_majority(change)) return Err::kNewConfigNoQuorum;
  if (!is_root() && !may(overlay_.node(kConfigNode), perm::kWrite)) return Err::kNoAuth;
  if (change.members == present) {
    txn_.changes.emplace_back(ErrorTxn{Err::kOk});
    return Err::kOk;
  }
  overlay_.reconfig(change);
  txn_.changes.emplace_back(std::move(change));
  return Err::kOk;
}

// The list of the files, written down by the leader. Who is a voter does not change with it, hence nobody is enrolled.
Err Step::first_members(std::string_view list) {
  if (!overlay_.members().empty()) return Err::kNodeExists;
  if (electorate_.pending) return Err::kReconfigInProgress;
  ReconfigTxn change;
  const auto never = [](Sid) { return false; };
  if (const Err err = parse_list(list, true, never, change.members); err != Err::kOk) return err;
  if (voters_of(change.members) < 1) return Err::kBadArguments;
  overlay_.reconfig(change);
  txn_.changes.emplace_back(std::move(change));
  return Err::kOk;
}

// The data directories of servers that are added or begin to vote, as far as they are here. Nobody's while nobody is
// enrolled, for the first enrolment ends the time in which everybody counts (replica/README.md).
std::map<Sid, std::string> Step::joining_directories(const std::vector<Member>& next) const {
  std::map<Sid, std::string> directories;
  if (overlay_.enrolled().empty()) return directories;
  for (const Member& member : next) {
    const Member* was = find(overlay_.members(), member.sid);
    const bool joins = was == nullptr || (was->observer && !member.observer);
    const auto here = electorate_.synced.find(member.sid);
    if (joins && here != electorate_.synced.end()) directories.insert(*here);
  }
  return directories;
}

// Would the new voters that are here and synchronized be enough to commit, counted as they will be from this change on?
// And is one that begins to vote among them? With a voter that is not there the ensemble would bear less than before.
bool Step::synced_majority(const ReconfigTxn& change) const {
  std::map<Sid, std::string> enrolled = overlay_.enrolled();
  enrol_members(change, enrolled);
  std::size_t counted = 0;
  for (const Member& member : change.members) {
    const auto here = electorate_.synced.find(member.sid);
    if (member.observer) continue;
    if (here == electorate_.synced.end()) {
      const Member* was = find(overlay_.members(), member.sid);
      if (was == nullptr || was->observer) return false;
      continue;
    }
    const auto known = enrolled.find(member.sid);
    if (enrolled.empty() || (known != enrolled.end() && known->second == here->second)) ++counted;
  }
  return 2 * counted > voters_of(change.members);
}

Err Step::feature_level() {
  wire::Reader reader(request_.body);
  const std::int32_t level = reader.i32();
  if (reader.failed()) return Err::kMarshallingError;
  if (!is_internal()) {
    if (const Err err = check_session(); err != Err::kOk) return err;
    const bool super =
        std::any_of(request_.ids.begin(), request_.ids.end(), [](const AuthId& id) { return id.scheme == "super"; });
    if (!super && !is_root()) return Err::kNoAuth;
  }
  const std::int32_t present = overlay_.feature_level();
  if (level == 0 || level == present) {
    txn_.changes.emplace_back(ErrorTxn{Err::kOk});
    return Err::kOk;
  }
  if (level < present || level > limits_.feature_level_known) return Err::kBadArguments;
  // A leader that sets the first level of an ensemble has asked those that are there; who comes later must know it.
  if (const Err err = is_internal() ? Err::kOk : level_known_to_all(level); err != Err::kOk) return err;
  overlay_.set_feature_level(level);
  txn_.changes.emplace_back(FeatureLevelTxn{level});
  return Err::kOk;
}

// kNewConfigNoQuorum: a member is not connected; kBadArguments: one knows less.
Err Step::level_known_to_all(std::int32_t level) const {
  std::set<Sid> all;
  for (const Member& member : overlay_.members()) all.insert(member.sid);
  if (all.empty()) {
    for (const auto& [sid, known] : electorate_.feature_levels) all.insert(sid);
    if (all.empty() && !electorate_.alone) return Err::kNewConfigNoQuorum;
  }
  bool knows = true;
  for (const Sid sid : all) {
    const auto at = electorate_.feature_levels.find(sid);
    if (at == electorate_.feature_levels.end() || at->second <= 0) return Err::kNewConfigNoQuorum;
    knows &= at->second >= level;
  }
  return knows ? Err::kOk : Err::kBadArguments;
}

}  // namespace coord::tree
