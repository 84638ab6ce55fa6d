#include "replica/peers/codec.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace coord::peers {
namespace {

using namespace zab;

LogEntry entry(Zxid zxid, Zxid previous, std::string payload, Origin origin = {}) {
  return {zxid, previous, std::make_shared<const std::string>(std::move(payload)), origin};
}

Membership many_members(std::uint32_t count, std::size_t directory_bytes) {
  Membership out;
  out.version = Zxid(1, 1);
  for (std::uint32_t n = 1; n <= count; ++n) {
    out.voters.insert(Sid(n));
    out.observers.insert(Sid(n + 5000));
    out.joins[Sid(n)] = std::string(directory_bytes, 'd');
  }
  return out;
}

// One of each, every field with a value of its own; some twice, with the edges.
std::vector<Message> samples() {
  const std::uint32_t big = 0xfffffffe;
  return {
      Notification{Role::kLeading, 0xfedcba9876543210, {Sid(7), Zxid(3, 9), 3}, 4, true, Zxid(2, 5)},
      Notification{},
      Notification{Role::kObserving, 1, {Sid(254), Zxid(~std::uint64_t{0}), big}, big, false, Zxid(~std::uint64_t{0})},
      FollowerInfo{true, 5, Sid(2), std::string("0123456789abcde\0", 16), true, false},
      FollowerInfo{false, big, Sid(0), "", false, true},
      AckEpoch{6, true, 5, LogShape{Zxid(1, 7), {Zxid(1, 9), Zxid(2, 4), Zxid(5, 1)}}, Zxid(2, 3)},
      AckEpoch{},
      AckNewLeader{8},
      Ack{Zxid(8, 77)},
      Pong{12, Zxid(8, 78)},
      LeaderInfo{9},
      SyncFrom{Zxid(9, 1)},
      SnapshotBegin{Zxid(9, 2), 1'000'000'007,
                    Membership{Zxid(8, 3), {Sid(1), Sid(3), Sid(254)}, {Sid(2)}, {{Sid(3), std::string(16, '\xee')}}}},
      SnapshotBegin{},
      SnapshotBegin{Zxid(1, 2), 3, many_members(1024, 64)},
      SnapshotChunk{std::string(1000, 'x')},
      SnapshotChunk{},
      SnapshotEnd{42},
      Proposal{{entry(Zxid(9, 3), Zxid(9, 2), "hello", {Sid(3), 17}), entry(Zxid(9, 4), Zxid(9, 3), "")}, Zxid(9, 2)},
      Proposal{},
      NewLeader{10, Zxid(9, 4), "00112233445566778899aabbccddeeff", std::string(32, '\xff')},
      UpToDate{Zxid(9, 4)},
      Commit{Zxid(9, 5)},
      Ping{13},
      Passed{std::string("a\0b", 3)},
      Bye{"shutting down"},
  };
}

std::string bytes_of(const Message& message) {
  std::string out;
  encode(message, out);
  return out;
}

TEST(Codec, EveryMessageHasASample) {
  std::set<std::size_t> seen;
  for (const Message& message : samples()) seen.insert(message.index());
  EXPECT_EQ(seen.size(), std::variant_size_v<Message>);
}

TEST(Codec, RoundTrip) {
  for (const Message& message : samples()) {
    const std::string bytes = bytes_of(message);
    EXPECT_EQ(bytes.size(), encoded_size(message));
    const auto again = decode(bytes);
    ASSERT_TRUE(again) << message.index();
    EXPECT_EQ(again->index(), message.index());
    EXPECT_EQ(bytes_of(*again), bytes) << message.index();
  }
}

TEST(Codec, FieldsArriveWhereTheyBelong) {
  const auto all = samples();
  const auto notification = std::get<Notification>(*decode(bytes_of(all[0])));
  EXPECT_EQ(notification.state, Role::kLeading);
  EXPECT_EQ(notification.round, 0xfedcba9876543210);
  EXPECT_EQ(notification.vote, (Vote{Sid(7), Zxid(3, 9), 3}));
  EXPECT_EQ(notification.accepted_epoch, 4u);
  EXPECT_TRUE(notification.wants_answer);
  EXPECT_EQ(notification.members, Zxid(2, 5));
  const auto info = std::get<FollowerInfo>(*decode(bytes_of(all[3])));
  EXPECT_TRUE(info.voter);
  EXPECT_EQ(info.accepted_epoch, 5u);
  EXPECT_EQ(info.accepted_from, Sid(2));
  EXPECT_EQ(info.directory_id.size(), 16u);
  EXPECT_TRUE(info.virgin);
  EXPECT_FALSE(info.damaged);
  const auto ack = std::get<AckEpoch>(*decode(bytes_of(all[5])));
  EXPECT_TRUE(ack.counts);
  EXPECT_EQ(ack.current_epoch, 5u);
  EXPECT_EQ(ack.log, (LogShape{Zxid(1, 7), {Zxid(1, 9), Zxid(2, 4), Zxid(5, 1)}}));
  EXPECT_EQ(ack.last_applied, Zxid(2, 3));
  const Message sent = Proposal{{entry(Zxid(9, 3), Zxid(9, 2), "hello", {Sid(3), 17})}, Zxid(9, 1)};
  const auto proposal = std::get<Proposal>(*decode(bytes_of(sent)));
  ASSERT_EQ(proposal.entries.size(), 1u);
  EXPECT_EQ(proposal.entries[0].zxid, Zxid(9, 3));
  EXPECT_EQ(proposal.entries[0].previous, Zxid(9, 2));
  EXPECT_EQ(*proposal.entries[0].payload, "hello");
  EXPECT_EQ(proposal.entries[0].origin, (Origin{Sid(3), 17}));
  EXPECT_EQ(proposal.committed, Zxid(9, 1));
  const auto begin = std::get<SnapshotBegin>(*decode(bytes_of(all[12])));
  EXPECT_EQ(begin.zxid, Zxid(9, 2));
  EXPECT_EQ(begin.bytes, 1'000'000'007u);
  EXPECT_EQ(begin.membership, std::get<SnapshotBegin>(all[12]).membership);
  const auto leader = std::get<NewLeader>(*decode(bytes_of(all[20])));
  EXPECT_EQ(leader.last, Zxid(9, 4));
  EXPECT_EQ(leader.cluster_id, "00112233445566778899aabbccddeeff");
  EXPECT_EQ(leader.secret, std::string(32, '\xff'));
}

TEST(Codec, TruncatedAnywhereIsNoMessage) {
  for (const Message& message : samples()) {
    const std::string bytes = bytes_of(message);
    for (std::size_t n = 0; n < bytes.size(); n += 1 + n / 200) {
      EXPECT_FALSE(decode(std::string_view(bytes).substr(0, n))) << message.index() << " at " << n;
    }
    EXPECT_FALSE(decode(bytes + '\0')) << message.index();
  }
}

TEST(Codec, UnknownTags) {
  for (int tag = -128; tag < 128; ++tag) {
    if (tag >= 1 && tag <= static_cast<int>(std::variant_size_v<Message>)) continue;
    EXPECT_FALSE(decode(std::string(1, static_cast<char>(tag))));
    EXPECT_FALSE(decode(std::string(1, static_cast<char>(tag)) + std::string(64, '\0')));
  }
}

TEST(Codec, BooleansAndRolesAreExact) {
  std::string bytes = bytes_of(Notification{});
  bytes[1] = 4;
  EXPECT_FALSE(decode(bytes));
  bytes[1] = -1;
  EXPECT_FALSE(decode(bytes));
  bytes = bytes_of(Notification{});
  bytes[bytes.size() - 9] = 2;  // wants_answer
  EXPECT_FALSE(decode(bytes));
}

// A count that the bytes cannot hold fails before anything is reserved for it.
TEST(Codec, CountsAreBoundedByWhatIsThere) {
  for (const std::uint32_t n : {1u, 0x7fffffffu, 0x80000000u, 0xffffffffu}) {
    std::string proposal = bytes_of(Proposal{});
    for (std::size_t i = 0; i < 4; ++i) proposal[1 + i] = static_cast<char>(n >> (24 - 8 * i));
    EXPECT_FALSE(decode(proposal)) << n;
    EXPECT_FALSE(decode(proposal + std::string(16, '\0'))) << n;
    std::string ack = bytes_of(AckEpoch{});
    for (std::size_t i = 0; i < 4; ++i) ack[18 + i] = static_cast<char>(n >> (24 - 8 * i));
    EXPECT_FALSE(decode(ack)) << n;
    std::string bye = bytes_of(Bye{});
    for (std::size_t i = 0; i < 4; ++i) bye[1 + i] = static_cast<char>(n >> (24 - 8 * i));
    EXPECT_FALSE(decode(bye)) << n;
    for (const std::size_t list : {25u, 29u, 33u}) {
      std::string begin = bytes_of(SnapshotBegin{});
      for (std::size_t i = 0; i < 4; ++i) begin[list + i] = static_cast<char>(n >> (24 - 8 * i));
      EXPECT_FALSE(decode(begin)) << n << " at " << list;
    }
  }
}

// What encode cannot make: too many members, out of order, twice, 0, in two roles; directory ids without end.
TEST(Codec, MembersAreBoundedAndInOrder) {
  const auto be = [](std::uint32_t v) {
    std::string out(4, '\0');
    for (std::size_t i = 0; i < 4; ++i) out[i] = static_cast<char>(v >> (24 - 8 * i));
    return out;
  };
  const auto list = [&](const std::vector<std::uint32_t>& sids) {
    std::string out = be(static_cast<std::uint32_t>(sids.size()));
    for (const std::uint32_t sid : sids) out += be(sid);
    return out;
  };
  const auto joins = [&](const std::vector<std::pair<std::uint32_t, std::string>>& all) {
    std::string out = be(static_cast<std::uint32_t>(all.size()));
    for (const auto& [sid, id] : all) out += be(sid) + be(static_cast<std::uint32_t>(id.size())) + id;
    return out;
  };
  const std::string head = bytes_of(SnapshotBegin{}).substr(0, 25), id(16, 'd');
  EXPECT_TRUE(decode(head + list({1, 2, 254}) + list({3}) + joins({{1, id}, {3, ""}})));
  EXPECT_FALSE(decode(head + list({2, 1}) + list({}) + joins({})));
  EXPECT_FALSE(decode(head + list({1, 1}) + list({}) + joins({})));
  EXPECT_FALSE(decode(head + list({0, 1}) + list({}) + joins({})));
  EXPECT_FALSE(decode(head + list({}) + list({5, 4}) + joins({})));
  EXPECT_FALSE(decode(head + list({1, 2}) + list({2}) + joins({})));
  EXPECT_FALSE(decode(head + list({1, 2}) + list({}) + joins({{2, id}, {1, id}})));
  EXPECT_FALSE(decode(head + list({1}) + list({}) + joins({{1, id}, {1, id}})));
  EXPECT_TRUE(decode(head + list({1}) + list({}) + joins({{1, std::string(64, 'd')}})));
  EXPECT_FALSE(decode(head + list({1}) + list({}) + joins({{1, std::string(65, 'd')}})));
  std::vector<std::uint32_t> sids;
  for (std::uint32_t sid = 1; sid <= 1024; ++sid) sids.push_back(sid);
  EXPECT_TRUE(decode(head + list(sids) + list({}) + joins({})));
  EXPECT_TRUE(decode(head + list({}) + list(sids) + joins({})));
  sids.push_back(1025);
  EXPECT_FALSE(decode(head + list(sids) + list({}) + joins({})));
  EXPECT_FALSE(decode(head + list({}) + list(sids) + joins({})));
  std::vector<std::pair<std::uint32_t, std::string>> all;
  for (const std::uint32_t sid : sids) all.emplace_back(sid, id);
  EXPECT_FALSE(decode(head + list({}) + list({}) + joins(all)));
  EXPECT_FALSE(decode(bytes_of(FollowerInfo{true, 5, Sid(2), std::string(65, 'd'), true, false})));
  EXPECT_TRUE(decode(bytes_of(FollowerInfo{true, 5, Sid(2), std::string(64, 'd'), true, false})));
}

TEST(Codec, ALogsShapeAscends) {
  const auto with = [](LogShape log) { return bytes_of(AckEpoch{1, true, 1, std::move(log), Zxid(0)}); };
  EXPECT_TRUE(decode(with({Zxid(1, 1), {Zxid(1, 2), Zxid(2, 1)}})));
  EXPECT_FALSE(decode(with({Zxid(1, 1), {Zxid(1, 1)}})));              // not above the floor
  EXPECT_FALSE(decode(with({Zxid(1, 1), {Zxid(2, 1), Zxid(1, 2)}})));  // descends
  EXPECT_FALSE(decode(with({Zxid(1, 1), {Zxid(2, 1), Zxid(2, 2)}})));  // an epoch twice
  EXPECT_FALSE(decode(with({Zxid(1, 1), {Zxid(2, 0)}})));              // an epoch without entries
}

TEST(Codec, RandomDamageNeverPassesUnnoticed) {
  std::mt19937_64 random(7);
  const auto all = samples();
  for (int n = 0; n < 20'000; ++n) {
    std::string bytes = bytes_of(all[random() % all.size()]);
    for (int flips = 0; flips < 3; ++flips) bytes[random() % bytes.size()] = static_cast<char>(random());
    if (random() % 4 == 0) bytes.resize(random() % (bytes.size() + 1));
    if (const auto message = decode(bytes)) {
      EXPECT_EQ(bytes_of(*message), bytes);
    }
  }
}

}  // namespace
}  // namespace coord::peers
