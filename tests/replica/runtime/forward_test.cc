#include "replica/runtime/forward.h"

#include <gtest/gtest.h>

#include "common/wire/codec.h"

namespace coord::runtime::forward {
namespace {

std::vector<Passed> examples() {
  Request request;
  request.id = 0xfedcba9876543210;
  request.generation = 7;
  request.request.session = SessionId(-5);
  request.request.xid = 9;
  request.request.op = wire::Op::kCreate;
  request.request.body = std::string("a\0b", 3);
  request.request.ids = {{"ip", "127.0.0.1"}, {"digest", "u:p"}};
  request.request.trusted = true;
  request.request.credentials = Credentials{4000000000, 3, {1, 2}};
  return {request,
          Attach{3, SessionId(4), 30'000},
          Touched{8, true, 2, {{SessionId(1), 2, 30, true}, {SessionId(2), 3, 0, false}}, {{Zxid(1, 1024), ~0ULL}}},
          Sync{1},
          Attached{3, true, 9},
          Moved{SessionId(7), 0xffffffffffffffff},
          Refused{12},
          Ask{4},
          Synced{5, Zxid(3, 4)},
          Differs{Zxid(2, 2048)}};
}

TEST(Forward, WhatIsCutOrTooLongIsRefused) {
  for (const Passed& message : examples()) {
    const std::string bytes = encode(message);
    for (std::size_t n = 0; n < bytes.size(); ++n) {
      EXPECT_FALSE(decode(std::string_view(bytes).substr(0, n))) << message.index() << " at " << n;
    }
    EXPECT_FALSE(decode(bytes + '\0')) << message.index();
  }
}

TEST(Forward, HostileBytesAreRefused) {
  EXPECT_FALSE(decode(""));
  EXPECT_FALSE(decode(std::string(1, '\0')));
  EXPECT_FALSE(decode("\x0b........"));
  EXPECT_FALSE(decode("\xff........"));
  const auto raw = [](auto&& body) {
    std::string bytes;
    wire::Writer w(bytes);
    body(w);
    return bytes;
  };
  // A table that announces more than it holds must not make room for it first.
  EXPECT_FALSE(decode(raw([](wire::Writer& w) { w.i8(3), w.i64(0), w.boolean(false), w.i32(1), w.i32(0x7fffffff); })));
  // Times to come; a boolean that is neither; a timeout of nothing.
  EXPECT_FALSE(decode(raw([](wire::Writer& w) {
    w.i8(3), w.i64(0), w.boolean(false), w.i32(1), w.i32(1), w.i64(1), w.i64(1), w.i64(-1), w.boolean(true), w.i32(0);
  })));
  EXPECT_FALSE(decode(raw([](wire::Writer& w) { w.i8(5), w.i64(1), w.i8(2), w.i64(1); })));
  EXPECT_FALSE(decode(raw([](wire::Writer& w) { w.i8(2), w.i64(1), w.i64(1), w.i32(0); })));
}

TEST(Forward, AFeatureLevelIsBounded) {
  for (const std::int32_t level : {0, -1, 1001, 0x7fffffff}) {
    EXPECT_FALSE(decode(encode(Touched{1, false, level, {}, {}}))) << level;
  }
  for (const std::int32_t level : {1, 2, 1000}) {
    const auto decoded = decode(encode(Touched{1, false, level, {}, {}}));
    ASSERT_TRUE(decoded) << level;
    EXPECT_EQ(std::get<Touched>(*decoded).feature_level, level);
  }
}

// No byte that changes may be more than refused or another message that encodes to exactly these bytes.
TEST(Forward, ChangedBytesDecodeToWhatTheySay) {
  for (const Passed& message : examples()) {
    const std::string bytes = encode(message);
    for (std::size_t at = 0; at < bytes.size(); ++at) {
      for (const int bit : {0, 3, 7}) {
        std::string changed = bytes;
        changed[at] = static_cast<char>(changed[at] ^ (1 << bit));
        const auto decoded = decode(changed);
        if (decoded) {
          EXPECT_EQ(encode(*decoded).size(), changed.size());
        }
      }
    }
  }
}

TEST(Forward, EachComesBackAsItWas) {
  for (const Passed& message : examples()) {
    const std::string bytes = encode(message);
    const auto decoded = decode(bytes);
    ASSERT_TRUE(decoded) << message.index();
    EXPECT_EQ(decoded->index(), message.index());
    EXPECT_EQ(encode(*decoded), bytes);
  }
  const auto decoded = decode(encode(examples()[0]));
  const auto& request = std::get<Request>(*decoded);
  EXPECT_EQ(request.id, 0xfedcba9876543210);
  EXPECT_EQ(request.generation, 7u);
  EXPECT_EQ(request.request.session, SessionId(-5));
  EXPECT_EQ(request.request.op, wire::Op::kCreate);
  EXPECT_EQ(request.request.body, std::string("a\0b", 3));
  EXPECT_EQ(request.request.ids[1], (AuthId{"digest", "u:p"}));
  EXPECT_EQ(request.request.credentials, (Credentials{4000000000, 3, {1, 2}}));
}

}  // namespace
}  // namespace coord::runtime::forward
