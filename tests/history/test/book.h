// For the tests: writes histories by hand, with a clock that advances by itself.
#pragma once

#include <gtest/gtest.h>

#include "tests/history/checker.h"

namespace coord::history {

inline std::uint64_t z(std::uint32_t counter, std::uint32_t epoch = 1) { return Zxid(epoch, counter).value; }

struct Book {
  History h;
  std::int64_t now = 0;

  std::int64_t tick() { return now += 1000; }

  std::uint64_t send(std::int64_t session, Request r) {
    return h.invoke(tick(), static_cast<std::uint32_t>(session), session, std::move(r));
  }
  void ok(std::uint64_t id, Answer a) { h.ok(tick(), id, std::move(a)); }
  void fail(std::uint64_t id, Err error, std::uint64_t zxid) { h.fail(tick(), id, {.error = error, .zxid = zxid}); }
  void info(std::uint64_t id) { h.info(tick(), id); }
  void event(std::int64_t session, WatchType type, const std::string& path, std::uint64_t zxid) {
    h.event(tick(), static_cast<std::uint32_t>(session), session, type, path, zxid);
  }
  void session(std::int64_t s, SessionChange change, std::uint64_t zxid = 0, std::int64_t timeout_ns = 0) {
    h.add(session_record(tick(), static_cast<std::uint32_t>(s), s, change, 1, timeout_ns, zxid));
  }

  // Request and answer with nothing between.
  void create(std::int64_t s, const std::string& path, const std::string& value, std::uint64_t zxid,
              Op op = Op::kCreate) {
    ok(send(s, {.op = op, .path = path, .value = value}),
       {.zxid = zxid, .mzxid = zxid, .czxid = zxid, .version = 0, .owner = op == Op::kCreateEphemeral ? s : 0,
        .name = path});
  }
  void create_seq(std::int64_t s, const std::string& prefix, const std::string& name, std::uint64_t zxid) {
    ok(send(s, {.op = Op::kCreateSeq, .path = prefix, .value = "v" + name + std::to_string(zxid)}),
       {.zxid = zxid, .name = name});
  }
  void set(std::int64_t s, const std::string& path, const std::string& value, std::uint64_t zxid, std::uint64_t czxid,
           int version, int expected = -1) {
    ok(send(s, {.op = expected < 0 ? Op::kSet : Op::kSetCas, .path = path, .value = value, .expected = expected}),
       {.zxid = zxid, .mzxid = zxid, .czxid = czxid, .version = version});
  }
  void remove(std::int64_t s, const std::string& path, std::uint64_t zxid, int expected = -1) {
    ok(send(s, {.op = expected < 0 ? Op::kDelete : Op::kDeleteCas, .path = path, .expected = expected}),
       {.zxid = zxid});
  }
  void get(std::int64_t s, const std::string& path, const std::string& value, std::uint64_t zxid, std::uint64_t mzxid,
           std::uint64_t czxid, int version, std::int64_t owner = 0, Op op = Op::kGet, bool watch = false) {
    ok(send(s, {.op = op, .path = path, .watch = watch}),
       {.zxid = zxid, .mzxid = mzxid, .czxid = czxid, .version = version, .owner = owner, .value = value});
  }
  void absent(std::int64_t s, const std::string& path, std::uint64_t zxid, Op op = Op::kGet, bool watch = false) {
    fail(send(s, {.op = op, .path = path, .watch = watch}), Err::kNoNode, zxid);
  }
  void sync(std::int64_t s, const std::string& path, std::uint64_t zxid) {
    ok(send(s, {.op = Op::kSync, .path = path}), {.zxid = zxid});
  }
  void children(std::int64_t s, const std::string& path, std::vector<std::string> names, std::uint64_t zxid,
                bool watch = false) {
    ok(send(s, {.op = Op::kChildren, .path = path, .watch = watch}), {.zxid = zxid, .children = std::move(names)});
  }

  void good(const Options& options = {}) const {
    const Verdict v = check(h, options);
    EXPECT_EQ(v.outcome, Outcome::kOk) << explain(h, v);
  }
  void bad(const std::string& rule, const Options& options = {}) const {
    const Verdict v = check(h, options);
    EXPECT_EQ(v.outcome, Outcome::kViolation) << explain(h, v);
    EXPECT_EQ(v.rule, rule) << explain(h, v);
    EXPECT_FALSE(v.records.empty());
  }
};

}  // namespace coord::history
