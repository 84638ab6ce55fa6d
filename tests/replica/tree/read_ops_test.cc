// Reads; numbers are the items of client-protocol.md section 18.
#include <algorithm>

#include "tests/replica/tree/machine_harness.h"

namespace coord::tree {
namespace {

using namespace machine_test;
using wire::Op;

constexpr Op kStockReads[] = {Op::kExists,      Op::kGetData,        Op::kGetAcl,       Op::kGetChildren,
                              Op::kGetChildren2, Op::kCheckWatches,  Op::kRemoveWatches, Op::kMultiRead,
                              Op::kSetWatches,  Op::kSetWatches2,    Op::kAddWatch,     Op::kGetAllChildrenNumber,
                              Op::kLookup,      Op::kReadDir,        Op::kReadNode,     Op::kForget,
                              Op::kResume,      Op::kCapabilities};

class ReadTest : public MachineTest {
 protected:
  const Peer anna_ = peer_of(SessionId(100), ConnId(1));
  Acl only(std::int32_t perms, const char* scheme, const char* id) { return {AclEntry{perms, AuthId{scheme, id}}}; }
  std::vector<std::string> children(std::string_view path) {
    const Answered answer = read(Op::kGetChildren, watch_body(path, false));
    wire::Reader r(answer.body);
    std::vector<std::string> names = wire::read_strings(r);
    std::sort(names.begin(), names.end());
    return names;
  }
  std::size_t watches() const { return machine.watch_count(); }
};

// 28.
TEST_F(ReadTest, garbage_is_a_marshalling_error_and_leaves_nothing_behind) {
  for (const Op op : kStockReads) {
    for (const std::string_view garbage : {std::string_view(""), std::string_view("\x7f\xff\xff\xff", 4),
                                           std::string_view("\xff\xff\xff\xfe\0\0", 6), std::string_view("\0\0", 2)}) {
      // A negative length is an empty vector, and any number is a number.
      const bool legal = garbage.size() > 2 && (op == Op::kForget || op == Op::kResume || op == Op::kCapabilities);
      if (legal) continue;
      EXPECT_EQ(read(op, garbage).err, Err::kMarshallingError) << static_cast<int>(op);
    }
  }
  EXPECT_EQ(read(Op::kCapabilities, encoded(wire::CapabilitiesRequest{-1})).err, Err::kBadArguments);
  const std::string null_path = body([](wire::Writer& w) {
    w.i32(-1);
    w.i32(1);
  });
  for (const Op op : {Op::kExists, Op::kGetData, Op::kGetAcl, Op::kGetChildren, Op::kGetChildren2, Op::kAddWatch,
                      Op::kCheckWatches, Op::kRemoveWatches, Op::kGetAllChildrenNumber}) {
    EXPECT_EQ(read(op, null_path).err, Err::kMarshallingError) << static_cast<int>(op);
  }
  EXPECT_EQ(watches(), 0U);
}

TEST_F(ReadTest, what_is_not_a_read_is_unimplemented) {
  for (const Op op : {Op::kCreate, Op::kCheck, Op::kError, Op::kInterest, static_cast<Op>(0), static_cast<Op>(4711)}) {
    EXPECT_FALSE(StateMachine::is_read(op));
    EXPECT_EQ(read(op, "").err, Err::kUnimplemented);
  }
  EXPECT_FALSE(StateMachine::is_write(Op::kCheck, ""));
  EXPECT_FALSE(StateMachine::is_write(Op::kDeleteContainer, ""));
  EXPECT_FALSE(StateMachine::is_write(Op::kCapabilities, encoded(wire::CapabilitiesRequest{0})));
  EXPECT_TRUE(StateMachine::is_write(Op::kCapabilities, encoded(wire::CapabilitiesRequest{5})));
  EXPECT_TRUE(StateMachine::is_write(Op::kMulti, ""));
}

TEST_F(ReadTest, reads_do_not_validate_paths) {
  create("/a");
  for (const char* path : {"/a/", "/a//b", "a", "/nope"}) {
    EXPECT_EQ(read(Op::kGetData, watch_body(path, false)).err, Err::kNoNode) << path;
  }
  EXPECT_EQ(read(Op::kExists, watch_body(std::string_view("/a\0", 3), false)).err, Err::kBadArguments);
  EXPECT_EQ(read(Op::kGetData, watch_body("", false)).err, Err::kOk);
}

// 8.
TEST_F(ReadTest, exists_on_a_missing_node_arms_and_get_data_does_not) {
  EXPECT_EQ(read(Op::kGetData, watch_body("/m", true)).err, Err::kNoNode);
  EXPECT_EQ(read(Op::kGetChildren, watch_body("/m", true)).err, Err::kNoNode);
  EXPECT_EQ(watches(), 0U);
  EXPECT_EQ(read(Op::kExists, watch_body("/m", true)).err, Err::kNoNode);
  EXPECT_EQ(watches(), 1U);
}

TEST_F(ReadTest, without_read_permission_nothing_is_told_or_armed) {
  create("/secret", "x", 0, only(perm::kAll & ~perm::kRead, "world", "anyone"));
  for (const Op op : {Op::kExists, Op::kGetData, Op::kGetChildren, Op::kGetChildren2}) {
    EXPECT_EQ(read(op, watch_body("/secret", true)).err, Err::kNoAuth) << static_cast<int>(op);
  }
  EXPECT_EQ(read(Op::kGetAllChildrenNumber, path_body("/secret")).err, Err::kNoAuth);
  EXPECT_EQ(watches(), 0U);
  EXPECT_EQ(read(Op::kGetAcl, path_body("/secret")).err, Err::kOk);  // ADMIN is enough
}

// 29.
TEST_F(ReadTest, get_acl_masks_digests_for_whoever_is_not_admin) {
  Acl acl = only(perm::kAll, "digest", "user:hash");
  acl.push_back({perm::kRead, AuthId{"world", "anyone"}});
  create("/a", "", 0, acl);
  const auto shown = [&](const Peer& peer) {
    const Answered answer = read(peer, Op::kGetAcl, path_body("/a"));
    wire::Reader r(answer.body);
    return wire::read_acl(r)[0].id.id;
  };
  Peer owner = anna_;
  owner.ids.push_back({"digest", "user:hash"});
  EXPECT_EQ(shown(anna_), "user:x");
  EXPECT_EQ(shown(owner), "user:hash");
  create("/hidden", "", 0, only(perm::kWrite, "world", "anyone"));
  EXPECT_EQ(read(Op::kGetAcl, path_body("/hidden")).err, Err::kNoAuth);
}

TEST_F(ReadTest, get_data_gives_data_and_stat) {
  create("/a", "hello");
  const Answered answer = read(Op::kGetData, watch_body("/a", false) + "trailing bytes");
  EXPECT_EQ(answer.body, path_body("hello") + encoded(stat("/a")));
}

TEST_F(ReadTest, get_children_names_them_all) {
  create("/p");
  EXPECT_TRUE(children("/p").empty());
  for (const char* path : {"/p/b", "/p/a", "/p/c"}) create(path);
  EXPECT_EQ(children("/p"), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(children("/"), (std::vector<std::string>{"p", "zookeeper"}));
  const Answered with_stat = read(Op::kGetChildren2, watch_body("/p", false));
  EXPECT_TRUE(with_stat.body.ends_with(encoded(stat("/p"))));
}

// 36.
TEST_F(ReadTest, get_all_children_number_counts_descendants) {
  create("/p");
  create("/p/a");
  create("/p/a/b");
  create("/pq");
  const auto count = [&](std::string_view path) {
    const Answered answer = read(Op::kGetAllChildrenNumber, path_body(path));
    wire::Reader r(answer.body);
    return r.i32();
  };
  EXPECT_EQ(count("/p"), 2);
  EXPECT_EQ(count("/pq"), 0);
  EXPECT_EQ(count("/"), 7);
}

TEST_F(ReadTest, item_36_get_ephemerals_is_of_the_session_and_by_raw_prefix) {
  open_session(SessionId(200), ConnId(2));
  create("/ab", "", 1);
  create("/b", "", 1);
  ASSERT_EQ(request(SessionId(200), Op::kCreate, create_body("/ac", "", 1)).err, Err::kOk);
  const auto paths = [&](std::string_view prefix) {
    const Answered answer = read(Op::kGetEphemerals, path_body(prefix));
    wire::Reader r(answer.body);
    return wire::read_strings(r);
  };
  EXPECT_EQ(paths("/a"), std::vector<std::string>{"/ab"});
  for (const char* all : {"", "/", "  "}) EXPECT_EQ(paths(all), (std::vector<std::string>{"/ab", "/b"})) << all;
}

TEST_F(ReadTest, who_am_i_shows_users_without_hashes) {
  Peer peer = anna_;
  peer.ids.push_back({"digest", "user:hash"});
  const std::string expected = body([](wire::Writer& w) {
    w.i32(2);
    for (const char* text : {"ip", "127.0.0.1", "digest", "user"}) w.buffer(std::string_view(text));
  });
  EXPECT_EQ(read(peer, Op::kWhoAmI, "").body, expected);
}

TEST_F(ReadTest, multi_read_answers_each_by_itself) {
  create("/a", "x");
  create("/a/b");
  const auto multi = [&](std::initializer_list<std::pair<int, const char*>> ops) {
    return read(Op::kMultiRead, body([&](wire::Writer& w) {
                  for (const auto& [op, path] : ops) {
                    wire::write(w, wire::MultiHeader{op, false, -1});
                    w.raw(watch_body(path, true));
                  }
                  wire::write(w, wire::MultiHeader{-1, true, -1});
                }));
  };
  EXPECT_EQ(multi({{4, "/a"}, {3, "/a"}}).err, Err::kMarshallingError);
  const Answered answer = multi({{4, "/no"}, {8, "/a"}, {4, "/a"}});
  EXPECT_EQ(answer.err, Err::kOk);
  const std::string expected = body([&](wire::Writer& w) {
    wire::write(w, wire::MultiHeader{-1, false, -101});
    w.i32(-101);
    wire::write(w, wire::MultiHeader{8, false, 0});
    wire::write_strings(w, {"b"});
    wire::write(w, wire::MultiHeader{4, false, 0});
    w.buffer(std::string_view("x"));
    wire::write(w, stat("/a"));
    wire::write(w, wire::MultiHeader{-1, true, -1});
  });
  EXPECT_EQ(answer.body, expected);
  EXPECT_EQ(watches(), 0U);  // its watch flags are ignored
}

std::string set_watches_body(std::int64_t relative, const std::vector<std::vector<std::string>>& lists) {
  return body([&](wire::Writer& w) {
    w.i64(relative);
    for (const auto& list : lists) wire::write_strings(w, list);
  });
}

// 11.
TEST_F(ReadTest, set_watches_catches_up_by_zxid) {
  create("/a");
  create("/a/c");
  const std::int64_t now_zxid = machine.last_applied().wire();
  Answered answer = read(Op::kSetWatches, set_watches_body(now_zxid, {{"/a"}, {"/a"}, {"/a"}}));
  EXPECT_EQ(answer.err, Err::kOk);
  EXPECT_TRUE(answer.body.empty());
  using Early = std::vector<std::pair<WatchType, std::string>>;
  EXPECT_EQ(answer.early, (Early{{WatchType::kCreated, "/a"}}));  // always, without a look at zxids
  EXPECT_EQ(watches(), 2U);
  set("/a", "new");
  remove("/a/c");
  answer = read(Op::kSetWatches, set_watches_body(now_zxid, {{"/a"}, {"/later"}, {"/a"}}));
  EXPECT_EQ(answer.early, (Early{{WatchType::kDataChanged, "/a"}, {WatchType::kChildrenChanged, "/a"}}));
  EXPECT_EQ(watches(), 1U);
}

TEST_F(ReadTest, item_12_set_watches_does_not_merge_events) {
  const Answered answer = read(Op::kSetWatches, set_watches_body(0, {{"/gone"}, {}, {"/gone"}}));
  EXPECT_EQ(answer.early.size(), 2U);
  EXPECT_EQ(watches(), 0U);
}

TEST_F(ReadTest, item_32_set_watches2_has_no_catch_up_for_persistent_ones) {
  create("/a");
  const Answered answer = read(Op::kSetWatches2, set_watches_body(0, {{}, {}, {}, {"/a", "/missing"}, {"/a"}}));
  EXPECT_EQ(answer.err, Err::kOk);
  EXPECT_TRUE(answer.early.empty());
  EXPECT_EQ(watches(), 5U);
}

// 33 and 34.
TEST_F(ReadTest, watches_are_added_checked_and_removed_by_mode) {
  EXPECT_EQ(read(Op::kAddWatch, path_version_body("/a", 0)).body, body([](wire::Writer& w) { w.i32(0); }));
  EXPECT_EQ(read(Op::kAddWatch, path_version_body("/a", 1)).err, Err::kOk);
  EXPECT_EQ(read(Op::kAddWatch, path_version_body("/a", 2)).err, Err::kMarshallingError);
  EXPECT_EQ(read(Op::kExists, watch_body("/a", true)).err, Err::kNoNode);
  EXPECT_EQ(watches(), 4U);
  EXPECT_EQ(read(Op::kCheckWatches, path_version_body("/a", 9)).err, Err::kMarshallingError);
  EXPECT_EQ(read(Op::kCheckWatches, path_version_body("/a", 1)).err, Err::kNoWatcher);
  EXPECT_EQ(read(Op::kRemoveWatches, path_version_body("/a", 2)).err, Err::kOk);
  EXPECT_EQ(read(Op::kRemoveWatches, path_version_body("/a", 2)).err, Err::kNoWatcher);
  EXPECT_EQ(watches(), 3U);
  EXPECT_EQ(read(Op::kRemoveWatches, path_version_body("/a", 4)).err, Err::kOk);
  EXPECT_EQ(read(Op::kCheckWatches, path_version_body("/a", 4)).err, Err::kNoWatcher);
  EXPECT_EQ(read(Op::kCheckWatches, path_version_body("/a", 5)).err, Err::kOk);
  EXPECT_EQ(watches(), 1U);
  read(Op::kAddWatch, path_version_body("/a", 0));
  EXPECT_EQ(read(Op::kRemoveWatches, path_version_body("/a", 3)).err, Err::kOk);
  EXPECT_EQ(watches(), 0U);
}

TEST_F(ReadTest, authentication) {
  std::vector<AuthId> ids;
  for (const char* scheme : {"world", "sasl", "super", "x509", "unknown", ""}) {
    EXPECT_EQ(machine.authenticate(scheme, "a:b", ids), Err::kAuthFailed) << scheme;
  }
  EXPECT_EQ(machine.authenticate("ip", "", ids), Err::kOk);
  EXPECT_TRUE(ids.empty());
  EXPECT_EQ(machine.authenticate("digest", "super:test", ids), Err::kOk);
  EXPECT_EQ(machine.authenticate("digest", "super:test", ids), Err::kOk);
  const AuthId digest{"digest", "super:D/InIHSb7yEEbrWz8b9l71RjZJU="};
  EXPECT_EQ(ids, std::vector<AuthId>{digest});
  EXPECT_EQ(machine.authenticate("digest", "blah", ids), Err::kOk);
  EXPECT_TRUE(ids.back().id.starts_with("blah:"));
  Limits limits;
  limits.super_digest = digest.id;
  StateMachine strict(limits);
  ids.clear();
  EXPECT_EQ(strict.authenticate("digest", "super:wrong", ids), Err::kOk);
  EXPECT_EQ(ids.size(), 1U);
  EXPECT_EQ(strict.authenticate("digest", "super:test", ids), Err::kOk);
  EXPECT_NE(std::find(ids.begin(), ids.end(), AuthId{"super", ""}), ids.end());
}

}  // namespace
}  // namespace coord::tree
