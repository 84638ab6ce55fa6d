// Stat as client-protocol.md section 6 has it; numbers are the items of its section 18.
#include "tests/replica/tree/machine_harness.h"

namespace coord::tree {
namespace {

using namespace machine_test;
using wire::Op;

class StatTest : public MachineTest {};

// 47, and the other implicit nodes.
TEST(BootstrapTest, stats_of_a_fresh_tree) {
  StateMachine machine{Limits()};
  Peer peer;
  const auto stat = [&](std::string_view path) {
    std::string out;
    EXPECT_EQ(machine.read(peer, Op::kExists, watch_body(path, false), out, nullptr), Err::kOk) << path;
    wire::Reader r(out);
    return wire::read_stat(r);
  };
  Stat root;
  root.cversion = -1;
  root.num_children = 1;
  EXPECT_EQ(stat("/"), root);
  EXPECT_EQ(stat(""), root);
  Stat zookeeper;
  zookeeper.cversion = -2;
  zookeeper.num_children = 2;
  EXPECT_EQ(stat("/zookeeper"), zookeeper);
  EXPECT_EQ(stat("/zookeeper/quota"), Stat());
  Stat config;
  config.aversion = -1;
  EXPECT_EQ(stat("/zookeeper/config"), config);
  EXPECT_EQ(machine.node_count(), 5U);
  EXPECT_EQ(machine.ephemeral_count(), 0U);
  EXPECT_EQ(machine.dirty_nodes(), 0U);
}

TEST_F(StatTest, the_first_child_of_the_root_makes_its_cversion_0) {
  create("/x");
  EXPECT_EQ(stat("/").cversion, 0);
}

TEST_F(StatTest, item_1_cversion_and_suffix) {
  create("/q");
  create("/q/p");
  remove("/q/p");
  const Applied reply = request(Op::kCreate, create_body("/q/s", "", 2));
  EXPECT_EQ(reply.body, path_body("/q/s0000000001"));
  EXPECT_EQ(stat("/q").cversion, 3);
  EXPECT_EQ(stat("/q").num_children, 1);
}

TEST_F(StatTest, item_2_delete_moves_pzxid_and_cversion) {
  create("/q", "data");
  create("/q/p");
  const Stat before = stat("/q");
  remove("/q/p");
  Stat expected = before;
  expected.pzxid = last_zxid().wire();
  expected.cversion += 1;
  expected.num_children = 0;
  EXPECT_EQ(stat("/q"), expected);
}

TEST_F(StatTest, item_3_failed_writes_burn_a_zxid) {
  create("/a");
  const Zxid before = machine.last_applied();
  EXPECT_EQ(request(Op::kCreate, create_body("/a", "")).err, Err::kNodeExists);
  EXPECT_EQ(machine.last_applied().value, before.value + 1);
}

TEST_F(StatTest, of_a_new_node) {
  create("/a", "12345");
  Stat s;
  s.czxid = s.mzxid = s.pzxid = last_zxid().wire();
  s.ctime = s.mtime = now;
  s.data_length = 5;
  EXPECT_EQ(stat("/a"), s);
}

TEST_F(StatTest, set_data_moves_version_mzxid_and_mtime_only) {
  create("/a", "1");
  Stat expected = stat("/a");
  now += 50;
  const Applied reply = request(Op::kSetData, set_data_body("/a", "1"));  // the same bytes count too
  expected.version = 1;
  expected.mzxid = last_zxid().wire();
  expected.mtime = now;
  EXPECT_EQ(stat("/a"), expected);
  EXPECT_EQ(reply.body, encoded(expected));
}

TEST_F(StatTest, item_20_null_data_is_not_empty_data) {
  create("/null", std::nullopt);
  create("/empty", "");
  const auto length = [&](std::string_view path) {
    const Answered answer = read(Op::kGetData, watch_body(path, false));
    wire::Reader r(answer.body);
    return r.i32();
  };
  EXPECT_EQ(length("/null"), -1);
  EXPECT_EQ(length("/empty"), 0);
  EXPECT_EQ(stat("/null").data_length, 0);
  set("/empty", std::nullopt);
  EXPECT_EQ(length("/empty"), -1);
  set("/null", "x");
  EXPECT_EQ(length("/null"), 1);
}

TEST_F(StatTest, item_21_containers_show_no_owner_and_ephemerals_do) {
  ASSERT_EQ(request(Op::kCreateContainer, create_body("/c", "", 4)).err, Err::kOk);
  create("/e", "", 1);
  EXPECT_EQ(stat("/c").ephemeral_owner, 0);
  EXPECT_EQ(stat("/e").ephemeral_owner, 100);
  create("/c/child");
  EXPECT_EQ(machine.ephemeral_count(), 1U);
}

TEST_F(StatTest, item_31_set_acl_changes_aversion_only) {
  create("/a", "1");
  Stat expected = stat("/a");
  const Applied reply = request(Op::kSetAcl, body([](wire::Writer& w) {
                                  w.buffer(std::string_view("/a"));
                                  wire::write(w, Acl{AclEntry{perm::kRead, AuthId{"world", "anyone"}}});
                                  w.i32(-1);
                                }));
  expected.aversion = 1;
  EXPECT_EQ(stat("/a"), expected);
  EXPECT_EQ(reply.body, encoded(expected));
}

TEST_F(StatTest, item_46_one_timestamp_and_czxid_for_a_multi) {
  const std::string bytes = body([](wire::Writer& w) {
    for (const char* path : {"/m", "/m/1"}) {
      wire::write(w, wire::MultiHeader{1, false, -1});
      w.raw(create_body(path, ""));
    }
    wire::write(w, wire::MultiHeader{-1, true, -1});
  });
  ASSERT_EQ(request(Op::kMulti, bytes).err, Err::kOk);
  EXPECT_EQ(stat("/m").czxid, stat("/m/1").czxid);
  EXPECT_EQ(stat("/m").ctime, stat("/m/1").ctime);
  EXPECT_EQ(stat("/m").pzxid, stat("/m/1").czxid);
}

TEST_F(StatTest, create2_answers_what_a_read_shows) {
  const Applied reply = request(Op::kCreate2, create_body("/a", "xyz"));
  EXPECT_EQ(reply.body, path_body("/a") + encoded(stat("/a")));
}

TEST_F(StatTest, a_moved_node_keeps_its_own_and_moves_that_of_both_parents) {
  create("/a");
  create("/b");
  create("/a/n", "data");
  const Stat before = stat("/a/n");
  const Stat a = stat("/a");
  const Stat b = stat("/b");
  Txn txn;
  txn.op = Op::kRename;
  txn.changes.emplace_back(MoveTxn{info("/a/n").id, info("/b").id, "m", 1});
  apply(txn);
  EXPECT_FALSE(exists("/a/n"));
  EXPECT_EQ(stat("/b/m"), before);
  EXPECT_EQ(stat("/a").cversion, a.cversion + 1);
  EXPECT_EQ(stat("/a").pzxid, last_zxid().wire());
  EXPECT_EQ(stat("/b").cversion, b.cversion + 1);
  EXPECT_EQ(stat("/b").pzxid, last_zxid().wire());
}

TEST_F(StatTest, reaping_finds_used_empty_containers_and_old_ttl_nodes) {
  ASSERT_EQ(request(Op::kCreateContainer, create_body("/c", "", 4)).err, Err::kOk);
  const std::string ttl = body([](wire::Writer& w) { w.i64(1000); });
  ASSERT_EQ(request(Op::kCreateTtl, create_body("/t", "", 5) + ttl).err, Err::kOk);
  EXPECT_TRUE(machine.reap(now + 1000, 10).empty());
  create("/c/x");
  create("/t/x");
  EXPECT_TRUE(machine.reap(now + 5000, 10).empty());
  remove("/c/x");
  remove("/t/x");
  EXPECT_EQ(machine.reap(now + 5000, 10).size(), 2U);
  const std::vector<Request> due = machine.reap(now + 5000, 1);
  ASSERT_EQ(due.size(), 1U);
  EXPECT_EQ(due[0].body, path_body("/c"));
  EXPECT_EQ(request(due[0].session, due[0].op, due[0].body).err, Err::kOk);
  EXPECT_FALSE(exists("/c"));
  now += 2000;
  set("/t", "fresh");
  EXPECT_TRUE(machine.reap(now + 1000, 10).empty());
}

}  // namespace
}  // namespace coord::tree
