#include "replica/runtime/session_owner.h"

#include <gtest/gtest.h>

namespace coord::runtime {
namespace {

constexpr Sid kSelf{1}, kOther{2}, kThird{3};
constexpr SessionId kSession{100};
constexpr std::int32_t kTimeout = 4000;
constexpr std::int64_t kTick = 1000;
constexpr std::int64_t kSyncLimit = 600;

struct Owners : ::testing::Test {
  Owners() : owners({kSelf, kTick, kSyncLimit, false}) { owners.begin({}, 0); }

  SessionOwners::Due due(std::int64_t now) {
    return owners.due(now, [this](SessionId) { return heard; });
  }
  // The first time at which it expires when every question is answered at once; -1: not until `until`.
  std::int64_t expires(std::int64_t from, std::int64_t until) {
    for (std::int64_t now = from; now <= until; now += 20) {
      const auto d = due(now);
      if (!d.expired.empty()) return now;
      for (const auto& [sid, number] : d.ask) owners.table(sid, forward::Touched{number, false, 1, {}, {}}, now);
      if (d.confirm) owners.confirmed(now);
    }
    return -1;
  }
  forward::Touched heard_of(std::uint64_t generation, std::int64_t age, bool connected = true,
                            std::uint64_t answers = 0) {
    return {answers, false, 1, {{kSession, generation, age, connected}}, {}};
  }

  SessionOwners owners;
  std::optional<std::int64_t> heard;
};

TEST_F(Owners, AStaleOwnerIsNoOwner) {
  owners.learner_up(kOther);
  owners.learner_up(kThird);
  owners.created(kSession, kTimeout, kOther, 0);
  EXPECT_TRUE(owners.current(kSession, kOther, SessionOwners::kFirstGeneration));
  EXPECT_FALSE(owners.current(kSession, kThird, SessionOwners::kFirstGeneration));
  const auto move = owners.attach(kSession, kTimeout, kThird, 10);
  ASSERT_TRUE(move);
  EXPECT_EQ(move->old_owner, kOther);
  EXPECT_FALSE(owners.current(kSession, kOther, SessionOwners::kFirstGeneration));
  EXPECT_FALSE(owners.current(kSession, kOther, move->generation));
  EXPECT_TRUE(owners.current(kSession, kThird, move->generation));
  // Back to the first one: a generation of its own, not the one it had.
  const auto back = owners.attach(kSession, kTimeout, kOther, 20);
  ASSERT_TRUE(back);
  EXPECT_GT(back->generation, move->generation);
  EXPECT_FALSE(owners.current(kSession, kOther, SessionOwners::kFirstGeneration));
}

TEST_F(Owners, ARevokedSessionIsNobodysUntilItAttaches) {
  owners.learner_up(kOther);
  owners.created(kSession, kTimeout, kOther, 0);
  const auto revoked = owners.revoke(kSession);
  ASSERT_TRUE(revoked);
  EXPECT_FALSE(owners.current(kSession, kOther, SessionOwners::kFirstGeneration));
  EXPECT_FALSE(owners.current(kSession, kOther, revoked->generation));
  const auto again = owners.attach(kSession, kTimeout, kOther, 10);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->old_owner, Sid());
  EXPECT_TRUE(owners.current(kSession, kOther, again->generation));
}

TEST_F(Owners, UnknownSessionsAttachNowhere) {
  EXPECT_FALSE(owners.attach(kSession, kTimeout, kSelf, 0));
  EXPECT_FALSE(owners.revoke(kSession));
  owners.created(kSession, kTimeout, kSelf, 0);
  owners.removed(kSession);
  EXPECT_FALSE(owners.attach(kSession, kTimeout, kSelf, 0));
  EXPECT_EQ(expires(0, 20'000), -1);
}

TEST_F(Owners, GenerationsOfOneOfficeAreNotThoseOfTheNext) {
  owners.learner_up(kOther);
  owners.created(kSession, kTimeout, kOther, 0);
  const auto before = owners.attach(kSession, kTimeout, kOther, 10)->generation;
  owners.begin({{kSession, kTimeout}}, 100);
  owners.learner_up(kOther);
  EXPECT_FALSE(owners.current(kSession, kOther, before));
  EXPECT_GT(owners.attach(kSession, kTimeout, kOther, 110)->generation, before);
}

// Never early, late by two ticks at most, whoever owns it.
TEST_F(Owners, ExpiresBetweenItsTimeoutAndTwoTicks) {
  const auto in_time = [](std::int64_t at, std::int64_t heard_at) {
    return at > heard_at + kTimeout && at <= heard_at + kTimeout + 2 * kTick;
  };
  for (const std::int64_t start : {0, 1, 499, 999, 1000, 1234}) {
    owners.begin({{kSession, kTimeout}}, start);  // nobody's
    EXPECT_TRUE(in_time(expires(start, start + 20'000), start)) << start;
    owners.begin({}, start);
    owners.created(kSession, kTimeout, kSelf, start);
    heard = start + 300;
    EXPECT_TRUE(in_time(expires(start, start + 20'000), start + 300)) << start;
    heard = std::nullopt;
    owners.begin({}, start);
    owners.learner_up(kOther);
    owners.created(kSession, kTimeout, kOther, start);
    owners.table(kOther, heard_of(1, 50), start + 700);
    EXPECT_TRUE(in_time(expires(start, start + 20'000), start + 650)) << start;
  }
}

TEST_F(Owners, NobodyExpiresWithoutAConfirmedLeader) {
  owners.begin({{kSession, kTimeout}}, 0);
  owners.confirmed(4900);  // before the deadline: says nothing
  for (std::int64_t now = 0; now < 60'000; now += 20) {
    const auto d = due(now);
    ASSERT_TRUE(d.expired.empty()) << now;
    EXPECT_EQ(d.confirm, now >= 5000) << now;
  }
  owners.confirmed(60'000);
  EXPECT_EQ(due(60'000).expired, std::vector<SessionId>{kSession});
  EXPECT_TRUE(due(60'020).expired.empty()) << "each is reported once";
}

TEST_F(Owners, AnOwnersSessionWaitsForATableMadeBehindTheDeadline) {
  owners.learner_up(kOther);
  owners.created(kSession, kTimeout, kOther, 0);
  auto d = due(5000);
  ASSERT_EQ(d.ask.size(), 1u);
  owners.confirmed(5000);
  owners.table(kOther, forward::Touched{}, 5010);  // on its way before it was asked
  EXPECT_TRUE(due(5020).expired.empty());
  EXPECT_TRUE(due(5020).ask.empty()) << "one question at a time";
  // The answer says that the client was heard of just before the deadline.
  owners.table(kOther, heard_of(1, 60, true, d.ask[0].second), 5040);
  const std::int64_t at = expires(5040, 30'000);
  EXPECT_GT(at, 4980 + kTimeout);
  EXPECT_LE(at, 4980 + kTimeout + 2 * kTick);
}

// Found by the simulator, `coord-sim --layer replica --seed 507`: the table that proved the silence was older than a
// request that had come since.
TEST_F(Owners, ARequestBehindTheDeadlineIsASignOfLife) {
  owners.learner_up(kOther);
  owners.created(kSession, kTimeout, kOther, 0);
  std::int64_t now = 0;
  SessionOwners::Due asked;
  for (; asked.ask.empty() && now < 10'000; now += 20) asked = due(now);
  ASSERT_EQ(asked.ask.size(), 1u);
  owners.table(kOther, forward::Touched{asked.ask.front().second, false, 1, {}, {}}, now);
  owners.confirmed(now);
  owners.heard(kSession, now + 10);
  EXPECT_TRUE(due(now + 20).expired.empty());
  EXPECT_GE(expires(now + 20, now + 20'000), now + 10 + kTimeout);
}

TEST_F(Owners, ALostOwnerMayHaveServedUntilItNoticed) {
  owners.learner_up(kOther);
  owners.created(kSession, kTimeout, kOther, 0);
  owners.learner_down(kOther, 3000);
  EXPECT_FALSE(owners.current(kSession, kOther, SessionOwners::kFirstGeneration));
  const std::int64_t at = expires(3000, 30'000);
  EXPECT_GT(at, 3000 + kSyncLimit + kTimeout);
  EXPECT_LE(at, 3000 + kSyncLimit + kTimeout + 2 * kTick);
}

TEST_F(Owners, AConnectionThatWentIsNotHeldForALostOwner) {
  owners.learner_up(kOther);
  owners.created(kSession, kTimeout, kOther, 0);
  owners.table(kOther, heard_of(1, 500, false), 1000);  // last heard at 500
  owners.learner_down(kOther, 4000);
  const std::int64_t at = expires(1000, 30'000);
  EXPECT_GT(at, 500 + kTimeout);
  EXPECT_LE(at, 500 + kTimeout + 2 * kTick);
}

TEST_F(Owners, TablesOfOldOwnersTouchNothing) {
  owners.learner_up(kOther);
  owners.learner_up(kThird);
  owners.created(kSession, kTimeout, kOther, 0);
  const auto move = owners.attach(kSession, kTimeout, kThird, 100);
  owners.table(kOther, heard_of(1, 0), 3000);
  owners.table(kOther, heard_of(move->generation, 0), 3000);
  const std::int64_t at = expires(3000, 30'000);
  EXPECT_LE(at, 100 + kTimeout + 2 * kTick);
}

TEST_F(Owners, AStopOfThisProcessIsNobodysSilence) {
  owners.begin({{kSession, kTimeout}}, 0);
  EXPECT_TRUE(due(5000).confirm);  // due, not yet proven
  owners.stalled(7000, 12'000);
  EXPECT_GE(expires(12'000, 60'000), 5000 + 7000);
  owners.begin({{kSession, kTimeout}}, 0);
  owners.stalled(7000, 7100);
  EXPECT_GT(expires(7100, 60'000), kTimeout + 7000);
}

TEST_F(Owners, AloneNeedsNoConfirmation) {
  SessionOwners alone({kSelf, kTick, kSyncLimit, true});
  alone.begin({{kSession, kTimeout}}, 0);
  const auto nobody = [](SessionId) -> std::optional<std::int64_t> { return std::nullopt; };
  EXPECT_TRUE(alone.due(4999, nobody).expired.empty());
  const auto d = alone.due(5000, nobody);
  EXPECT_EQ(d.expired, std::vector<SessionId>{kSession});
  EXPECT_FALSE(d.confirm);
}

}  // namespace
}  // namespace coord::runtime
