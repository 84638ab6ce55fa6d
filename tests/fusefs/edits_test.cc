#include "fusefs/ops/edits.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>

namespace coord::fs {
namespace {

TEST(Edits, RefusesWhatWouldBeTooLong) {
  Edits e(10);
  EXPECT_FALSE(e.write(8, "abc"));
  EXPECT_FALSE(e.write(UINT64_MAX, "a"));
  EXPECT_FALSE(e.truncate(11));
  EXPECT_FALSE(e.append("abc", 8));
  EXPECT_FALSE(e.append("abc", 100));
  EXPECT_TRUE(e.empty());
  EXPECT_TRUE(e.append("ab", 8));
  EXPECT_FALSE(e.append("c", 8));
  EXPECT_EQ(e.size(8), 10U);
  EXPECT_FALSE(e.fits(9));  // another host appended meanwhile
  e.replace_all();
  EXPECT_FALSE(e.write(8, "abc"));
  EXPECT_TRUE(e.append("0123456789", 5));
  EXPECT_FALSE(e.append("x", 0));
  EXPECT_EQ(e.apply("base"), "0123456789");
}

TEST(Edits, KeptEditsAreBounded) {
  Edits e(100);
  int accepted = 0;
  while (accepted < 1'000'000 && e.truncate(10) && e.append(std::string(90, 'a'), 0)) ++accepted;
  EXPECT_LE(accepted, 9);
  Edits alternating(1 << 20);
  std::size_t layers = 0;
  while (layers < 1'000'000 && alternating.write(0, "w") && alternating.append("a", 0)) ++layers;
  EXPECT_LE(layers, kEditLayersMax + 1);
  Edits same_place(100);
  for (int i = 0; i < 10'000; ++i) ASSERT_TRUE(same_place.write(0, std::string(100, 'b')));
}

TEST(Edits, EmptyTruncationIsAnEdit) {
  Edits e(10);
  EXPECT_TRUE(e.empty());
  ASSERT_TRUE(e.write(3, ""));
  ASSERT_TRUE(e.append("", 0));
  EXPECT_TRUE(e.empty());
  e.replace_all();
  EXPECT_FALSE(e.empty());
  EXPECT_TRUE(e.replaces_all());
  EXPECT_EQ(e.apply("abc"), "");
}

TEST(Edits, AppendsOfTwoHostsSurvive) {
  Edits e(100);
  ASSERT_TRUE(e.append("mine\n", 0));
  EXPECT_EQ(e.apply("theirs\n"), "theirs\nmine\n");
}

TEST(Edits, ReadsAcrossTheEnd) {
  Edits e(100);
  ASSERT_TRUE(e.write(5, "xyz"));
  EXPECT_EQ(e.read("ab", 1, 100), std::string("b\0\0\0xyz", 7));
  EXPECT_EQ(e.read("ab", 8, 1), "");
  EXPECT_EQ(e.read("ab", UINT64_MAX, 1), "");
  EXPECT_EQ(Edits(10).read("abc", 1, 1), "b");
}

// A random operation on the edits and, as a function of the content, on the model.
using Step = std::function<void(std::string&)>;

Step random_step(std::mt19937& random, Edits& e, std::size_t base_size) {
  const std::string bytes(1 + random() % 6, static_cast<char>('a' + random() % 26));
  const std::size_t at = random() % 24;
  switch (random() % 9) {
    case 0:
      EXPECT_TRUE(e.truncate(at));
      return [at](std::string& s) { s.resize(at, '\0'); };
    case 1:
      if (random() % 4 != 0) return [](std::string&) {};
      e.replace_all();
      return [](std::string& s) { s.clear(); };
    case 2:
    case 3:
      EXPECT_TRUE(e.append(bytes, base_size));
      return [bytes](std::string& s) { s += bytes; };
    case 4:
      EXPECT_TRUE(e.extend(at));
      return [at](std::string& s) { s.resize(std::max(s.size(), at), '\0'); };
    default:
      EXPECT_TRUE(e.write(at, bytes));
      return [at, bytes](std::string& s) {
        if (s.size() < at + bytes.size()) s.resize(at + bytes.size(), '\0');
        s.replace(at, bytes.size(), bytes);
      };
  }
}

std::string model(const std::vector<Step>& steps, std::string base) {
  for (const auto& step : steps) step(base);
  return base;
}

TEST(Edits, SameAsAString) {
  std::mt19937 random(11);
  for (int round = 0; round < 4000; ++round) {
    Edits e(4096);
    std::vector<Step> steps;
    for (std::size_t n = random() % 30; n > 0; --n) steps.push_back(random_step(random, e, 40));
    for (const std::size_t size : {0U, 1U, 7U, 40U}) {
      const std::string base(size, '.');
      const std::string want = model(steps, base);
      ASSERT_EQ(e.apply(base), want) << "round " << round;
      ASSERT_EQ(e.size(size), want.size());
      const std::size_t at = random() % 50;
      ASSERT_EQ(e.read(base, at, 5), at < want.size() ? want.substr(at, 5) : "");
    }
  }
}

// Commits that are taken, then succeed, conflict (the base changes under them) or fail, between writes.
TEST(Edits, FlightsComposeLikeAString) {
  std::mt19937 random(12);
  for (int round = 0; round < 3000; ++round) {
    Edits e(4096);
    std::string committed = "start";
    std::vector<Step> pending;
    for (int turn = 0; turn < 8; ++turn) {
      for (std::size_t n = random() % 5; n > 0; --n) pending.push_back(random_step(random, e, 60));
      const std::vector<Step> flying = pending;
      std::vector<Step> newer;
      Edits flight = e.take();
      ASSERT_TRUE(e.empty());
      for (std::size_t n = random() % 4; n > 0; --n) newer.push_back(random_step(random, e, 60));
      if (random() % 2 == 0) committed += "other";  // a conflict: same flight, new base
      ASSERT_EQ(flight.apply(committed), model(flying, committed));
      const std::string seen = model(newer, model(flying, committed));
      ASSERT_EQ(e.apply(flight.apply(committed)), seen);
      ASSERT_EQ(e.size(flight.size(committed.size())), seen.size());
      if (random() % 3 == 0) {
        e.put_back(std::move(flight));
        pending.insert(pending.end(), newer.begin(), newer.end());
      } else {
        committed = flight.apply(committed);
        pending = newer;
      }
      ASSERT_EQ(e.apply(committed), model(pending, committed)) << "round " << round;
    }
  }
}

}  // namespace
}  // namespace coord::fs
