// Bounds of the codec: what a peer may claim and what it may make us do.
#include <gtest/gtest.h>

#include "common/wire/codec.h"
#include "common/wire/extension.h"
#include "common/wire/protocol.h"

namespace coord::wire {
namespace {

std::string be32(std::int32_t v) {
  std::string out;
  Writer(out).i32(v);
  return out;
}

TEST(Reader, AnIntegerThatDoesNotFitFailsAndReadsZeroFromThenOn) {
  Reader r(std::string_view("\x01\x02\x03", 3));
  EXPECT_EQ(r.i32(), 0);
  EXPECT_TRUE(r.failed());
  EXPECT_EQ(r.i8(), 0);  // although three bytes are there
  EXPECT_EQ(r.remaining(), 0u);
}

TEST(Reader, NullBufferIsNotAnEmptyBuffer) {
  const std::string bytes = be32(-1) + be32(0);
  Reader r(bytes);
  EXPECT_FALSE(r.buffer().has_value());
  EXPECT_FALSE(r.failed());
  const auto empty = r.buffer();
  ASSERT_TRUE(empty.has_value());
  EXPECT_TRUE(empty->empty());
  EXPECT_FALSE(r.failed());
}

TEST(Reader, ABufferLengthBelowMinusOneIsAnError) {
  for (const std::int32_t n : {-2, -100, std::numeric_limits<std::int32_t>::min()}) {
    const std::string bytes = be32(n) + "abcd";
    Reader r(bytes);
    EXPECT_FALSE(r.buffer().has_value());
    EXPECT_TRUE(r.failed()) << n;
  }
}

TEST(Reader, ABufferLengthAboveTheRestIsAnError) {
  for (const std::int32_t n : {5, 1000, std::numeric_limits<std::int32_t>::max()}) {
    const std::string bytes = be32(n) + "abcd";
    Reader r(bytes);
    EXPECT_FALSE(r.buffer().has_value());
    EXPECT_TRUE(r.failed()) << n;
  }
  const std::string exact = be32(4) + "abcd";
  Reader r(exact);
  EXPECT_EQ(r.buffer(), "abcd");
  EXPECT_FALSE(r.failed());
}

TEST(Reader, ALengthFieldCutShortIsNotNull) {
  Reader r(std::string_view("\xff\xff\xff", 3));
  EXPECT_FALSE(r.buffer().has_value());
  EXPECT_TRUE(r.failed());
}

TEST(Reader, VectorLengths) {
  bool is_null = false;
  {
    const std::string bytes = be32(-1);
    Reader r(bytes);
    EXPECT_EQ(r.vector(&is_null), 0);
    EXPECT_TRUE(is_null);
    EXPECT_FALSE(r.failed());
  }
  {
    const std::string bytes = be32(-7);  // other negatives: empty, not null, not an error
    Reader r(bytes);
    EXPECT_EQ(r.vector(&is_null), 0);
    EXPECT_FALSE(is_null);
    EXPECT_FALSE(r.failed());
  }
  {
    const std::string bytes = be32(4) + "abc";
    Reader r(bytes);
    EXPECT_EQ(r.vector(&is_null), 0);
    EXPECT_TRUE(r.failed());
  }
}

TEST(Reader, AnyNonZeroByteIsTrue) {
  Reader r(std::string_view("\x00\x01\x02\xff", 4));
  EXPECT_FALSE(r.boolean());
  EXPECT_TRUE(r.boolean());
  EXPECT_TRUE(r.boolean());
  EXPECT_TRUE(r.boolean());
}

TEST(Writer, WritesBigEndianAndTellsNullFromEmpty) {
  std::string out;
  Writer w(out);
  w.i8(-2);
  w.i16(0x0102);
  w.i32(0x01020304);
  w.i64(0x0102030405060708);
  w.buffer("ab");
  w.buffer(std::string("c"));
  w.buffer(std::optional<std::string_view>{});
  w.buffer(std::optional<std::string>{""});
  w.buffer(std::nullopt);
  EXPECT_EQ(out, std::string("\xfe\x01\x02\x01\x02\x03\x04\x01\x02\x03\x04\x05\x06\x07\x08"
                             "\x00\x00\x00\x02"
                             "ab\x00\x00\x00\x01"
                             "c\xff\xff\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff",
                             15 + 6 + 5 + 12));
}

TEST(Frame, BeginAndEndFillInThePayloadLength) {
  std::string out = "x";
  const std::size_t at = begin_frame(out);
  out += "hello";
  end_frame(out, at);
  EXPECT_EQ(out, std::string("x\x00\x00\x00\x05hello", 10));
}

// A list that claims as many elements as there are bytes must end in an error, not in memory for that many elements.
template <class Record>
void expect_hostile_list_fails(const std::string& prefix) {
  const std::string bytes = prefix + be32(1'000'000) + std::string(1'000'000, '\x7f');
  Reader r(bytes);
  Record record;
  read(r, record);
  EXPECT_TRUE(r.failed());
}

TEST(HostileLength, ListsOfExtensionRecords) {
  expect_hostile_list_fails<Credentials>(std::string(8, '\0'));
  expect_hostile_list_fails<ForgetRequest>("");
  expect_hostile_list_fails<ResumeRequest>("");
  expect_hostile_list_fails<ResumeReply>("");
}

TEST(HostileLength, AclAndStrings) {
  const std::string bytes = be32(1'000'000) + std::string(1'000'000, '\x7f');
  Reader acl_reader(bytes);
  EXPECT_TRUE(read_acl(acl_reader).empty());
  EXPECT_TRUE(acl_reader.failed());
  Reader string_reader(bytes);
  EXPECT_TRUE(read_strings(string_reader).empty());
  EXPECT_TRUE(string_reader.failed());
}

TEST(HostileLength, ResumeReplyOfManyGoneNodesIsRefused) {
  const std::string bytes = be32(20'000) + std::string(20'000, '\0');
  Reader r(bytes);
  ResumeReply reply;
  read(r, reply);
  EXPECT_TRUE(r.failed());
  EXPECT_TRUE(reply.nodes.empty());
}

TEST(HostileLength, CredentialsThatDoNotDecodeAreNobody) {
  const std::string bytes(8, '\0');  // uid 0, gid 0, no list
  Reader r(bytes);
  Credentials who;
  read(r, who);
  EXPECT_TRUE(r.failed());
  EXPECT_NE(who.uid, 0u);
}

}  // namespace
}  // namespace coord::wire
