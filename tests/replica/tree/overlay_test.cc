// The overlay must say, of every node, what the tree will say once everything prepared is applied; a rolled back multi
// must leave it as it was.
#include "replica/tree/overlay.h"

#include <map>
#include <random>

#include "replica/tree/prepare.h"
#include "tests/replica/tree/harness.h"

namespace coord::tree::test {
namespace {

// A tree with a few nodes and sessions, changed through DataTree directly.
class OverlayFixture : public ::testing::Test {
 protected:
  OverlayFixture() : overlay(tree) {
    for (std::int64_t s = 1; s <= 3; ++s) tree.create_session({SessionId{s}, 1000});
  }
  CreateTxn create(NodeId parent, std::string name, Lifetime lifetime = Lifetime::kPersistent, SessionId owner = {}) {
    CreateTxn c;
    c.id = overlay.next_node_id();
    c.parent = parent;
    c.name = std::move(name);
    c.acl = open_acl();
    c.lifetime = lifetime;
    c.owner = owner;
    c.parent_creates = overlay.node(parent).creates() + 1;
    return c;
  }
  void begin() { overlay.begin(Zxid{++zxid}); }

  DataTree tree;
  Overlay overlay;
  std::uint64_t zxid = 0;
};

TEST_F(OverlayFixture, EmptyLooksAtTheTree) {
  EXPECT_TRUE(overlay.empty());
  EXPECT_EQ(overlay.find("/").id(), kRootNode);
  EXPECT_EQ(overlay.find("").id(), kRootNode);
  EXPECT_EQ(overlay.find("/zookeeper/config").id(), kConfigNode);
  for (const char* path :
       {"zookeeper", "/zookeeper/", "//zookeeper", "/zookeeper//config", "/absent", "/absent/x", "//"}) {
    EXPECT_FALSE(overlay.find(path)) << path;
  }
  EXPECT_FALSE(overlay.node(NodeId{999}));
  EXPECT_FALSE(overlay.node(NodeId{}));
  EXPECT_EQ(overlay.path_of(kConfigNode), "/zookeeper/config");
  EXPECT_EQ(overlay.path_of(kRootNode), "/");
}

TEST_F(OverlayFixture, EntriesLiveUntilTheirLastTransactionIsApplied) {
  begin();
  const CreateTxn c = create(kRootNode, "a");
  overlay.create(c, 5, true);
  begin();
  overlay.set_data({c.id, false, "data", 1}, 6);
  EXPECT_EQ(overlay.find("/a").data(), "data");
  EXPECT_EQ(overlay.find("/a").mtime(), 6);
  tree.create(c, Zxid{1}, 5, true);
  overlay.applied(Zxid{1});
  EXPECT_FALSE(overlay.empty());
  EXPECT_EQ(overlay.find("/a").data(), "data");
  tree.set_data(tree.get(c.id), {c.id, false, "data", 1}, Zxid{2}, 6);
  overlay.applied(Zxid{2});
  EXPECT_TRUE(overlay.empty());
  EXPECT_EQ(overlay.find("/a").data(), "data");
}

TEST_F(OverlayFixture, DeletedAndCreatedAnew) {
  begin();
  const CreateTxn first = create(kRootNode, "a");
  overlay.create(first, 5, true);
  tree.create(first, Zxid{zxid}, 5, true);
  overlay.applied(Zxid{zxid});
  begin();
  overlay.erase(first.id);
  EXPECT_FALSE(overlay.find("/a"));
  EXPECT_FALSE(overlay.node(first.id));
  begin();
  const CreateTxn second = create(kRootNode, "a");
  EXPECT_NE(second.id, first.id);
  overlay.create(second, 5, true);
  EXPECT_EQ(overlay.find("/a").id(), second.id);
  tree.erase(tree.get(first.id), Zxid{2});
  overlay.applied(Zxid{2});
  EXPECT_EQ(overlay.find("/a").id(), second.id);
}

TEST_F(OverlayFixture, MeasureSeesWhatIsOutstanding) {
  begin();
  const CreateTxn a = create(kRootNode, "a");
  overlay.create(a, 5, true);
  const CreateTxn b = create(a.id, "b");
  overlay.create(b, 5, true);
  for (const CreateTxn* c : {&a, &b}) tree.create(*c, Zxid{zxid}, 5, true);
  overlay.applied(Zxid{zxid});
  begin();
  const CreateTxn c = create(kRootNode, "c", Lifetime::kEphemeral, SessionId{1});
  overlay.create(c, 5, true);
  EXPECT_EQ(overlay.measure(a.id, 100).nodes, 2u);
  begin();
  overlay.move({c.id, b.id, "c", 1});
  EXPECT_EQ(overlay.measure(a.id, 100).nodes, 3u);
  EXPECT_TRUE(overlay.measure(a.id, 100).ephemerals);
  EXPECT_TRUE(overlay.measure(a.id, 2).too_large);
  EXPECT_FALSE(overlay.measure(a.id, 3).too_large);
  EXPECT_FALSE(overlay.measure(c.id, 3).ephemerals) << "the top itself does not count";
  begin();
  overlay.move({b.id, kRootNode, "b", 9});
  EXPECT_EQ(overlay.measure(a.id, 100).nodes, 1u);
  EXPECT_EQ(overlay.measure(b.id, 100).nodes, 2u);
  begin();
  overlay.close_session(SessionId{1});
  EXPECT_EQ(overlay.measure(b.id, 100).nodes, 1u);
}

TEST_F(OverlayFixture, ClearForgetsAll) {
  begin();
  overlay.create(create(kRootNode, "a"), 5, true);
  overlay.create_session(SessionId{77});
  overlay.close_session(SessionId{1});
  overlay.use_seq(SessionId{2}, 5, 5);
  overlay.clear();
  EXPECT_TRUE(overlay.empty());
  EXPECT_EQ(overlay.session(SessionId{77}), Overlay::SessionState::kUnknown);
  EXPECT_EQ(overlay.session(SessionId{1}), Overlay::SessionState::kOpen);
  EXPECT_EQ(overlay.classify(SessionId{2}, 4, 0), Overlay::Seq::kNew);
  EXPECT_EQ(overlay.next_node_id(), tree.next_node_id());
}

// --- random multis: one that fails leaves the overlay as it was

class RandomOps {
 public:
  explicit RandomOps(std::uint64_t seed) : random_(seed) {}
  std::size_t below(std::size_t n) { return static_cast<std::size_t>(random_() % n); }
  std::string path() {
    std::string out;
    for (std::size_t depth = 1 + below(3); depth > 0; --depth)
      out += std::string("/") + static_cast<char>('a' + below(3));
    return out;
  }
  std::pair<Op, std::string> op() {
    const std::int32_t version = below(3) == 0 ? static_cast<std::int32_t>(below(3)) : -1;
    switch (below(8)) {
      case 0:
      case 1:
      case 2: {
        static constexpr std::int32_t kFlags[] = {0, 0, 0, 1, 2, 3};
        return {Op::kCreate, create_body(path(), below(2) == 0 ? Data("x") : Data(), open_acl(), kFlags[below(6)])};
      }
      case 3:
      case 4:
        return {Op::kDelete, path_version_body(path(), version)};
      case 5:
      case 6:
        return {Op::kSetData, set_data_body(path(), "y", version)};
      default:
        return {Op::kCheck, path_version_body(path(), version)};
    }
  }

 private:
  std::mt19937_64 random_;
};

TEST(OverlayRollback, RandomFailedMultisLeaveNothing) {
  std::size_t failed = 0;
  std::size_t succeeded = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    RandomOps random(seed);
    DataTree tree;
    tree.create_session({SessionId{1}, 1000});
    const Limits limits;
    Preparer preparer(tree, limits);
    Request request;
    request.session = SessionId{1};
    for (std::uint64_t zxid = 1; zxid <= 150; ++zxid) {
      const bool multi = random.below(2) == 0;
      if (multi) {
        std::vector<std::pair<Op, std::string>> ops;
        for (std::size_t n = 1 + random.below(6); n > 0; --n) ops.push_back(random.op());
        request.op = Op::kMulti;
        request.body = multi_body(ops);
      } else {
        const auto op = random.op();
        if (op.first == Op::kCheck) continue;
        request.op = op.first;
        request.body = op.second;
      }
      const std::string before = preparer.overlay().describe();
      const Txn txn = preparer.prepare(request, Zxid{zxid}, 1000, false);
      ASSERT_FALSE(txn.changes.empty());
      if (std::holds_alternative<ErrorTxn>(txn.changes.front())) {
        ++failed;
        ASSERT_EQ(preparer.overlay().describe(), before) << "seed " << seed << " zxid " << zxid;
      } else {
        ++succeeded;
      }
    }
  }
  EXPECT_GT(failed, 1000u);
  EXPECT_GT(succeeded, 1000u);
}

}  // namespace
}  // namespace coord::tree::test
