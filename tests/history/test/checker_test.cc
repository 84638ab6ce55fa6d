// Each rule of the checker, by a history that keeps it and one that breaks it.
#include "tests/history/checker.h"

#include "tests/history/test/book.h"

namespace coord::history {
namespace {

// /a created at 1, set at 2 and 3.
Book three_versions() {
  Book b;
  b.create(1, "/a", "v0", z(1));
  b.set(1, "/a", "v1", z(2), z(1), 1);
  b.set(1, "/a", "v2", z(3), z(1), 2);
  return b;
}

TEST(Checker, an_empty_history_is_good) { EXPECT_EQ(check(History{}).outcome, Outcome::kOk); }

TEST(Checker, reads_of_the_present_and_of_the_past_are_good) {
  Book b = three_versions();
  b.get(2, "/a", "v0", z(1), z(1), z(1), 0);  // another replica, behind
  b.get(2, "/a", "v1", z(2), z(2), z(1), 1);
  b.get(1, "/a", "v2", z(3), z(3), z(1), 2);
  b.get(3, "/a", "v2", z(9), z(3), z(1), 2, 0, Op::kSyncGet);
  b.absent(3, "/b", z(9));
  b.good();
}

TEST(Checker, concurrent_writes_may_come_in_either_order) {
  Book b;
  b.create(1, "/a", "v0", z(1));
  const auto first = b.send(1, {.op = Op::kSet, .path = "/a", .value = "v1"});
  const auto second = b.send(2, {.op = Op::kSet, .path = "/a", .value = "v2"});
  b.ok(first, {.zxid = z(3), .mzxid = z(3), .czxid = z(1), .version = 2});
  b.ok(second, {.zxid = z(2), .mzxid = z(2), .czxid = z(1), .version = 1});
  b.get(3, "/a", "v1", z(3), z(3), z(1), 2, 0, Op::kSyncGet);
  b.good();
}

TEST(Checker, a_write_without_answer_may_take_effect_late_or_never) {
  Book b = three_versions();
  const auto seen = b.send(4, {.op = Op::kSet, .path = "/a", .value = "u1"});
  b.info(seen);
  const auto unseen = b.send(5, {.op = Op::kSet, .path = "/a", .value = "u2"});
  b.info(unseen);
  const auto never = b.send(6, {.op = Op::kDelete, .path = "/a"});
  b.info(never);
  b.get(1, "/a", "v2", z(3), z(3), z(1), 2);
  b.set(1, "/a", "v5", z(8), z(1), 5);  // both happened in between
  b.get(2, "/a", "u1", z(6), z(5), z(1), 3);
  b.good();
}

TEST(Checker, one_unanswered_write_does_not_explain_two_versions) {
  Book b = three_versions();
  b.info(b.send(4, {.op = Op::kSet, .path = "/a", .value = "u1"}));
  b.set(1, "/a", "v5", z(8), z(1), 5);
  b.bad("write-result");
}

TEST(Checker, an_unanswered_delete_explains_an_absence_once) {
  Book b = three_versions();
  b.info(b.send(4, {.op = Op::kDelete, .path = "/a"}));
  b.absent(1, "/a", z(5));
  b.create(1, "/a", "w0", z(6));
  b.good();
  b.absent(1, "/a", z(7));
  b.bad("lost-write");
}

TEST(Checker, stale_read_after_sync_is_found) {
  Book b = three_versions();
  b.sync(2, "/a", z(3));
  b.get(2, "/a", "v2", z(3), z(3), z(1), 2);
  b.good();
  Book c = three_versions();
  c.sync(2, "/a", z(2));  // not all that was acknowledged before
  c.bad("stale-sync");
  Book d = three_versions();
  d.get(2, "/a", "v1", z(2), z(2), z(1), 1, 0, Op::kSyncGet);
  d.bad("stale-sync");
  Book e = three_versions();
  e.create(1, "/b", "b", z(4));
  e.absent(2, "/b", z(3), Op::kSyncGet);
  e.bad("stale-sync");
}

TEST(Checker, stale_read_after_sync_is_found_without_zxids) {
  Book b;
  b.ok(b.send(1, {.op = Op::kCreate, .path = "/a", .value = "v0"}), {.name = "/a"});
  b.ok(b.send(1, {.op = Op::kSet, .path = "/a", .value = "v1"}), {.version = 1});
  Book c = b;
  b.ok(b.send(2, {.op = Op::kSync}), {});
  b.ok(b.send(2, {.op = Op::kGet, .path = "/a"}), {.value = "v1"});
  b.good();
  c.ok(c.send(2, {.op = Op::kGet, .path = "/a"}), {.value = "v0"});  // no sync: may be old
  c.good();
  c.ok(c.send(2, {.op = Op::kSync}), {});
  c.ok(c.send(2, {.op = Op::kGet, .path = "/a"}), {.value = "v0"});
  c.bad("not-linearizable");
}

TEST(Checker, stale_read_within_a_session_is_found) {
  Book b = three_versions();
  b.get(2, "/a", "v2", z(3), z(3), z(1), 2);
  b.get(2, "/a", "v1", z(2), z(2), z(1), 1);  // over a reconnect to a replica behind
  b.bad("session-order");
  Book c = three_versions();
  c.get(2, "/a", "v1", z(3), z(2), z(1), 1);  // the header claims the present
  c.bad("stale-read");
  Book d = three_versions();
  d.get(1, "/a", "v1", z(2), z(2), z(1), 1);  // its own write is missing
  d.bad("session-order");
}

TEST(Checker, lost_acknowledged_write_is_found) {
  Book b = three_versions();
  b.absent(2, "/a", z(3));
  b.bad("lost-write");
  Book c = three_versions();
  c.set(2, "/a", "v3", z(4, 2), z(1), 2);  // the new leader did not have v2
  c.bad("version-twice");
  Book d = three_versions();
  d.create(2, "/a", "w", z(9));
  d.bad("write-result");
  Book e = three_versions();
  e.children(2, "/", {"b"}, z(9));
  e.bad("lost-write");
}

TEST(Checker, double_cas_is_found) {
  Book b;
  b.create(1, "/a", "v0", z(1));
  const auto first = b.send(1, {.op = Op::kSetCas, .path = "/a", .value = "v1", .expected = 0});
  const auto second = b.send(2, {.op = Op::kSetCas, .path = "/a", .value = "v2", .expected = 0});
  b.ok(first, {.zxid = z(2), .mzxid = z(2), .czxid = z(1), .version = 1});
  Book good = b;
  good.fail(second, Err::kBadVersion, z(3));
  good.good();
  Book told = b;
  told.ok(second, {.zxid = z(3), .mzxid = z(3), .czxid = z(1), .version = 1});
  told.bad("double-cas");
  Book bare = b;
  bare.ok(second, {.zxid = z(3)});
  bare.bad("cas");
}

TEST(Checker, double_cas_is_found_without_zxids) {
  Book b;
  b.ok(b.send(1, {.op = Op::kCreate, .path = "/a", .value = "v0"}), {});
  const auto first = b.send(1, {.op = Op::kSetCas, .path = "/a", .value = "v1", .expected = 0});
  const auto second = b.send(2, {.op = Op::kDeleteCas, .path = "/a", .expected = 0});
  b.ok(first, {});
  b.ok(second, {});
  b.bad("not-linearizable");
}

TEST(Checker, a_refusal_without_reason_is_found) {
  Book b = three_versions();
  b.fail(b.send(2, {.op = Op::kSetCas, .path = "/a", .value = "x", .expected = 1}), Err::kBadVersion, z(4));
  b.fail(b.send(2, {.op = Op::kCreate, .path = "/a", .value = "y"}), Err::kNodeExists, z(5));
  b.fail(b.send(2, {.op = Op::kDelete, .path = "/b"}), Err::kNoNode, z(6));
  b.fail(b.send(2, {.op = Op::kCreate, .path = "/b/c", .value = "w"}), Err::kNoNode, z(7));
  b.good();
  Book c = b;
  c.fail(c.send(2, {.op = Op::kSetCas, .path = "/a", .value = "q", .expected = 2}), Err::kBadVersion, z(8));
  c.bad("refusal");
  Book d = b;
  d.fail(d.send(2, {.op = Op::kDelete, .path = "/a"}), Err::kNoNode, z(8));
  d.bad("refusal");
}

TEST(Checker, write_applied_twice_is_found) {
  Book b = three_versions();
  b.get(2, "/a", "v1", z(4), z(4), z(1), 3);  // v1 again, as version 3
  b.bad("applied-twice");
  Book c = three_versions();
  c.info(c.send(3, {.op = Op::kSet, .path = "/a", .value = "u"}));
  c.get(2, "/a", "u", z(4), z(4), z(1), 3);
  c.good();
  c.get(2, "/a", "u", z(5), z(5), z(1), 4);
  c.bad("applied-twice");
}

TEST(Checker, sequential_duplicate_is_found) {
  Book b;
  b.create(1, "/q", "", z(1));
  b.create_seq(1, "/q/j-", "/q/j-0000000000", z(2));
  b.create_seq(2, "/q/j-", "/q/j-0000000001", z(3));
  b.create_seq(2, "/q/k-", "/q/k-0000000002", z(4));
  b.good();
  Book c = b;
  c.create_seq(1, "/q/j-", "/q/j-0000000001", z(5));
  c.bad("sequential-twice");
  Book d = b;
  d.create_seq(1, "/q/j-", "/q/j-0000000002", z(5));  // the parent counts, not the prefix
  d.bad("sequential-twice");
  Book e;
  e.create(1, "/q", "", z(1));
  e.create_seq(1, "/q/j-", "/q/j-0000000005", z(2));
  e.create_seq(1, "/q/j-", "/q/j-0000000004", z(3));
  e.bad("sequential-order");
  Book f = b;
  f.create_seq(1, "/q/j-", "/q/x-0000000005", z(7));
  f.bad("sequential-name");
}

TEST(Checker, an_unanswered_sequential_create_explains_a_name) {
  Book b;
  b.create(1, "/q", "", z(1));
  b.info(b.send(1, {.op = Op::kCreateSeq, .path = "/q/j-", .value = "s"}));
  b.children(2, "/q", {"j-0000000000"}, z(3));
  b.good();
  Book c = b;
  c.get(2, "/q/j-0000000000", "s", z(3), z(2), z(2), 0);
  c.good();
  b.children(2, "/q", {"j-0000000000", "j-0000000001"}, z(4));
  b.get(2, "/q/j-0000000000", "s", z(4), z(2), z(2), 0);
  b.bad("undead");  // the one create is the first name: nobody made the second
}

Book watched(std::int64_t session = 2) {
  Book b;
  b.create(1, "/a", "v0", z(1));
  b.get(session, "/a", "v0", z(1), z(1), z(1), 0, 0, Op::kGet, true);
  b.set(1, "/a", "v1", z(2), z(1), 1);
  return b;
}

TEST(Checker, event_after_reply_is_found) {
  Book b = watched();
  Book c = b;
  b.event(2, WatchType::kDataChanged, "/a", z(2));
  b.get(2, "/a", "v1", z(2), z(2), z(1), 1);
  b.good();
  c.get(2, "/a", "v1", z(2), z(2), z(1), 1);
  c.event(2, WatchType::kDataChanged, "/a", z(2));
  c.bad("event-after-reply");
}

TEST(Checker, event_behind_the_reply_of_the_very_write_is_found) {
  Book b;
  b.create(1, "/a", "v0", z(1));
  b.get(1, "/a", "v0", z(1), z(1), z(1), 0, 0, Op::kGet, true);
  const auto set = b.send(1, {.op = Op::kSet, .path = "/a", .value = "v1"});
  Book c = b;
  b.event(1, WatchType::kDataChanged, "/a", z(2));
  b.ok(set, {.zxid = z(2), .mzxid = z(2), .czxid = z(1), .version = 1});
  b.good();
  c.ok(set, {.zxid = z(2), .mzxid = z(2), .czxid = z(1), .version = 1});
  c.event(1, WatchType::kDataChanged, "/a", z(2));
  c.bad("event-after-reply");
}

TEST(Checker, lost_event_is_found) {
  Book b = watched();
  b.good();  // it may still come
  Book moved = b;
  moved.session(2, SessionChange::kMoved);
  moved.get(2, "/a", "v1", z(2), z(2), z(1), 1);
  moved.good();  // the connection took the watch with it
  b.ok(b.send(2, {.op = Op::kPing}), {.zxid = z(2)});
  b.bad("lost-event");
  Book c = watched();
  c.set(1, "/a", "v2", z(3), z(1), 2);
  c.event(2, WatchType::kDataChanged, "/a", z(3));  // the first change was not told
  c.bad("lost-event");
}

TEST(Checker, events_of_children_and_of_absent_nodes) {
  Book b;
  b.create(1, "/q", "", z(1));
  b.children(2, "/q", {}, z(1), true);
  b.absent(2, "/q/x", z(1), Op::kExists, true);
  b.create(1, "/q/x", "x", z(2));
  Book lost = b;
  b.event(2, WatchType::kCreated, "/q/x", z(2));
  b.event(2, WatchType::kChildrenChanged, "/q", z(2));
  b.ok(b.send(2, {.op = Op::kPing}), {.zxid = z(2)});
  b.good();
  lost.event(2, WatchType::kCreated, "/q/x", z(2));
  lost.ok(lost.send(2, {.op = Op::kPing}), {.zxid = z(2)});
  lost.bad("lost-event");
  Book phantom = b;
  phantom.children(2, "/q", {"x"}, z(2), true);
  phantom.set(1, "/q/x", "y", z(3), z(2), 1);
  phantom.event(2, WatchType::kChildrenChanged, "/q", z(3));
  phantom.bad("phantom-event");
}

TEST(Checker, one_shot_twice_is_found) {
  Book b = watched();
  b.event(2, WatchType::kDataChanged, "/a", z(2));
  b.set(1, "/a", "v2", z(3), z(1), 2);
  Book persistent;
  persistent.ok(persistent.send(2, {.op = Op::kOther, .path = "/", .watch = true}), {.zxid = z(0)});
  persistent.create(1, "/a", "v0", z(1));
  persistent.event(2, WatchType::kCreated, "/a", z(1));
  persistent.set(1, "/a", "v1", z(2), z(1), 1);
  persistent.event(2, WatchType::kDataChanged, "/a", z(2));
  persistent.good();
  b.event(2, WatchType::kDataChanged, "/a", z(3));
  b.bad("event-twice");
}

TEST(Checker, ephemeral_surviving_its_session_is_found) {
  Book b;
  b.session(1, SessionChange::kOpened);
  b.create(1, "/e", "e", z(1), Op::kCreateEphemeral);
  b.get(2, "/e", "e", z(1), z(1), z(1), 0, 1);
  b.ok(b.send(1, {.op = Op::kClose}), {.zxid = z(2)});
  Book c = b;
  c.get(2, "/e", "e", z(2), z(1), z(1), 0, 1);
  c.bad("ephemeral-survived");
  Book d = b;
  d.children(2, "/", {"e"}, z(3));
  d.bad("undead");
  Book e = b;
  e.set(2, "/e", "again", z(3), z(1), 1);
  e.bad("lost-write");
  b.absent(2, "/e", z(2));
  b.create(2, "/e", "e2", z(3));
  b.good();
}

TEST(Checker, an_end_without_zxid_lies_before_what_was_sent_later) {
  Book b;
  b.session(1, SessionChange::kOpened);
  b.create(1, "/e", "e", z(1), Op::kCreateEphemeral);
  b.session(1, SessionChange::kExpired);
  b.get(2, "/e", "e", z(1), z(1), z(1), 0, 1);  // behind
  b.good();
  Book c = b;
  c.sync(2, "/", z(2));
  c.get(2, "/e", "e", z(2), z(1), z(1), 0, 1);
  c.bad("ephemeral-survived");
  b.sync(2, "/", z(2));
  b.absent(2, "/e", z(2));
  b.good();
}

TEST(Checker, an_ephemeral_after_its_session_is_found) {
  Book b;
  b.session(1, SessionChange::kOpened);
  const auto late = b.send(1, {.op = Op::kCreateEphemeral, .path = "/e", .value = "e"});
  b.session(1, SessionChange::kExpired, z(2));
  b.ok(late, {.zxid = z(3)});
  b.bad("served-after-end");
  Book c;
  c.session(1, SessionChange::kOpened);
  c.info(c.send(1, {.op = Op::kCreateEphemeral, .path = "/e", .value = "e"}));
  c.session(1, SessionChange::kExpired, z(2));
  c.get(2, "/e", "e", z(3), z(3), z(3), 0, 1);
  c.bad("ephemeral-survived");
}

TEST(Checker, early_expiry_is_found) {
  Book b;
  b.session(1, SessionChange::kOpened, 0, 100'000);
  b.create(1, "/e", "e", z(1), Op::kCreateEphemeral);
  b.now += 50'000;
  b.sync(1, "/", z(1));
  Book late = b;
  late.now += 120'000;
  late.session(1, SessionChange::kExpired, z(2));
  late.absent(2, "/e", z(2));
  late.good();
  Book early = b;
  early.now += 60'000;
  early.session(1, SessionChange::kExpired, z(2));
  early.bad("early-expiry");
  early.good({.expiry_slack_ns = 50'000});
  Book seen = b;  // nobody told of an expiry, but the node is gone
  seen.now += 60'000;
  seen.absent(2, "/e", z(2));
  seen.bad("early-expiry");
  Book gone = b;
  gone.now += 120'000;
  gone.absent(2, "/e", z(2));
  gone.good();
}

TEST(Checker, an_ephemeral_of_a_living_session_does_not_go) {
  Book b;
  b.session(1, SessionChange::kOpened);
  b.create(1, "/e", "e", z(1), Op::kCreateEphemeral);
  b.absent(2, "/e", z(2));
  Book c = b;
  c.good();  // it may have expired
  b.ok(b.send(1, {.op = Op::kPing}), {.zxid = z(3)});
  b.bad("lost-write");
}

TEST(Checker, a_wrong_owner_is_found) {
  Book b;
  b.ok(b.send(1, {.op = Op::kCreateEphemeral, .path = "/e", .value = "e"}),
       {.zxid = z(1), .mzxid = z(1), .czxid = z(1), .version = 0, .owner = 7});
  b.bad("owner");
}

TEST(Checker, real_time_order_inversion_is_found) {
  Book b;
  b.create(1, "/a", "a", z(5));
  b.create(2, "/b", "b", z(4));
  b.bad("real-time");
  Book c;
  c.create(1, "/a", "a", z(5));
  c.create(2, "/b", "b", z(5));
  c.bad("zxid-twice");
  Book d;  // an unanswered write that took effect before it was sent
  d.create(1, "/a", "a", z(5));
  d.info(d.send(2, {.op = Op::kCreate, .path = "/b", .value = "b"}));
  d.get(3, "/b", "b", z(6), z(4), z(4), 0);
  d.bad("real-time");
}

TEST(Checker, replies_in_another_order_are_found) {
  Book b;
  const auto first = b.send(1, {.op = Op::kPing});
  const auto second = b.send(1, {.op = Op::kPing});
  b.ok(second, {});
  b.ok(first, {});
  b.bad("reply-order");
  b.good({.replies_in_order = false});
}

TEST(Checker, phantom_value_is_found) {
  Book b = three_versions();
  b.get(2, "/a", "nobody", z(4), z(4), z(1), 3);
  b.bad("phantom-value");
  Book c = three_versions();
  c.get(2, "/a", "v1", z(3), z(3), z(1), 2);
  c.bad("wrong-value");
  Book d = three_versions();
  d.ok(d.send(2, {.op = Op::kExists, .path = "/a"}), {.zxid = z(4), .mzxid = z(4), .czxid = z(1), .version = 3});
  d.bad("phantom-change");
  Book e = three_versions();
  e.create(1, "/b", "b", z(4));
  e.get(2, "/b", "v2", z(5), z(5), z(4), 1);
  e.bad("phantom-value");
}

TEST(Checker, a_value_from_the_future_is_found) {
  Book b;
  b.create(1, "/a", "v0", z(1));
  b.get(2, "/a", "v1", z(2), z(2), z(1), 1);
  b.info(b.send(1, {.op = Op::kSet, .path = "/a", .value = "v1"}));
  b.bad("future");
  Book c = three_versions();
  c.get(2, "/a", "v2", z(2), z(3), z(1), 2);  // newer than its own header
  c.bad("future");
}

TEST(Checker, a_failed_operation_that_took_effect_is_found) {
  Book b = three_versions();
  b.fail(b.send(2, {.op = Op::kSetCas, .path = "/a", .value = "x", .expected = 0}), Err::kBadVersion, z(4));
  Book c = b;
  b.get(1, "/a", "v2", z(4), z(3), z(1), 2);
  b.good();
  c.get(1, "/a", "x", z(4), z(4), z(1), 3);
  c.bad("failed-took-effect");
  Book d = three_versions();
  d.fail(d.send(2, {.op = Op::kDelete, .path = "/a"}), Err::kNoAuth, z(4));
  d.absent(1, "/a", z(4));
  d.bad("lost-write");
}

TEST(Checker, multi_is_one_step) {
  const auto make = [](Err second, bool applied) {
    Book b = three_versions();
    const auto id = b.send(2, {.op = Op::kMulti,
                               .multi = {{.op = Op::kCreate, .path = "/b", .value = "b"},
                                         {.op = Op::kSetCas, .path = "/a", .value = "m", .expected = 2}}});
    if (second == Err::kOk) {
      b.ok(id, {.zxid = z(4), .multi = {{.name = "/b"}, {.mzxid = z(4), .czxid = z(1), .version = 3}}});
    } else {
      b.h.fail(b.tick(), id, {.error = second, .zxid = z(4), .multi = {{}, {.error = second}}});
    }
    if (applied) b.get(3, "/b", "b", z(4), z(4), z(4), 0);
    else b.absent(3, "/b", z(4));
    return b;
  };
  make(Err::kOk, true).good();
  make(Err::kOk, false).bad("lost-write");
  make(Err::kBadVersion, true).bad("failed-took-effect");
  make(Err::kBadVersion, false).bad("refusal");  // version 2 was there
}

TEST(Checker, an_unanswered_multi_is_seen_as_a_whole) {
  Book b = three_versions();
  b.info(b.send(2, {.op = Op::kMulti,
                    .multi = {{.op = Op::kCreate, .path = "/b", .value = "b"},
                              {.op = Op::kSet, .path = "/a", .value = "m"}}}));
  b.get(3, "/b", "b", z(4), z(4), z(4), 0);
  Book c = b;
  b.get(3, "/a", "m", z(4), z(4), z(1), 3);
  b.good();
  c.get(3, "/a", "v2", z(4), z(3), z(1), 2);
  c.bad("stale-read");
}

TEST(Checker, a_replayed_answer_may_be_older_than_its_header) {
  Book b = three_versions();
  const auto id = b.send(2, {.op = Op::kSet, .path = "/a", .value = "r"});
  b.set(1, "/a", "v4", z(5), z(1), 4);
  b.ok(id, {.zxid = z(7), .mzxid = z(4), .czxid = z(1), .version = 3, .replayed = true});
  b.good();
}

TEST(Checker, nodes_from_before_the_history) {
  Book b;
  Record init;
  init.kind = Kind::kInit;
  init.request.path = "/old";
  init.request.value = "o";
  init.answer = {.mzxid = z(7), .czxid = z(3), .version = 4};
  b.h.add(init);
  b.get(1, "/old", "o", z(8), z(7), z(3), 4, 0, Op::kSyncGet);
  b.set(1, "/old", "n", z(9), z(3), 5);
  b.good();
  b.get(1, "/old", "o", z(9), z(7), z(3), 4);
  b.bad("stale-read");
}

TEST(Checker, too_little_time_gives_no_verdict) {
  Book b = three_versions();
  b.good();
  const Verdict steps = check(b.h, {.steps_max = 2});
  EXPECT_EQ(steps.outcome, Outcome::kUnknown);
  EXPECT_EQ(steps.rule, "deadline");
  EXPECT_EQ(check(b.h, {.deadline = std::chrono::nanoseconds(1)}).outcome, Outcome::kUnknown);
}

TEST(Checker, a_search_that_explodes_ends_at_the_deadline) {
  Book b;
  std::vector<std::uint64_t> open;
  b.ok(b.send(1, {.op = Op::kCreate, .path = "/a", .value = "v"}), {});
  for (int i = 0; i < 40; ++i) {
    open.push_back(b.send(10 + i, {.op = Op::kSet, .path = "/a", .value = "s" + std::to_string(i)}));
  }
  const auto read = b.send(2, {.op = Op::kSyncGet, .path = "/a"});
  for (const auto id : open) b.ok(id, {});
  b.ok(read, {.value = "never"});
  const Verdict v = check(b.h, {.deadline = std::chrono::milliseconds(50), .steps_max = ~std::uint64_t{0}});
  EXPECT_EQ(v.outcome, Outcome::kUnknown);
}

TEST(Checker, what_is_not_a_history_gives_no_verdict) {
  const auto unknown = [](const History& h) {
    const Verdict v = check(h);
    EXPECT_EQ(v.outcome, Outcome::kUnknown) << v.rule;
    EXPECT_EQ(v.rule, "not-a-history");
  };
  Book twice;
  const auto id = twice.send(1, {.op = Op::kPing});
  twice.ok(id, {});
  twice.ok(id, {});
  unknown(twice.h);
  Book error;
  error.ok(error.send(1, {.op = Op::kPing}), {.error = Err::kNoNode});
  unknown(error.h);
  History orphan;
  Record r;
  r.kind = Kind::kOk;
  r.id = 5;
  orphan.add(r);
  unknown(orphan);
  Book same;
  same.send(1, {.op = Op::kSet, .path = "/a", .value = "v"});
  same.send(1, {.op = Op::kSet, .path = "/a", .value = "v"});
  unknown(same.h);
}

}  // namespace
}  // namespace coord::history
