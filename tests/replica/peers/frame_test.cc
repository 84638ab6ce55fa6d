#include "replica/peers/frame.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "tests/replica/peers/feed.h"

namespace coord::peers {
namespace {

std::vector<std::string> all(FrameReader& reader, bool* bad = nullptr) {
  std::vector<std::string> out;
  std::string_view payload;
  while (true) {
    const auto status = reader.next(payload);
    if (bad != nullptr) *bad = status == FrameReader::Status::kBad;
    if (status != FrameReader::Status::kMessage) return out;
    out.emplace_back(payload);
  }
}

TEST(Frame, SeveralInOneRead) {
  FrameWriter writer;
  std::string bytes;
  const std::vector<std::string> sent = {"one", "", std::string(70'000, 'x'), "four"};
  for (const auto& payload : sent) writer.put(payload, bytes);
  FrameReader reader(kMessageMax);
  feed(reader, bytes);
  EXPECT_EQ(all(reader), sent);
}

TEST(Frame, AByteAtATimeWithAndWithoutKey) {
  for (const bool keyed : {false, true}) {
    FrameWriter writer;
    FrameReader reader(kMessageMax);
    if (keyed) {
      writer.set_key("k");
      reader.set_key("k");
    }
    std::string bytes;
    const std::vector<std::string> sent = {"one", "", "three"};
    for (const auto& payload : sent) writer.put(payload, bytes);
    std::vector<std::string> got;
    for (const char c : bytes) {
      feed(reader, {&c, 1});
      for (auto& payload : all(reader)) got.push_back(payload);
    }
    EXPECT_EQ(got, sent);
  }
}

TEST(Frame, MadeInPlaceIsTheSame) {
  FrameWriter a, b;
  a.set_key("key");
  b.set_key("key");
  std::string put, made;
  a.put("hello", put);
  const std::size_t begun = b.begin(made);
  made += "hello";
  b.end(made, begun);
  EXPECT_EQ(put, made);
}

TEST(Frame, LongMessagesAreCutAndJoined) {
  std::string message(2 * kFramePayloadMax + 17, '\0');
  std::mt19937 random(1);
  for (std::size_t n = 0; n < message.size(); n += 1000) message[n] = static_cast<char>(random());
  FrameWriter writer;
  writer.set_key("k");
  std::string bytes;
  writer.put(message, bytes);
  writer.put("after", bytes);
  EXPECT_GT(bytes.size(), message.size() + 3 * (kFrameHeaderBytes + kTagBytes));
  FrameReader reader(kMessageMax);
  reader.set_key("k");
  feed(reader, bytes);
  const auto got = all(reader);
  ASSERT_EQ(got.size(), 2u);
  EXPECT_TRUE(got[0] == message);
  EXPECT_EQ(got[1], "after");
  FrameReader small(kFramePayloadMax + 1);
  small.set_key("k");
  feed(small, bytes);
  bool bad = false;
  EXPECT_TRUE(all(small, &bad).empty());
  EXPECT_TRUE(bad);
}

// Whatever byte is changed, nothing passes for a message that was not sent.
TEST(Frame, AChangedByteIsFound) {
  for (const bool keyed : {false, true}) {
    FrameWriter writer;
    if (keyed) writer.set_key("k");
    std::string bytes;
    writer.put("some payload", bytes);
    for (std::size_t n = 0; n < bytes.size() * 8; ++n) {
      std::string damaged = bytes;
      damaged[n / 8] = static_cast<char>(damaged[n / 8] ^ (1 << (n % 8)));
      FrameReader reader(kMessageMax);
      if (keyed) reader.set_key("k");
      feed(reader, damaged);
      EXPECT_TRUE(all(reader).empty()) << n;
    }
  }
}

std::vector<std::string> frames(const std::string& key, int count) {
  FrameWriter writer;
  writer.set_key(key);
  std::vector<std::string> out;
  for (int n = 0; n < count; ++n) writer.put("payload", out.emplace_back());
  return out;
}

TEST(Frame, WhoHasNotTheKeyCannotInjectReorderReplayOrLeaveOut) {
  const auto sent = frames("key", 3);
  const auto read = [](const std::vector<std::string>& bytes) {
    FrameReader reader(kMessageMax);
    reader.set_key("key");
    for (const auto& frame : bytes) feed(reader, frame);
    bool bad = false;
    const auto got = all(reader, &bad);
    return std::pair(got.size(), bad);
  };
  EXPECT_EQ(read(sent), std::pair(std::size_t{3}, false));
  EXPECT_EQ(read({sent[1]}), std::pair(std::size_t{0}, true));
  EXPECT_EQ(read({sent[0], sent[0]}), std::pair(std::size_t{1}, true));
  EXPECT_EQ(read({sent[0], sent[2]}), std::pair(std::size_t{1}, true));
  EXPECT_EQ(read({sent[0], sent[2], sent[1]}), std::pair(std::size_t{1}, true));
  EXPECT_EQ(read({frames("other", 1)[0]}), std::pair(std::size_t{0}, true));
  FrameWriter plain;
  std::string unsigned_frame;
  plain.put("payload", unsigned_frame);
  plain.put(std::string(100, 'x'), unsigned_frame);
  EXPECT_EQ(read({sent[0], unsigned_frame}), std::pair(std::size_t{1}, true));
}

// A length without its bytes reserves nothing to speak of, and one above the limit ends the stream at once.
TEST(Frame, MemoryIsBoundedByWhatArrived) {
  FrameReader reader(kMessageMax);
  feed(reader, std::string("\x00\x7f\xff\xff", 4));
  bool bad = false;
  all(reader, &bad);
  EXPECT_FALSE(bad);
  reader.room(1);
  EXPECT_LE(reader.capacity(), FrameReader::kGrowthMax + 4096);

  FrameReader stranger(4096);
  feed(stranger, std::string("\x00\x00\x10\x01", 4));
  all(stranger, &bad);
  EXPECT_TRUE(bad);
  EXPECT_NE(stranger.error(), "");

  FrameReader longest(kMessageMax);
  feed(longest, std::string("\x7f\xff\xff\xff", 4));
  all(longest, &bad);
  EXPECT_TRUE(bad);
}

TEST(Frame, EndlessPiecesEnd) {
  FrameReader reader(100);
  FrameWriter writer;
  bool bad = false;
  for (int n = 0; n < 11 && !bad; ++n) {
    std::string bytes;
    const std::size_t begun = writer.begin(bytes);
    bytes += "0123456789";
    writer.end(bytes, begun, true);
    feed(reader, bytes);
    EXPECT_TRUE(all(reader, &bad).empty());
  }
  EXPECT_TRUE(bad);
  FrameReader nothing(100);
  std::string bytes;
  const std::size_t begun = writer.begin(bytes);
  writer.end(bytes, begun, true);
  feed(nothing, bytes);
  all(nothing, &bad);
  EXPECT_TRUE(bad);
}

TEST(Frame, TheBufferShrinksWhenItIsEmpty) {
  FrameWriter writer;
  std::string bytes;
  writer.put(std::string(2 << 20, 'x'), bytes);
  FrameReader reader(kMessageMax);
  feed(reader, bytes);
  EXPECT_EQ(all(reader).size(), 1u);
  reader.room(4096);
  EXPECT_LE(reader.capacity(), 4096u);
}

TEST(Mac, KnownVectors) {  // RFC 4231, cases 1 and 2
  const auto hex = [](const std::string& text) {
    std::string out;
    for (const char c : text) {
      char two[3];
      std::snprintf(two, sizeof two, "%02x", static_cast<unsigned char>(c));
      out += two;
    }
    return out;
  };
  EXPECT_EQ(hex(hmac(std::string(20, '\x0b'), {"Hi There"})),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  EXPECT_EQ(hex(hmac("Jefe", {"what do ya want ", "for nothing?"})),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(hmac("", {"x"}), hmac("", {"", "x"}));
  EXPECT_NE(hmac("", {"x"}), hmac("y", {"x"}));
}

TEST(Mac, TheKeyStaysFromFrameToFrame) {
  FrameMac mac("Jefe");
  char first[kTagBytes], again[kTagBytes], other[kTagBytes];
  mac.tag(1, "head", "body", first);
  mac.tag(2, "head", "body", other);
  mac.tag(1, "head", "body", again);
  EXPECT_EQ(std::memcmp(first, again, kTagBytes), 0);
  EXPECT_NE(std::memcmp(first, other, kTagBytes), 0);
  const std::string whole = hmac("Jefe", {std::string_view("\0\0\0\0\0\0\0\1", 8), "head", "body"});
  EXPECT_EQ(std::string(first, kTagBytes), whole.substr(0, kTagBytes));
}

}  // namespace
}  // namespace coord::peers
