// Who hears of which change, and in which order: watches (client-protocol.md section 7) and change events
// (common/wire/extension.h). Numbers are the items of section 18.
#include "replica/tree/node_info.h"
#include "tests/replica/tree/machine_harness.h"

namespace coord::tree {
namespace {

using namespace machine_test;
using wire::Op;
using Log = std::vector<std::string>;

class DeliveryTest : public MachineTest {
 protected:
  DeliveryTest() { open_session(SessionId(200), ConnId(2)); }

  void watch(Op op, std::string_view path, std::uint64_t conn = 1) {
    read(peer_of(SessionId(100), ConnId(conn)), op, watch_body(path, true));
  }
  void add_watch(std::string_view path, int mode, std::uint64_t conn = 1) {
    EXPECT_EQ(read(peer_of(SessionId(100), ConnId(conn)), Op::kAddWatch, path_version_body(path, mode)).err, Err::kOk);
  }
  NodeId hold(std::string_view path, std::uint64_t conn = 2) {
    wire::LookupRequest lookup;
    lookup.parent = info(path).id;
    lookup.hold = true;
    EXPECT_EQ(read(peer_of(SessionId(200), ConnId(conn)), Op::kLookup, encoded(lookup)).err, Err::kOk);
    return lookup.parent;
  }
  Log seen() { return sink.take_log(); }
  template <class C>
  void change(Op op, std::initializer_list<C> changes) {
    Txn txn;
    txn.session = SessionId(100);
    txn.op = op;
    for (const C& c : changes) txn.changes.emplace_back(c);
    apply(txn);
  }
};

TEST_F(DeliveryTest, failed_writes_and_rolled_back_multis_tell_nobody) {
  create("/a");
  watch(Op::kExists, "/b");
  watch(Op::kGetChildren, "/");
  request(Op::kCreate, create_body("/a", ""));
  request(Op::kMulti, body([](wire::Writer& w) {
            for (const char* path : {"/b", "/a"}) {
              wire::write(w, wire::MultiHeader{1, false, -1});
              w.raw(create_body(path, ""));
            }
            wire::write(w, wire::MultiHeader{-1, true, -1});
          }));
  EXPECT_EQ(seen(), Log());
  EXPECT_FALSE(exists("/b"));
}

TEST_F(DeliveryTest, create_tells_the_node_then_the_parent) {
  watch(Op::kGetChildren, "/");
  watch(Op::kExists, "/a");
  create("/a");
  EXPECT_EQ(seen(), (Log{"1 created /a", "1 children /"}));
  EXPECT_EQ(sink.watches[0].zxid, last_zxid());
  remove("/a");
  EXPECT_EQ(seen(), Log());  // one shot
}

// 10.
TEST_F(DeliveryTest, one_deleted_event_for_data_and_child_watch_of_one_connection) {
  create("/p");
  create("/p/n");
  watch(Op::kGetData, "/p/n");
  watch(Op::kExists, "/p/n");
  watch(Op::kGetChildren, "/p/n");
  watch(Op::kGetChildren, "/p/n", 2);
  watch(Op::kGetChildren, "/p");
  remove("/p/n");
  EXPECT_EQ(seen(), (Log{"1 deleted /p/n", "2 deleted /p/n", "1 children /p"}));
  EXPECT_EQ(machine.watch_count(), 0U);
}

TEST_F(DeliveryTest, set_data_tells_data_watches_even_if_nothing_changes) {
  create("/a", "x");
  watch(Op::kGetData, "/a");
  watch(Op::kGetChildren, "/a");
  set("/a", "x");
  EXPECT_EQ(seen(), Log{"1 data /a"});
}

TEST_F(DeliveryTest, item_31_set_acl_tells_no_watch) {
  create("/a", "x");
  watch(Op::kGetData, "/a");
  add_watch("/", 1);
  request(Op::kSetAcl, body([](wire::Writer& w) {
            w.buffer(std::string_view("/a"));
            wire::write(w, open_acl());
            w.i32(-1);
          }));
  EXPECT_EQ(seen(), Log());
}

// 32.
TEST_F(DeliveryTest, recursive_ones_never_hear_of_children_and_persistent_ones_do) {
  add_watch("/p", 0);
  add_watch("/p", 1, 2);
  create("/p");
  create("/p/n");
  create("/p/n/m");
  set("/p/n", "x");
  remove("/p/n/m");
  remove("/p/n");
  remove("/p");
  EXPECT_EQ(seen(), (Log{"1 created /p", "2 created /p", "2 created /p/n", "1 children /p", "2 created /p/n/m",
                         "2 data /p/n", "2 deleted /p/n/m", "2 deleted /p/n", "1 children /p", "1 deleted /p",
                         "2 deleted /p"}));
}

TEST_F(DeliveryTest, a_multi_tells_in_the_order_of_its_operations) {
  add_watch("/", 1);
  request(Op::kMulti, body([](wire::Writer& w) {
            wire::write(w, wire::MultiHeader{1, false, -1});
            w.raw(create_body("/t", ""));
            wire::write(w, wire::MultiHeader{5, false, -1});
            w.raw(set_data_body("/t", "x", 0));
            wire::write(w, wire::MultiHeader{2, false, -1});
            w.raw(path_version_body("/t", 1));
            wire::write(w, wire::MultiHeader{-1, true, -1});
          }));
  EXPECT_EQ(seen(), (Log{"1 created /t", "1 data /t", "1 deleted /t"}));
}

// 42.
TEST_F(DeliveryTest, delivery_is_filtered_by_the_acl_of_the_node) {
  create("/p");
  const Acl nobody{AclEntry{perm::kAll, AuthId{"digest", "u:h"}}};
  watch(Op::kExists, "/p/secret");
  Peer friendly = peer_of(SessionId(200), ConnId(2));
  friendly.ids.push_back({"digest", "u:h"});
  machine.connection_opened(friendly);  // its ids grew
  watch(Op::kExists, "/p/secret", 2);
  watch(Op::kGetChildren, "/p");
  create("/p/secret", "", 0, nobody);
  EXPECT_EQ(seen(), (Log{"2 created /p/secret", "1 children /p"}));
  EXPECT_EQ(machine.watch_count(), 0U);  // the filtered one was used up
}

TEST_F(DeliveryTest, closing_a_session_deletes_in_the_order_of_ids_and_tells_the_parent_once) {
  create("/p");
  for (const char* path : {"/p/z", "/p/a", "/p/m"}) {
    ASSERT_EQ(request(SessionId(200), Op::kCreate, create_body(path, "", 1)).err, Err::kOk);
    watch(Op::kGetData, path);
  }
  watch(Op::kGetChildren, "/p");
  request(SessionId(200), Op::kCloseSession, "");
  EXPECT_EQ(seen(),
            (Log{"1 deleted /p/z", "1 children /p", "1 deleted /p/a", "1 deleted /p/m", "closed 200"}));
  EXPECT_EQ(stat("/p").pzxid, last_zxid().wire());
  EXPECT_FALSE(machine.session(SessionId(200)));
  EXPECT_EQ(machine.ephemeral_count(), 0U);
}

TEST_F(DeliveryTest, a_rename_is_a_deletion_and_a_creation_for_the_whole_subtree) {
  create("/a");
  create("/a/d");
  create("/a/d/f");
  create("/b");
  watch(Op::kGetData, "/a/d/f");
  watch(Op::kGetChildren, "/a/d");
  watch(Op::kGetChildren, "/a");
  watch(Op::kGetChildren, "/b");
  watch(Op::kExists, "/b/e/f");
  add_watch("/b", 1, 2);
  change(Op::kRename, {MoveTxn{info("/a/d").id, info("/b").id, "e", 1}});
  EXPECT_EQ(seen(), (Log{"1 deleted /a/d/f", "1 deleted /a/d", "1 children /a", "2 created /b/e", "1 created /b/e/f",
                         "2 created /b/e/f", "1 children /b"}));
  EXPECT_TRUE(exists("/b/e/f"));
}

TEST_F(DeliveryTest, what_takes_the_place_of_another_node_is_a_deletion_and_a_creation) {
  create("/a");
  create("/a/f");
  create("/a/tmp", "new");
  hold("/a");
  watch(Op::kGetData, "/a/f");
  add_watch("/a/f", 0, 2);
  const NodeId moved = info("/a/tmp").id;
  change<Change>(Op::kRename, {DeleteTxn{info("/a/f").id}, MoveTxn{moved, info("/a").id, "f", 3}});
  EXPECT_EQ(seen(), (Log{"1 deleted /a/f", "2 deleted /a/f", "2 created /a/f", "2 DELETED f", "2 RENAMED f"}));
  EXPECT_EQ(info("/a/f").id, moved);
  EXPECT_FALSE(exists("/a/tmp"));
}

TEST_F(DeliveryTest, each_connection_is_told_which_event_is_its_last_of_a_transaction) {
  open_session(SessionId(300), ConnId(3));
  create("/a");
  create("/b");
  const NodeId a = hold("/a");
  const NodeId b = hold("/b");
  wire::LookupRequest lookup;
  lookup.parent = a;
  lookup.hold = true;
  EXPECT_EQ(read(peer_of(SessionId(300), ConnId(3)), Op::kLookup, encoded(lookup)).err, Err::kOk);
  sink.changes.clear();
  change<Change>(Op::kMulti, {SetDataTxn{a, false, "1", 1}, SetDataTxn{b, false, "2", 1}});
  std::string told;
  for (const auto& [conn, event] : sink.changes) {
    told += std::to_string(conn.value) + event.node.name + (event.more ? "+ " : " ");
  }
  EXPECT_EQ(told, "2a+ 3a 2b ");
}

TEST_F(DeliveryTest, an_exchange_keeps_ids_and_counts_for_both_parents) {
  create("/a");
  create("/b");
  create("/a/x", "ax");
  create("/b/y", "by");
  const NodeId x = info("/a/x").id;
  const NodeId y = info("/b/y").id;
  const Stat a = stat("/a");
  change(Op::kRename, {ExchangeTxn{x, y}});
  EXPECT_EQ(info("/a/x").id, y);
  EXPECT_EQ(info("/b/y").id, x);
  EXPECT_EQ(stat("/a").cversion, a.cversion + 2);
  change(Op::kRename, {ExchangeTxn{info("/a").id, info("/b").id}});  // within one parent
  EXPECT_EQ(info("/b/x").id, y);
  EXPECT_EQ(info("/a/y").id, x);
}

TEST_F(DeliveryTest, holders_of_a_node_or_its_parent_get_change_events_after_the_watches) {
  create("/p");
  create("/p/other");
  hold("/p");
  watch(Op::kGetChildren, "/p");
  create("/p/n", "12");
  EXPECT_EQ(seen(), (Log{"1 children /p", "2 CREATED n"}));
  const wire::ChangeEvent created = sink.changes.back().second;
  EXPECT_EQ(created.zxid, last_zxid().wire());
  EXPECT_EQ(created.origin, SessionId(100));
  EXPECT_EQ(created.node.stat, stat("/p/n"));
  EXPECT_EQ(created.parent_stat, stat("/p"));
  EXPECT_FALSE(created.node.data.has_value());
  set("/p/n", "x");
  EXPECT_EQ(seen(), Log{"2 DATA n"});
  remove("/p/n");
  EXPECT_EQ(seen(), Log{"2 DELETED n"});
  EXPECT_EQ(sink.changes.back().second.node.stat.version, 1);
  EXPECT_EQ(sink.changes.back().second.parent_stat, stat("/p"));
}

// A listing shows n@ as long as n has children: who holds the directory alone must come to know, but not of each child.
TEST_F(DeliveryTest, the_first_and_the_last_child_of_a_child_are_told_to_holders_of_the_directory) {
  create("/p");
  create("/p/n", "12");
  create("/q");
  hold("/p");
  create("/p/n/x");
  ASSERT_EQ(seen(), Log{"2 CREATED x"});
  EXPECT_EQ(sink.changes.back().second.parent_stat, stat("/p/n"));
  create("/p/n/y");
  set("/p/n/x", "data");
  remove("/p/n/y");
  EXPECT_EQ(seen(), Log());
  remove("/p/n/x");
  ASSERT_EQ(seen(), Log{"2 DELETED x"});
  EXPECT_EQ(sink.changes.back().second.parent_stat.num_children, 0);
  create("/q/m");
  change(Op::kRename, {MoveTxn{info("/q/m").id, info("/p/n").id, "m", 1}});
  ASSERT_EQ(seen(), Log{"2 RENAMED m"});
  EXPECT_EQ(sink.changes.back().second.parent_stat.num_children, 1);
  change(Op::kRename, {MoveTxn{info("/p/n/m").id, info("/q").id, "m", 2}});
  ASSERT_EQ(seen(), Log{"2 RENAMED m"});
  EXPECT_EQ(sink.changes.back().second.old_parent_stat.num_children, 0);
}

TEST_F(DeliveryTest, the_children_of_a_directory_do_not_concern_holders_of_the_one_above) {
  create("/p");
  create("/p/dir", "");
  create("/p/dir/first");
  EXPECT_EQ(info("/p/dir").attributes.shape, Shape::kDir);
  remove("/p/dir/first");
  hold("/p");
  create("/p/dir/x");
  remove("/p/dir/x");
  EXPECT_EQ(seen(), Log());
}

TEST_F(DeliveryTest, a_first_child_that_makes_a_directory_tells_so) {
  create("/f", "");
  EXPECT_EQ(info("/f").attributes.shape, Shape::kFile);
  hold("/");
  create("/f/child");
  EXPECT_EQ(seen(), Log{"2 ATTRIBUTES f"});
  EXPECT_EQ(info("/f").attributes.shape, Shape::kDir);
}

TEST_F(DeliveryTest, rename_events_name_both_places) {
  create("/a");
  create("/b");
  create("/a/n");
  hold("/a");
  hold("/b", 1);
  change(Op::kRename, {MoveTxn{info("/a/n").id, info("/b").id, "m", 1}});
  EXPECT_EQ(seen(), (Log{"1 RENAMED m", "2 RENAMED m"}));
  const wire::ChangeEvent& event = sink.changes.back().second;
  EXPECT_EQ(event.old_name, "n");
  EXPECT_EQ(event.old_parent, info("/a").id);
  EXPECT_EQ(event.old_parent_stat, stat("/a"));
  EXPECT_EQ(event.parent_stat, stat("/b"));
}

TEST_F(DeliveryTest, acl_and_attributes_together_are_one_event) {
  create("/a");
  const NodeId a = hold("/a");
  change<Change>(Op::kSetAttributes, {SetAclTxn{a, open_acl(), 1}, SetAttributesTxn{a, {Shape::kFile, 0111, 0}}});
  EXPECT_EQ(seen(), Log{"2 ATTRIBUTES a"});
  EXPECT_EQ(sink.changes.back().second.node.attributes.exec, 0111);
  EXPECT_EQ(sink.changes.back().second.node.stat.aversion, 1);
}

TEST_F(DeliveryTest, forgotten_and_closed_ones_hear_nothing) {
  create("/a");
  const NodeId a = hold("/a");
  hold("/a", 1);
  EXPECT_EQ(read(peer_of(SessionId(200), ConnId(2)), Op::kForget, encoded(wire::ForgetRequest{{a}})).err, Err::kOk);
  set("/a", "x");
  EXPECT_EQ(seen(), Log{"1 DATA a"});
  machine.connection_closed(ConnId(1));
  set("/a", "x");
  EXPECT_EQ(seen(), Log());
}

TEST_F(DeliveryTest, resume_says_who_is_there_and_holds) {
  create("/a");
  const NodeId a = info("/a").id;
  const Answered answer =
      read(peer_of(SessionId(200), ConnId(2)), Op::kResume, encoded(wire::ResumeRequest{{NodeId(999), a}}));
  wire::Reader r(answer.body);
  wire::ResumeReply reply;
  wire::read(r, reply);
  ASSERT_EQ(reply.nodes.size(), 2U);
  EXPECT_FALSE(reply.nodes[0]);
  EXPECT_EQ(encoded(*reply.nodes[1]), encoded(info("/a")));
  set("/a", "x");
  EXPECT_EQ(seen(), Log{"2 DATA a"});
}

TEST_F(DeliveryTest, read_dir_is_sorted_and_holds_all) {
  create("/p");
  for (const char* path : {"/p/b", "/p/a"}) create(path, "x");
  wire::ReadDirRequest request;
  request.node = info("/p").id;
  request.hold = true;
  const Answered answer = read(peer_of(SessionId(200), ConnId(2)), Op::kReadDir, encoded(request));
  wire::Reader r(answer.body);
  wire::ReadDirReply reply;
  wire::read(r, reply);
  ASSERT_FALSE(r.failed());
  ASSERT_EQ(reply.children.size(), 2U);
  EXPECT_EQ(reply.children[0].name, "a");
  EXPECT_EQ(encoded(reply.children[1]), encoded(info("/p/b")));
  create("/p/b/c");
  EXPECT_EQ(seen(), (Log{"2 CREATED c"}));
}

TEST_F(DeliveryTest, lookup_gives_data_to_those_who_may_read_it_and_asked) {
  create("/a", "12345");
  wire::LookupRequest lookup;
  lookup.parent = kRootNode;
  lookup.name = "a";
  const auto data = [&](std::int32_t max) {
    lookup.data_max = max;
    const Answered answer = read(Op::kLookup, encoded(lookup));
    wire::Reader r(answer.body);
    wire::NodeInfo node;
    wire::read(r, node);
    return node.data;
  };
  EXPECT_EQ(data(0), std::nullopt);
  EXPECT_EQ(data(4), std::nullopt);
  EXPECT_EQ(data(5), "12345");
  lookup.name = "nope";
  EXPECT_EQ(read(Op::kLookup, encoded(lookup)).err, Err::kNoNode);
  lookup.parent = NodeId(4711);
  EXPECT_EQ(read(Op::kLookup, encoded(lookup)).err, Err::kStaleNode);
  wire::ReadNodeRequest node;
  node.node = NodeId(4711);
  EXPECT_EQ(read(Op::kReadNode, encoded(node)).err, Err::kStaleNode);
}

TEST_F(DeliveryTest, an_untrusted_peer_is_who_it_is) {
  create("/a", "x", 0, Acl{AclEntry{perm::kAll, AuthId{"unix", "u:1000"}}});
  wire::ReadNodeRequest request;
  request.node = info("/a").id;
  request.who.uid = 1000;
  Peer peer = peer_of(SessionId(200), ConnId(2));
  EXPECT_EQ(read(peer, Op::kReadNode, encoded(request)).err, Err::kNoAuth);
  peer.trusted = true;
  EXPECT_EQ(read(peer, Op::kReadNode, encoded(request)).err, Err::kOk);
}

// --- answers of the mount's mutations

class AnswerTest : public DeliveryTest {
 protected:
  Txn mutation(std::int64_t seq, std::int64_t acked_below, Change c, NodeId subject = NodeId()) {
    Txn txn;
    txn.session = SessionId(200);
    txn.op = Op::kCreateNode;
    txn.seq = seq;
    txn.acked_below = acked_below;
    txn.subject = subject;
    txn.what = 1;
    txn.changes.push_back(std::move(c));
    return txn;
  }
  CreateTxn node(std::uint64_t id, const char* name) {
    CreateTxn c;
    c.id = NodeId(id);
    c.parent = kRootNode;
    c.name = name;
    c.acl = open_acl();
    c.parent_creates = ++creates_;
    return c;
  }
  std::uint32_t creates_ = 0;
};

TEST_F(AnswerTest, a_repeated_number_gets_the_first_answer) {
  const Applied first = apply(mutation(1, 0, node(50, "n"), NodeId(50)));
  ASSERT_EQ(first.err, Err::kOk);
  EXPECT_EQ(first.body, encoded(info("/n")));
  const Applied refused = apply(mutation(2, 0, ErrorTxn{Err::kNodeExists}));
  EXPECT_EQ(refused.err, Err::kNodeExists);
  EXPECT_TRUE(refused.body.empty());
  set("/n", "changed meanwhile");
  const Applied again = apply(mutation(1, 0, ErrorTxn{Err::kOk}));
  EXPECT_EQ(again.err, Err::kOk);
  EXPECT_EQ(again.body, first.body);
  EXPECT_EQ(apply(mutation(2, 0, ErrorTxn{Err::kOk})).err, Err::kNodeExists);
}

TEST_F(AnswerTest, nothing_to_change_is_answered_with_the_node_and_kept) {
  apply(mutation(1, 0, node(50, "n"), NodeId(50)));
  Txn same = mutation(2, 0, ErrorTxn{Err::kOk}, NodeId(50));
  same.op = Op::kSetAttributes;
  const std::string first = apply(same).body;
  EXPECT_EQ(first, encoded(info("/n")));
  set("/n", "changed meanwhile");
  EXPECT_EQ(apply(same).body, first);
}

TEST_F(AnswerTest, acknowledged_answers_are_gone_and_the_digest_follows) {
  const std::uint64_t before = machine.digest();
  for (std::int64_t seq = 1; seq <= 5; ++seq) apply(mutation(seq, 0, ErrorTxn{Err::kNoAuth}));
  EXPECT_NE(machine.digest(), before);
  apply(mutation(6, 6, ErrorTxn{Err::kNoAuth}));
  Fold fold = machine.take_fold();
  for (const auto& [id, record] : fold.sessions) {
    EXPECT_TRUE(id != SessionId(200) || record->size() < 60U);  // one answer left
  }
  Applied late = apply(mutation(3, 6, ErrorTxn{Err::kOutOfWindow}));
  EXPECT_EQ(late.err, Err::kOutOfWindow);
}

TEST_F(AnswerTest, the_maker_of_a_node_holds_it) {
  apply(mutation(1, 0, node(50, "n"), NodeId(50)));
  sink.take_log();
  set("/n", "x");
  EXPECT_EQ(seen(), Log{"2 DATA n"});
  EXPECT_EQ(sink.changes.back().second.origin_seq, 0);
  // After a reconnect it sends the same again, and holds the node again.
  machine.connection_closed(ConnId(2));
  open_session(SessionId(200), ConnId(9));
  apply(mutation(1, 0, ErrorTxn{Err::kOk}));
  set("/n", "y");
  EXPECT_EQ(seen(), Log{"9 DATA n"});
}

TEST_F(AnswerTest, reserved_ids_are_given_once) {
  const Applied reply = request(SessionId(200), Op::kCapabilities, encoded(wire::CapabilitiesRequest{100}));
  wire::CapabilitiesReply first;
  wire::Reader r(reply.body);
  wire::read(r, first);
  EXPECT_EQ(first.id_count, 100);
  create("/later");
  EXPECT_GE(info("/later").id.value, first.first_id.value + 100);
}

TEST_F(AnswerTest, the_bytes_of_a_node_are_those_of_its_info) {
  DataTree tree;
  CreateTxn c = node(50, "n");
  c.data = "data";
  c.acl.push_back({perm::kRead, AuthId{"unix", "g:5"}});
  c.attributes = {Shape::kSymlink, 0111, 77};
  const Node& made = tree.create(c, Zxid(5), 9, true);
  wire::NodeInfo info = node_info(tree, made);
  EXPECT_EQ(encoded(info), body([&](wire::Writer& w) { write_node_info(w, tree, made, false); }));
  info.data = "data";
  EXPECT_EQ(encoded(info), body([&](wire::Writer& w) { write_node_info(w, tree, made, true); }));
}

}  // namespace
}  // namespace coord::tree
