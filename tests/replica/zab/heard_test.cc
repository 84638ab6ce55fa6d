// A message that is long on its way: pings and pongs wait behind it, and its progress is what is heard.
#include "tests/replica/zab/ensemble.h"

namespace coord::zab {
namespace {

using testing::Ensemble;

TEST(Heard, keeps_leader_and_learners_together_as_long_as_it_comes) {
  Ensemble e(3);
  e.boot_all();
  ASSERT_TRUE(e.wait(10'000, [&] { return e.leader() != 0 && e.all_serve(); }));
  const std::uint32_t leader = e.leader();
  e.lose = [](std::uint32_t, std::uint32_t, const Message& m) {
    return std::holds_alternative<Ping>(m) || std::holds_alternative<Pong>(m);
  };
  std::map<std::uint32_t, LinkId> links;
  for (std::uint32_t sid = 1; sid <= 3; ++sid) {
    if (sid != leader) links[sid] = e.peer(sid).leader_link();
  }
  for (int n = 0; n < 50; ++n) {
    e.pass(100);
    for (const auto& [sid, link] : links) {
      e.inject(sid, Heard{link});
      e.inject(leader, Heard{link});
    }
  }
  EXPECT_EQ(e.leader(), leader);
  EXPECT_EQ(e.peer(leader).epoch(), 1U);
  for (const auto& [sid, link] : links) EXPECT_EQ(e.peer(sid).leader_link(), link);
  // Without it they part as ever. The leader does by what it hears, whatever it can send.
  for (int n = 0; n < 10; ++n) {
    e.pass(100);
    for (const auto& [sid, link] : links) e.inject(sid, Heard{link});
  }
  EXPECT_NE(e.leader(), leader) << e.describe();
  for (const auto& [sid, link] : links) e.inject(sid, Heard{link});  // of a link that is gone
}

}  // namespace
}  // namespace coord::zab
