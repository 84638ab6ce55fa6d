#include "fusefs/replay/queue.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace coord::fs::replay {
namespace {

constexpr std::uint64_t kDir = 1, kOther = 2;

Event event(EventKind kind, std::uint64_t ino, std::uint64_t parent = kDir) {
  Event e;
  e.kind = kind;
  e.ino = ino;
  e.parent = parent;
  e.name = "n" + std::to_string(ino);
  return e;
}

Event rename_event(std::uint64_t ino, std::uint64_t from, std::uint64_t to) {
  Event e = event(EventKind::kRename, ino, from);
  e.new_parent = to;
  e.new_name = "moved";
  return e;
}

struct Harness {
  explicit Harness(std::size_t max = kWaitingMax) : queue(max) {}
  void add(const Event& e) {
    queue.add(e, [&](const Event& gone) { removed.push_back(gone); });
  }
  // All that can be taken, one after the other.
  std::vector<Event> drain() {
    std::vector<Event> out;
    while (auto taken = queue.take([](std::uint64_t) { return false; })) {
      out.push_back(taken->event);
      queue.done(*taken);
    }
    EXPECT_TRUE(queue.idle());
    return out;
  }
  std::string kinds() {
    std::string out;
    for (const Event& e : drain()) {
      out += std::string(1, "DACXR"[static_cast<int>(e.kind)]) + std::to_string(e.ino) + (e.raise ? " " : "- ");
    }
    return out;
  }
  EventQueue queue;
  std::vector<Event> removed;
};

TEST(ReplayQueue, OverflowDropsChangesButNeverAnInvalidation) {
  Harness h(2);
  h.add(event(EventKind::kData, 10));
  h.add(event(EventKind::kData, 11));
  h.add(event(EventKind::kData, 12));
  h.add(event(EventKind::kCreate, 13));
  h.add(event(EventKind::kAttributes, 10));
  EXPECT_EQ(h.removed.size(), 3U);
  h.add(event(EventKind::kDelete, 14));
  h.add(rename_event(15, kDir, kOther));
  EXPECT_EQ(h.queue.dropped(), 5U);
  EXPECT_EQ(h.kinds(), "D10 D11 X14- R15- ");
}

TEST(ReplayQueue, OvertakenAreThoseThatWaitAndThoseThatWereTaken) {
  Harness h;
  h.add(event(EventKind::kDelete, 10));
  h.add(event(EventKind::kDelete, 11));
  h.add(rename_event(12, kOther, kDir));
  const auto taken = h.queue.take([](std::uint64_t) { return false; });
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->event.ino, 10U);
  for (const char* name : {"n10", "n11", "moved"}) h.queue.overtake(kDir, name);
  h.add(event(EventKind::kDelete, 13));
  h.queue.overtake(kDir, "n14");
  h.add(event(EventKind::kDelete, 14));  // newer
  EXPECT_TRUE(h.queue.current(*taken).overtaken);
  EXPECT_FALSE(taken->event.overtaken) << "as it came";
  h.queue.done(*taken);
  std::vector<bool> overtaken;
  for (const Event& e : h.drain()) overtaken.push_back(e.overtaken || e.new_overtaken);
  EXPECT_EQ(overtaken, (std::vector<bool>{true, true, false, false}));
}

TEST(ReplayQueue, AnOvertakenCreateTellsNothing) {
  Harness h;
  h.add(event(EventKind::kCreate, 10));
  h.queue.overtake(kDir, "n10");
  h.add(event(EventKind::kData, 10));  // not told by the create any more
  EXPECT_EQ(h.kinds(), "C10- D10 ");
}

TEST(ReplayQueue, ConsecutiveChangesAreOne) {
  Harness h;
  for (int i = 0; i < 5; ++i) {
    h.add(event(EventKind::kData, 10));
    h.add(event(EventKind::kAttributes, 10));
    h.add(event(EventKind::kData, 11));
  }
  EXPECT_EQ(h.queue.coalesced(), 12U);
  EXPECT_EQ(h.removed.size(), 12U);
  EXPECT_EQ(h.kinds(), "D10 A10 D11 ");
}

TEST(ReplayQueue, TheNewestChangeDecidesWhetherAFileMayBeOpened) {
  Harness h;
  h.add(event(EventKind::kData, 10));
  Event chmod = event(EventKind::kAttributes, 10);
  chmod.executable = true;
  h.add(chmod);
  EXPECT_TRUE(h.drain().front().executable);
}

TEST(ReplayQueue, ATakenEventDoesNotSwallowALaterChange) {
  Harness h;
  h.add(event(EventKind::kData, 10));
  const auto taken = h.queue.take([](std::uint64_t) { return false; });
  ASSERT_TRUE(taken);
  h.add(event(EventKind::kData, 10));
  EXPECT_FALSE(h.queue.take([](std::uint64_t) { return false; }));  // the directory is in use
  h.queue.done(*taken);
  EXPECT_EQ(h.kinds(), "D10 ");
}

TEST(ReplayQueue, CreateTellsOfTheDataUnlessItIsNotOpened) {
  Harness h;
  h.add(event(EventKind::kCreate, 10));
  h.add(event(EventKind::kData, 10));
  Event script = event(EventKind::kCreate, 11);
  script.executable = true;
  h.add(script);
  Event data = event(EventKind::kData, 11);
  data.executable = true;
  h.add(data);
  Event local = event(EventKind::kCreate, 12);  // the kernel has raised CREATE itself
  local.raise = false;
  h.add(local);
  h.add(event(EventKind::kData, 12));
  EXPECT_EQ(h.kinds(), "C10 C11 D11 C12- D12 ");
}

TEST(ReplayQueue, CreateAndDeleteThatNobodySaw) {
  Harness h;
  h.add(event(EventKind::kCreate, 10));
  h.add(event(EventKind::kAttributes, 10));
  Event unseen = event(EventKind::kDelete, 10);
  unseen.seen = false;
  h.add(unseen);
  h.add(event(EventKind::kCreate, 11));
  h.add(event(EventKind::kDelete, 11));  // somebody may watch it
  EXPECT_EQ(h.kinds(), "X10- C11 X11 ");
}

TEST(ReplayQueue, DeleteEndsChanges) {
  Harness h;
  h.add(event(EventKind::kData, 10));
  h.add(event(EventKind::kDelete, 10));
  h.add(event(EventKind::kData, 10));
  h.add(event(EventKind::kCreate, 10));  // the same name and inode again: data was null, and is not
  h.add(event(EventKind::kDelete, 10));
  EXPECT_EQ(h.kinds(), "X10 C10 X10 ");
}

TEST(ReplayQueue, ChangesFollowARename) {
  Harness h;
  h.add(event(EventKind::kData, 10));
  h.add(rename_event(10, kDir, kOther));
  const auto events = h.drain();
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[0].kind, EventKind::kRename);
  EXPECT_EQ(events[1].kind, EventKind::kData);
  EXPECT_EQ(events[1].parent, kOther);
  EXPECT_EQ(events[1].name, "moved");
}

TEST(ReplayQueue, ARenameWaitsForBothDirectories) {
  Harness h;
  h.add(event(EventKind::kDelete, 10, kOther));
  h.add(rename_event(11, kDir, kOther));
  h.add(event(EventKind::kCreate, 12, kDir));
  const auto none = [](std::uint64_t) { return false; };
  const auto first = h.queue.take(none);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->event.ino, 10U);
  EXPECT_FALSE(h.queue.take(none));  // neither the rename nor what stands behind it
  h.queue.done(*first);
  const auto second = h.queue.take(none);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->event.ino, 11U);
  EXPECT_FALSE(h.queue.take(none));
  h.queue.done(*second);
  EXPECT_EQ(h.kinds(), "C12 ");
}

TEST(ReplayQueue, ALockedDirectoryIsSkipped) {
  Harness h;
  h.add(event(EventKind::kData, 10, kDir));
  h.add(event(EventKind::kData, 11, kOther));
  const auto taken = h.queue.take([](std::uint64_t directory) { return directory == kDir; });
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->event.ino, 11U);
  EXPECT_FALSE(h.queue.take([](std::uint64_t directory) { return directory == kDir; }));
  h.queue.done(*taken);
  EXPECT_EQ(h.kinds(), "D10 ");
}

TEST(ReplayQueue, ManyLockedDirectoriesDoNotHideAFreeOne) {
  Harness h;
  for (std::uint64_t dir = 100; dir < 400; ++dir) h.add(event(EventKind::kData, dir, dir));
  const auto busy = [](std::uint64_t directory) { return directory != 399; };
  int takes = 0;
  while (!h.queue.take(busy)) ASSERT_LT(++takes, 10);
}

// Any mixture: each event given in comes out or is reported removed, exactly once; all directories end up free.
TEST(ReplayQueue, NothingIsLostOrDoubled) {
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    Harness h(random() % 4 == 0 ? 20 : kWaitingMax);
    std::size_t added = 0, out = 0;
    std::vector<Taken> taken;
    for (int i = 0; i < 300; ++i) {
      if (random() % 3 != 0) {
        const std::uint64_t ino = 10 + random() % 8, parent = 1 + random() % 3;
        Event e = event(static_cast<EventKind>(random() % 5), ino, parent);
        e.seen = random() % 2 == 0;
        e.executable = random() % 4 == 0;
        if (e.kind == EventKind::kRename) {
          e.new_parent = 1 + random() % 3;
          e.new_name = "r";
        }
        h.add(e);
        ++added;
      } else if (auto next = h.queue.take([&](std::uint64_t) { return random() % 5 == 0; })) {
        taken.push_back(*next);
        ++out;
      }
      if (!taken.empty() && random() % 2 == 0) {
        h.queue.done(taken.back());
        taken.pop_back();
      }
    }
    for (const Taken& t : taken) h.queue.done(t);
    out += h.drain().size();
    ASSERT_EQ(added, out + h.removed.size()) << "round " << round;
  }
}

}  // namespace
}  // namespace coord::fs::replay
