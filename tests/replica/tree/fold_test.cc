// Folds and the way back: random transactions, folded into a map as the store would keep it, loaded into a fresh one.
#include <map>
#include <random>
#include <set>

#include "replica/tree/data_tree.h"
#include "replica/tree/record.h"
#include "tests/replica/tree/machine_harness.h"

namespace coord::tree {
namespace {

using namespace machine_test;
using wire::Op;

// What the store holds.
struct Records {
  void add(Fold fold) {
    for (auto& [id, record] : fold.nodes) put(nodes, id, std::move(record));
    for (auto& [id, record] : fold.sessions) put(sessions, id, std::move(record));
    counters = std::move(fold.counters);
    tree_durable = fold.tree_durable;
  }
  template <class Map, class Key>
  void put(Map& map, Key id, std::optional<std::string> record) {
    if (record) {
      map[id] = *std::move(record);
    } else {
      map.erase(id);
    }
  }
  // The first Fault's text, or empty.
  std::string load(StateMachine& machine, bool backwards = false) const {
    std::string fault;
    const auto check = [&](const Result<bool, Fault>& result) {
      if (!result && fault.empty()) fault = result.error().message;
    };
    if (backwards) {
      for (auto at = nodes.rbegin(); at != nodes.rend(); ++at) check(machine.load_node(at->first, at->second));
    } else {
      for (const auto& [id, record] : nodes) check(machine.load_node(id, record));
    }
    for (const auto& [id, record] : sessions) check(machine.load_session(id, record));
    if (!counters.empty()) check(machine.load_counters(counters));
    if (fault.empty()) check(machine.finish_load(tree_durable));
    return fault;
  }

  std::map<NodeId, std::string> nodes;
  std::map<SessionId, std::string> sessions;
  std::string counters;
  Zxid tree_durable;
};

class FoldTest : public MachineTest {
 protected:
  // A tree of some variety: /a with children, an ephemeral, an ACL of its own.
  Records some_tree() {
    create("/a", "data");
    const Acl acl{AclEntry{perm::kAll, AuthId{"digest", "u:h"}}, AclEntry{1, {"world", "anyone"}}};
    create("/a/b", std::nullopt, 0, acl);
    create("/e", "x", 1);
    Records records;
    records.add(machine.take_fold());
    return records;
  }
  static NodeId find(const Records& records, std::string_view name) {
    for (const auto& [id, record] : records.nodes) {
      Node node;
      EXPECT_TRUE(decode_node(record, node));
      if (node.name == name) return id;
    }
    return NodeId();
  }
  static std::string fault_of(const Records& records, const Limits& limits = {}) {
    StateMachine other{limits};
    return records.load(other);
  }
  static bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  }
};

TEST_F(FoldTest, damage_is_a_fault_that_names_the_record) {
  const Records good = some_tree();
  ASSERT_EQ(fault_of(good), "");
  const NodeId a = find(good, "a");
  const NodeId b = find(good, "b");
  Records bad = good;
  bad.nodes.erase(a);
  EXPECT_TRUE(contains(fault_of(bad), "node record " + std::to_string(b.value) + ": its parent"));
  bad = good;
  bad.nodes[NodeId(a.value + 40)] = good.nodes.at(a);  // the same name twice
  EXPECT_TRUE(contains(fault_of(bad), "taken in its parent 1"));
  bad = good;
  bad.sessions.clear();
  EXPECT_TRUE(contains(fault_of(bad), "node record " + std::to_string(find(good, "e").value) + ": the session"));
  bad = good;
  bad.counters.clear();
  EXPECT_TRUE(contains(fault_of(bad), "counter"));
  bad = good;
  bad.nodes[a].pop_back();
  EXPECT_TRUE(contains(fault_of(bad), "node record " + std::to_string(a.value) + ": cannot be decoded"));
  bad = good;
  bad.sessions.begin()->second[0] = 9;
  EXPECT_TRUE(contains(fault_of(bad), "session record 100: cannot be decoded"));
  bad = good;
  bad.counters = "?";
  EXPECT_TRUE(contains(fault_of(bad), "counters"));
  bad = good;
  bad.nodes[NodeId(7)] = good.nodes.at(a);
  EXPECT_TRUE(contains(fault_of(bad), "node record 7"));
}

TEST_F(FoldTest, the_same_id_twice_is_a_fault) {
  const Records good = some_tree();
  StateMachine other{Limits()};
  const NodeId a = find(good, "a");
  ASSERT_TRUE(other.load_node(a, good.nodes.at(a)));
  ASSERT_TRUE(other.load_node(a, good.nodes.at(a)));
  ASSERT_TRUE(other.load_counters(good.counters));
  const auto finished = other.finish_load(good.tree_durable);
  ASSERT_FALSE(finished);
  EXPECT_TRUE(contains(finished.error().message, "node record " + std::to_string(a.value) + ": there twice"));
}

TEST_F(FoldTest, a_circle_away_from_the_root_is_a_fault) {
  Records records = some_tree();
  // a and b become each other's parent.
  const NodeId a = find(records, "a");
  const NodeId b = find(records, "b");
  Node parent;
  parent.id = b;
  Node node;
  ASSERT_TRUE(decode_node(records.nodes.at(a), node));
  node.parent = &parent;
  records.nodes[a] = encode_node(node, open_acl());
  EXPECT_TRUE(contains(fault_of(records), "not below the root"));
}

TEST_F(FoldTest, damaged_records_never_crash) {
  const Records good = some_tree();
  for (const auto& [id, record] : good.nodes) {
    for (std::size_t i = 0; i < record.size(); ++i) {
      Records bad = good;
      bad.nodes[id][i] = static_cast<char>(record[i] ^ 0x41);
      fault_of(bad);
    }
  }
}

TEST_F(FoldTest, has_what_changed_and_nothing_else) {
  some_tree();
  EXPECT_EQ(machine.dirty_nodes(), 0U);
  EXPECT_EQ(machine.dirty_bytes(), 0U);
  set("/a", "other");
  set("/a", "again");
  EXPECT_EQ(machine.dirty_nodes(), 1U);
  EXPECT_GT(machine.dirty_bytes(), 0U);
  Fold fold = machine.take_fold();
  EXPECT_EQ(fold.nodes.size(), 1U);
  EXPECT_EQ(fold.tree_durable, machine.last_applied());
  EXPECT_TRUE(fold.sessions.empty());
  create("/a/t");
  remove("/a/t");
  fold = machine.take_fold();  // the parent, and the child as gone
  ASSERT_EQ(fold.nodes.size(), 2U);
  EXPECT_FALSE(fold.nodes[1].second.has_value());
  request(Op::kCloseSession, "");
  fold = machine.take_fold();
  ASSERT_EQ(fold.sessions.size(), 1U);
  EXPECT_FALSE(fold.sessions[0].second.has_value());
}

TEST_F(FoldTest, an_empty_store_loads_as_a_fresh_tree) {
  StateMachine other{Limits()};
  ASSERT_EQ(Records().load(other), "");
  EXPECT_EQ(other.digest(), StateMachine(Limits()).digest());
  EXPECT_EQ(other.node_count(), 5U);
}

// Random transactions straight on a DataTree: digest against recomputed, fold and load against the original.
class RandomTree {
 public:
  explicit RandomTree(unsigned seed) : random_(seed) { nodes_.push_back(kRootNode); }

  void step() {
    zxid_ = Zxid(zxid_.value + 1);
    switch (random_() % 10) {
      case 0:
      case 1:
      case 2:
      case 3:
        return create();
      case 4:
        return erase();
      case 5: {
        const bool null_data = random_() % 4 == 0;
        const std::string data = text(null_data ? 0 : random_() % 40);
        return tree.set_data(pick(), SetDataTxn{NodeId(), null_data, data, 3}, zxid_, 7);
      }
      case 6:
        return tree.set_acl(pick(), SetAclTxn{NodeId(), acl(), 1});
      case 7:
        return tree.set_attributes(pick(), {Shape::kDir, static_cast<std::uint16_t>(random_() % 2 * 0111), 5});
      case 8:
        return random_() % 2 == 0 ? move() : exchange();
      default:
        return sessions();
    }
  }
  void finish() { tree.set_last_applied(zxid_); }

  DataTree tree;

 private:
  Node& pick() { return tree.get(nodes_[random_() % nodes_.size()]); }
  std::string text(std::size_t n) { return std::string(n, static_cast<char>('a' + random_() % 26)); }
  Acl acl() {
    if (random_() % 2 == 0) return open_acl();
    return {AclEntry{static_cast<std::int32_t>(random_() % 32), AuthId{"digest", text(3)}}};
  }
  void create() {
    Node& parent = pick();
    const std::string name = "n" + std::to_string(random_() % 30);
    if (parent.lifetime == Lifetime::kEphemeral || tree.nodes().child(parent.id, name) != nullptr) return;
    CreateTxn c;
    c.id = tree.next_node_id();
    c.parent = parent.id;
    c.name = name;
    c.null_data = random_() % 5 == 0;
    if (!c.null_data) c.data = text(random_() % 60);
    c.acl = acl();
    c.lifetime = static_cast<Lifetime>(random_() % 4);
    if (c.lifetime == Lifetime::kEphemeral && tree.sessions().empty()) return;
    if (c.lifetime == Lifetime::kEphemeral) c.owner = tree.sessions().begin()->first;
    c.ttl_ms = 5;
    c.parent_creates = parent.creates + 1;
    c.parent_becomes_dir = random_() % 4 == 0;
    nodes_.push_back(c.id);
    tree.create(c, zxid_, 5, random_() % 2 == 0);
  }
  void erase() {
    Node& node = pick();
    if (node.id != kRootNode && node.num_children == 0) drop(node);
  }
  void drop(Node& node) {
    std::erase(nodes_, node.id);
    tree.erase(node, zxid_);
  }
  bool is_below(const Node& node, const Node& top) {
    const Node* n = &node;
    while (n != &top && n != &tree.nodes().root()) n = n->parent;
    return n == &top;
  }
  void move() {
    Node& node = pick();
    Node& parent = pick();
    const std::string name = "m" + std::to_string(random_() % 30);
    if (node.id == kRootNode || is_below(parent, node) || parent.lifetime == Lifetime::kEphemeral) return;
    if (tree.nodes().child(parent.id, name) == nullptr) tree.move(node, parent, name, parent.creates + 1, zxid_);
  }
  void exchange() {
    Node& a = pick();
    Node& b = pick();
    if (a.id != kRootNode && b.id != kRootNode && !is_below(a, b) && !is_below(b, a)) tree.exchange(a, b, zxid_);
  }
  void sessions() {
    const SessionId id(static_cast<std::int64_t>(random_() % 4 + 1));
    const Session* session = tree.session(id);
    if (session == nullptr) return tree.create_session({id, 4000});
    if (random_() % 8 != 0) {
      tree.keep_answer(id, static_cast<std::int64_t>(++seq_), {Err::kNoAuth, text(10)});
      if (random_() % 3 == 0) tree.acknowledge(id, static_cast<std::int64_t>(seq_ - random_() % 5));
      return;
    }
    const std::set<NodeId> ephemerals = session->ephemerals;
    for (const NodeId node : ephemerals) drop(tree.get(node));
    tree.close_session(id);
  }

  std::mt19937 random_;
  std::vector<NodeId> nodes_;
  Zxid zxid_{1, 0};
  std::uint64_t seq_ = 10;
};

TEST(RandomFoldTest, loads_back_to_the_same_digest) {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    RandomTree random(seed);
    Records records;
    for (int step = 0; step < 1500; ++step) {
      random.step();
      if (step % 97 != 0) continue;
      random.finish();
      Fold fold;
      random.tree.take_fold(fold);
      records.add(std::move(fold));
      ASSERT_EQ(random.tree.digest(), random.tree.recomputed_digest()) << "seed " << seed << " step " << step;
    }
    random.finish();
    Fold fold;
    random.tree.take_fold(fold);
    records.add(std::move(fold));
    for (const bool backwards : {false, true}) {
      StateMachine loaded{Limits()};
      ASSERT_EQ(records.load(loaded, backwards), "") << "seed " << seed;
      EXPECT_EQ(loaded.digest(), random.tree.digest()) << "seed " << seed;
      EXPECT_EQ(loaded.node_count(), random.tree.nodes().size() + 1);
      EXPECT_EQ(loaded.ephemeral_count(), random.tree.ephemeral_count());
      EXPECT_EQ(loaded.data_bytes(), random.tree.data_bytes());
      EXPECT_EQ(loaded.last_applied(), random.tree.last_applied());
      EXPECT_EQ(loaded.dirty_nodes(), 0U);
    }
  }
}

TEST_F(FoldTest, a_loaded_machine_goes_on_as_the_original) {
  const Records records = some_tree();
  StateMachine other{Limits()};
  ASSERT_EQ(records.load(other), "");
  ASSERT_EQ(other.digest(), machine.digest());
  Request r;
  r.session = SessionId(100);
  r.op = Op::kCreate;
  r.body = create_body("/a/s", "", 2);
  const Zxid zxid = next_zxid();
  const std::string payload = machine.prepare(r, zxid, now);
  RecordingSink ignored;
  EXPECT_EQ(machine.apply(zxid, payload, true, sink).body, other.apply(zxid, payload, true, ignored).body);
  EXPECT_EQ(other.digest(), machine.digest());
}

TEST_F(FoldTest, enrolled_directories_are_replicated_and_survive) {
  create("/a");
  const auto enrol = [&](const std::map<Sid, std::string>& directories, SessionId session) {
    Request r;
    r.session = session;
    r.op = Op::kEnrol;
    wire::Writer writer(r.body);
    write_directories(writer, directories);
    const Zxid zxid = next_zxid();
    return machine.apply(zxid, machine.prepare(r, zxid, now), true, sink).err;
  };
  const std::uint64_t before = machine.digest();
  EXPECT_EQ(enrol({{Sid(1), "one"}, {Sid(2), "two"}}, SessionId(100)), Err::kUnimplemented) << "from a client";
  EXPECT_TRUE(machine.enrolled().empty());
  EXPECT_EQ(enrol({{Sid(1), "one"}, {Sid(2), "two"}}, SessionId{}), Err::kOk);
  EXPECT_EQ(enrol({{Sid(2), "new"}, {Sid(3), "three"}}, SessionId{}), Err::kOk);
  const std::map<Sid, std::string> all{{Sid(1), "one"}, {Sid(2), "new"}, {Sid(3), "three"}};
  EXPECT_EQ(machine.enrolled(), all);
  EXPECT_NE(machine.digest(), before);
  Records records;
  records.add(machine.take_fold());
  StateMachine other{Limits()};
  ASSERT_EQ(records.load(other), "");
  EXPECT_EQ(other.enrolled(), all);
  EXPECT_EQ(other.digest(), machine.digest());
  EXPECT_FALSE(StateMachine::is_write(Op::kEnrol, "")) << "never taken from a client";
  EXPECT_FALSE(StateMachine::is_read(Op::kEnrol));
}

// Of an ensemble with a list, at level 2.
class EnsembleFoldTest : public FoldTest {
 protected:
  void apply_change(Op op, Change change) {
    Txn txn;
    txn.op = op;
    txn.changes.emplace_back(std::move(change));
    ASSERT_EQ(apply(std::move(txn)).err, Err::kOk);
  }
  void make_ensemble() {
    create("/a");
    apply_change(Op::kEnrol, EnrolTxn{{{Sid(1), "one"}, {Sid(9), "nine"}}});
    apply_change(Op::kFeatureLevel, FeatureLevelTxn{2});
    apply_change(Op::kReconfig,
                 ReconfigTxn{{Member{Sid(1), "a", 1, 2, false, "0.0.0.0:3"}, Member{Sid(2), "::1", 1, 2, true, ""}},
                             {{Sid(2), "two"}}});
    version_ = last_zxid();
    create("/b");
  }
  Zxid version_;
};

TEST_F(EnsembleFoldTest, members_and_level_survive) {
  const std::uint64_t before = machine.digest();
  make_ensemble();
  EXPECT_NE(machine.digest(), before);
  Records records;
  records.add(machine.take_fold());
  StateMachine other{Limits()};
  ASSERT_EQ(records.load(other), "");
  EXPECT_EQ(other.members(), machine.members());
  EXPECT_EQ(other.members().size(), 2U);
  EXPECT_EQ(other.members_version(), version_);
  EXPECT_EQ(other.feature_level(), 2);
  EXPECT_EQ(other.enrolled(), (std::map<Sid, std::string>{{Sid(1), "one"}, {Sid(2), "two"}}));
  EXPECT_EQ(other.digest(), machine.digest());
  EXPECT_EQ(other.take_fold().counters, records.counters);
  // Both go on alike.
  Txn txn;
  txn.op = Op::kReconfig;
  txn.changes.emplace_back(ReconfigTxn{{Member{Sid(1), "a", 1, 2, false, "0.0.0.0:3"}}, {}});
  std::string payload;
  encode(txn, payload);
  const Zxid zxid = next_zxid();
  RecordingSink ignored;
  machine.apply(zxid, payload, false, sink);
  other.apply(zxid, payload, false, ignored);
  EXPECT_EQ(other.digest(), machine.digest());
}

TEST_F(EnsembleFoldTest, each_part_is_in_the_digest) {
  make_ensemble();
  const Member one{Sid(1), "a", 1, 2, false, "0.0.0.0:3"};
  std::set<std::uint64_t> digests;
  const std::vector<Counters> all = {
      {NodeId(20), {}, 1, Zxid(), {}},
      {NodeId(20), {}, 2, Zxid(), {}},
      {NodeId(20), {}, 2, Zxid(7), {one}},
      {NodeId(20), {}, 2, Zxid(8), {one}},
      {NodeId(20), {}, 2, Zxid(7), {one, Member{Sid(2), "a", 1, 2, false, "0.0.0.0:3"}}},
      {NodeId(20), {}, 2, Zxid(7), {Member{Sid(2), "a", 1, 2, false, "0.0.0.0:3"}}},
      {NodeId(20), {}, 2, Zxid(7), {Member{Sid(1), "b", 1, 2, false, "0.0.0.0:3"}}},
      {NodeId(20), {}, 2, Zxid(7), {Member{Sid(1), "a", 2, 2, false, "0.0.0.0:3"}}},
      {NodeId(20), {}, 2, Zxid(7), {Member{Sid(1), "a", 1, 1, false, "0.0.0.0:3"}}},
      {NodeId(20), {}, 2, Zxid(7), {Member{Sid(1), "a", 1, 2, true, "0.0.0.0:3"}}},
      {NodeId(20), {}, 2, Zxid(7), {Member{Sid(1), "a", 1, 2, false, ""}}},
  };
  for (const Counters& counters : all) {
    StateMachine other{Limits()};
    ASSERT_TRUE(other.load_counters(encode_counters(counters)));
    ASSERT_TRUE(other.finish_load(Zxid(9)));
    digests.insert(other.digest());
    EXPECT_EQ(other.take_fold().counters, encode_counters(counters));
  }
  EXPECT_EQ(digests.size(), all.size());
  EXPECT_TRUE(digests.contains(StateMachine(Limits()).digest())) << "of a tree without all this";
  EXPECT_EQ(StateMachine(Limits()).digest(), 6355211390989990455ULL) << "what the first release computes";
}

// What the first release wrote, byte for byte.
TEST_F(FoldTest, level_one_is_written_as_ever) {
  std::string old;
  wire::Writer w(old);
  w.i8(1);
  w.i64(16);
  EXPECT_EQ(StateMachine(Limits()).take_fold().counters, old);
  EXPECT_EQ(encode_counters(Counters{NodeId(16), {}, 1, Zxid(), {}}), old);
  w.i32(1);
  w.i32(3);
  w.buffer(std::string_view("dir"));
  EXPECT_EQ(encode_counters(Counters{NodeId(16), {{Sid(3), "dir"}}, 1, Zxid(), {}}), old);
  StateMachine other{Limits()};
  ASSERT_TRUE(other.load_counters(old));
  EXPECT_EQ(other.feature_level(), 1);
  EXPECT_EQ(other.members_version(), Zxid());
  EXPECT_EQ(other.take_fold().counters, old);
}

TEST_F(EnsembleFoldTest, a_level_above_what_is_known_is_a_fault_that_names_both) {
  make_ensemble();
  Records records;
  records.add(machine.take_fold());
  Limits held_back;
  held_back.feature_level_known = 1;
  EXPECT_TRUE(contains(fault_of(records, held_back), "feature level 2, and this replica knows 1"));
  // A later release: who knows what else it writes there.
  records.counters = encode_counters(Counters{NodeId(40), {{Sid(1), "one"}}, 7, Zxid(1), {}}) + "and more";
  EXPECT_TRUE(contains(fault_of(records), "feature level 7, and this replica knows 2")) << fault_of(records);
  Limits bold;
  bold.feature_level_known = 9;
  EXPECT_TRUE(contains(fault_of(records, bold), "feature level 7, and this replica knows 2")) << "it cannot read that";
}

TEST_F(EnsembleFoldTest, damage_of_the_list_is_a_fault) {
  make_ensemble();
  const std::string good = machine.take_fold().counters;
  const auto loads = [](const std::string& record) { return StateMachine(Limits()).load_counters(record).has_value(); };
  ASSERT_TRUE(loads(good));
  std::string enrolled;  // what an older reader takes for the end
  wire::Writer w(enrolled);
  w.i8(1);
  w.i64(static_cast<std::int64_t>(NodeId(18).value));
  write_directories(w, {{Sid(1), "one"}, {Sid(2), "two"}});
  ASSERT_EQ(good.substr(0, enrolled.size()), enrolled);
  for (std::size_t n = enrolled.size() + 1; n < good.size(); ++n) EXPECT_FALSE(loads(good.substr(0, n))) << n;
  EXPECT_FALSE(loads(good + "x"));
  for (std::size_t i = 0; i < good.size(); ++i) {
    std::string damaged = good;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x41);
    static_cast<void>(loads(damaged));
  }
  const Member one{Sid(1), "a", 1, 2, false, ""};
  EXPECT_FALSE(loads(encode_counters(Counters{NodeId(20), {}, 2, Zxid(), {one}}))) << "a list without a version";
  EXPECT_FALSE(loads(encode_counters(Counters{NodeId(20), {}, 2, Zxid(7), {}}))) << "and the other way round";
  EXPECT_FALSE(loads(encode_counters(Counters{NodeId(20), {}, 1, Zxid(7), {one}}))) << "at a level that has none";
  EXPECT_FALSE(loads(encode_counters(Counters{NodeId(20), {}, 0, Zxid(), {}})));
}

}  // namespace
}  // namespace coord::tree
