#include "replica/peers/handshake.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <limits>

#include "tests/replica/peers/feed.h"

namespace coord::peers {
namespace {

using Progress = Handshake::Progress;

Identity identity(std::uint32_t sid) {
  Identity out;
  out.self = Sid(sid);
  out.cluster_id = "c1";
  out.directory_id = "directory of " + std::to_string(sid);
  out.incarnation = 1000 + sid;
  out.members = {{Sid(1), false}, {Sid(2), false}, {Sid(3), false}, {Sid(4), true}};
  out.secret = "s3cret";
  return out;
}

struct End {
  End(Identity who, std::uint32_t wanted, char nonce, std::int64_t wall = 0)
      : self(std::move(who)),
        handshake(self, table, zab::Channel::kLearner, Sid(wanted), std::string(kNonceBytes, nonce), wall) {}
  Identity self;
  PeerTable table;
  Handshake handshake;
  FrameReader reader{kHelloBytesMax};
  FrameWriter writer;
  Progress progress = Progress::kMore;
};

// Carries bytes both ways until nothing is left; `tamper` sees what the dialer sent, then what the acceptor sent, ...
void talk(End& dialer, End& acceptor, const std::function<void(int, std::string&)>& tamper = {}) {
  std::string bytes;
  dialer.handshake.start(dialer.writer, bytes);
  for (int turn = 0; turn < 10 && !bytes.empty(); ++turn) {
    if (tamper) tamper(turn, bytes);
    End& to = turn % 2 == 0 ? acceptor : dialer;
    feed(to.reader, bytes);
    bytes.clear();
    if (to.progress == Progress::kMore) to.progress = to.handshake.advance(to.reader, to.writer, bytes);
  }
}

void expect_refused(End& by, End& other, Refusal refusal) {
  EXPECT_EQ(by.progress, Progress::kRefused);
  EXPECT_EQ(by.handshake.judgement().refusal, refusal);
  EXPECT_FALSE(by.handshake.refused_by_peer());
  EXPECT_NE(by.handshake.judgement().text, "");
  EXPECT_EQ(other.progress, Progress::kRefused);
  EXPECT_EQ(other.handshake.judgement().refusal, refusal);
  EXPECT_TRUE(other.handshake.refused_by_peer());
  EXPECT_EQ(other.handshake.judgement().text, by.handshake.judgement().text);
}

TEST(Handshake, BothAgree) {
  for (const bool secret : {true, false}) {
    Identity one = identity(1), two = identity(2);
    if (!secret) one.secret = two.secret = "";
    End dialer(two, 1, 'a'), acceptor(one, 0, 'b');
    talk(dialer, acceptor);
    ASSERT_EQ(dialer.progress, Progress::kDone);
    ASSERT_EQ(acceptor.progress, Progress::kDone);
    EXPECT_EQ(acceptor.handshake.peer()->sid, Sid(2));
    EXPECT_EQ(acceptor.handshake.peer()->channel, zab::Channel::kLearner);
    EXPECT_EQ(dialer.handshake.peer()->sid, Sid(1));
    EXPECT_TRUE(dialer.handshake.proven() && acceptor.handshake.proven());
    // And both have the keys of the other's direction.
    for (auto [from, to] : {std::pair(&dialer, &acceptor), std::pair(&acceptor, &dialer)}) {
      std::string bytes;
      from->writer.put("message", bytes);
      EXPECT_EQ(bytes.size(), kFrameHeaderBytes + 7 + (secret ? kTagBytes : 0));
      feed(to->reader, bytes);
      std::string_view payload;
      ASSERT_EQ(to->reader.next(payload), FrameReader::Status::kMessage);
      EXPECT_EQ(payload, "message");
    }
  }
}

TEST(Handshake, WithTlsFramesAreBare) {
  Identity one = identity(1), two = identity(2);
  one.tls = two.tls = true;
  End dialer(two, 1, 'a'), acceptor(one, 0, 'b');
  talk(dialer, acceptor);
  ASSERT_EQ(dialer.progress, Progress::kDone);
  ASSERT_EQ(acceptor.progress, Progress::kDone);
  EXPECT_EQ(dialer.writer.header_bytes(), kFrameHeaderBytes);
}

// What follows the handshake in the same bytes belongs to the link.
TEST(Handshake, EarlyMessagesAreLeftInTheReader) {
  End dialer(identity(2), 1, 'a'), acceptor(identity(1), 0, 'b');
  talk(dialer, acceptor, [&](int turn, std::string& bytes) {
    if (turn == 4) dialer.writer.put("early", bytes);
  });
  ASSERT_EQ(acceptor.progress, Progress::kDone);
  std::string_view payload;
  ASSERT_EQ(acceptor.reader.next(payload), FrameReader::Status::kMessage);
  EXPECT_EQ(payload, "early");
}

TEST(Handshake, WrongSecret) {
  for (const bool none : {false, true}) {
    Identity two = identity(2);
    two.secret = none ? "" : "other";
    End dialer(two, 1, 'a'), acceptor(identity(1), 0, 'b');
    talk(dialer, acceptor);
    expect_refused(acceptor, dialer, Refusal::kSecret);
    EXPECT_FALSE(acceptor.handshake.proven());
    EXPECT_FALSE(dialer.handshake.proven());
    EXPECT_NE(dialer.handshake.judgement().text.find("coord.peerSecret"), std::string::npos);
  }
}

// An acceptor that does not know the secret cannot pass by sending the dialer's own proof back.
TEST(Handshake, AReflectedProofIsNone) {
  End dialer(identity(2), 1, 'a'), acceptor(identity(1), 0, 'b');
  std::string proof;
  talk(dialer, acceptor, [&](int turn, std::string& bytes) {
    if (turn == 2) proof = bytes;
    if (turn == 3) bytes = proof;
  });
  EXPECT_EQ(dialer.progress, Progress::kRefused);
  EXPECT_EQ(dialer.handshake.judgement().refusal, Refusal::kSecret);
}

// A recorded conversation does not open another connection: the nonces are others.
TEST(Handshake, AReplayedDialerIsNone) {
  std::string hello, proof;
  {
    End dialer(identity(2), 1, 'a'), acceptor(identity(1), 0, 'b');
    talk(dialer, acceptor, [&](int turn, std::string& bytes) {
      if (turn == 0) hello = bytes;
      if (turn == 2) proof = bytes;
    });
  }
  End acceptor(identity(1), 0, 'c');
  std::string out;
  feed(acceptor.reader, hello);
  EXPECT_EQ(acceptor.handshake.advance(acceptor.reader, acceptor.writer, out), Progress::kMore);
  feed(acceptor.reader, proof);
  EXPECT_EQ(acceptor.handshake.advance(acceptor.reader, acceptor.writer, out), Progress::kRefused);
  EXPECT_EQ(acceptor.handshake.judgement().refusal, Refusal::kSecret);
}

// Any byte of any turn changed: nobody ends up with a link that the other does not agree to.
TEST(Handshake, ATamperedConversationIsNoLink) {
  for (int at = 0; at < 5; ++at) {
    for (std::size_t n = 0; n < 400; ++n) {
      End dialer(identity(2), 1, 'a'), acceptor(identity(1), 0, 'b');
      bool changed = false;
      talk(dialer, acceptor, [&](int turn, std::string& bytes) {
        if (turn != at || n >= bytes.size()) return;
        bytes[n] = static_cast<char>(bytes[n] ^ 0x40);
        changed = true;
      });
      if (!changed) break;
      if (at < 4) {
        EXPECT_NE(dialer.progress, Progress::kDone) << at << " " << n;
      }
      EXPECT_NE(acceptor.progress, Progress::kDone) << at << " " << n;
    }
  }
}

struct Case {
  const char* name;
  std::function<void(Identity& dialer, Identity& acceptor)> change;
  std::uint32_t wanted;
  Refusal refusal;
  std::vector<const char*> named;
};

TEST(Handshake, RefusalsNameThingAndRemedy) {
  const std::vector<Case> cases = {
      {"foreign cluster",
       [](Identity& d, Identity&) { d.cluster_id = "c2"; },
       1,
       Refusal::kCluster,
       {"c1", "c2", "dataDir", "server 1", "server 2"}},
      {"own sid",
       [](Identity& d, Identity&) { d.self = Sid(1); },
       1,
       Refusal::kOwnSid,
       {"two servers with id 1", "myid"}},
      {"reached itself", [](Identity& d, Identity& a) { d = a; }, 3, Refusal::kOwnSid, {"itself", "server.3"}},
      {"unknown sid",
       [](Identity& d, Identity&) { d.self = Sid(9); },
       1,
       Refusal::kUnknownSid,
       {"server 9", "server.9"}},
      {"wrong server", [](Identity&, Identity&) {}, 3, Refusal::kWrongSid, {"server 3", "server 1", "server.N"}},
      {"one member less",
       [](Identity& d, Identity&) { d.members.erase(Sid(3)); },
       1,
       Refusal::kMembers,
       {"server 3", "no member", "a voter", "server.N"}},
      {"one member more",
       [](Identity& d, Identity&) { d.members[Sid(5)] = false; },
       1,
       Refusal::kMembers,
       {"server 5", "no member"}},
      {"another role",
       [](Identity& d, Identity&) { d.members[Sid(4)] = false; },
       1,
       Refusal::kMembers,
       {"server 4", "an observer", "a voter"}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    Identity one = identity(1), two = identity(2);
    c.change(two, one);
    End dialer(two, c.wanted, 'a'), acceptor(one, 0, 'b');
    talk(dialer, acceptor);
    expect_refused(acceptor, dialer, c.refusal);
    EXPECT_TRUE(dialer.handshake.proven());
    for (const char* word : c.named) {
      EXPECT_NE(acceptor.handshake.judgement().text.find(word), std::string::npos)
          << word << " in: " << acceptor.handshake.judgement().text;
    }
    // The dialer would have said the same.
    PeerTable none;
    Hello hello{1,   zab::Channel::kLearner, one.self, Sid(0), one.cluster_id, one.directory_id, one.incarnation,
                one.members, 0, std::string(kNonceBytes, 'b')};
    const Judgement other = judge(two, hello, Sid(c.wanted), true, none);
    const bool only_there = c.refusal == Refusal::kUnknownSid;
    EXPECT_EQ(other.refusal, only_there ? Refusal::kNone : c.refusal);
  }
}

// Whether the lists are compared, and who is let in, depends on where the lists come from.
TEST(Handshake, MembersOfAVersion) {
  const Zxid old(1, 5), young(2, 7);
  struct VersionCase {
    const char* name;
    std::function<void(Identity& one, Identity& two)> change;
    Refusal refusal;
    std::vector<const char*> named;
  };
  const std::vector<VersionCase> cases = {
      {"one version and other lists",
       [&](Identity& one, Identity& two) {
         one.members_version = two.members_version = old;
         two.members.erase(Sid(3));
       },
       Refusal::kMembers,
       {"server 3", "no member", "a voter", "diverged", "1:5"}},
      {"one version and another role",
       [&](Identity& one, Identity& two) {
         one.members_version = two.members_version = old;
         two.members[Sid(4)] = false;
       },
       Refusal::kMembers,
       {"server 4", "an observer", "diverged"}},
      {"a member whose file has one less",
       [&](Identity& one, Identity& two) {
         one.members_version = old;
         two.members.erase(Sid(3));
       },
       Refusal::kMembers,
       {"server 3", "no member", "lines server.N of server 2", "coordctl get /zookeeper/config"}},
      {"a member whose file has one more",
       [&](Identity& one, Identity& two) {
         one.members_version = old;
         two.members[Sid(5)] = false;
       },
       Refusal::kMembers,
       {"server 5", "no member", "lines server.N of server 2", "coordctl get /zookeeper/config"}},
      {"a member whose file has another role",
       [&](Identity& one, Identity& two) {
         one.members_version = young;
         two.members[Sid(4)] = false;
       },
       Refusal::kMembers,
       {"server 4", "an observer", "a voter", "lines server.N of server 2"}},
      {"two files, one does not know the other",
       [](Identity&, Identity& two) { two.self = Sid(9); },
       Refusal::kUnknownSid,
       {"server 9"}},
      {"a guest with an id that there is not",
       [&](Identity& one, Identity& two) {
         one.members_version = two.members_version = old;
         two.self = Sid(255);
       },
       Refusal::kUnknownSid,
       {"server 255"}},
      {"a guest of another cluster",
       [&](Identity& one, Identity& two) {
         one.members_version = old;
         two.self = Sid(9);
         two.cluster_id = "c2";
       },
       Refusal::kCluster,
       {"c1", "c2"}},
      {"a member whose file is right",
       [&](Identity& one, Identity&) { one.members_version = old; },
       Refusal::kNone,
       {}},
      {"a joiner",
       [&](Identity& one, Identity& two) {
         one.members_version = old;
         two.self = Sid(9);
         two.members[Sid(9)] = false;
       },
       Refusal::kNone,
       {}},
      {"a joiner that has the list by now",
       [&](Identity& one, Identity& two) {
         one.members_version = two.members_version = old;
         two.self = Sid(9);
       },
       Refusal::kNone,
       {}},
      {"one was away while a server came and another went",
       [&](Identity& one, Identity& two) {
         one.members_version = old;
         two.members_version = young;
         two.members.erase(Sid(3));
         two.members[Sid(5)] = false;
       },
       Refusal::kNone,
       {}},
      {"a server that was removed and knows it",
       [&](Identity& one, Identity& two) {
         one.members_version = old;
         two.members_version = young;
         two.members.erase(Sid(2));
       },
       Refusal::kNone,
       {}},
      {"a server that was removed and does not",
       [&](Identity& one, Identity& two) {
         one.members_version = young;
         two.members_version = old;
         one.members.erase(Sid(2));
       },
       Refusal::kNone,
       {}},
  };
  for (const VersionCase& c : cases) {
    for (const bool two_dials : {true, false}) {
      SCOPED_TRACE(std::string(c.name) + (two_dials ? "" : ", dialed"));
      Identity one = identity(1), two = identity(2);
      c.change(one, two);
      End dialer(two_dials ? two : one, (two_dials ? one : two).self.value, 'a');
      End acceptor(two_dials ? one : two, 0, 'b');
      talk(dialer, acceptor);
      if (c.refusal == Refusal::kNone) {
        EXPECT_EQ(dialer.progress, Progress::kDone) << dialer.handshake.judgement().text;
        EXPECT_EQ(acceptor.progress, Progress::kDone) << acceptor.handshake.judgement().text;
        continue;
      }
      // Where one list is of a file, the other side may be the one that knows what is wrong.
      EXPECT_EQ(dialer.progress, Progress::kRefused);
      EXPECT_EQ(acceptor.progress, Progress::kRefused);
      EXPECT_EQ(dialer.handshake.judgement().refusal, c.refusal);
      EXPECT_EQ(acceptor.handshake.judgement().refusal, c.refusal);
      EXPECT_EQ(acceptor.handshake.judgement().text, dialer.handshake.judgement().text);
      for (const char* word : c.named) {
        EXPECT_NE(acceptor.handshake.judgement().text.find(word), std::string::npos)
            << word << " in: " << acceptor.handshake.judgement().text;
      }
    }
  }
}

TEST(Handshake, TwinsAndWrongServersAreToldAmongGuestsToo) {
  Identity one = identity(1), two = identity(9);
  one.members_version = Zxid(1, 5);
  {
    End dialer(two, 3, 'a'), acceptor(one, 0, 'b');
    talk(dialer, acceptor);
    expect_refused(acceptor, dialer, Refusal::kWrongSid);
  }
  End dialer(two, 1, 'a'), acceptor(one, 0, 'b');
  Hello other;
  other.sid = Sid(9);
  other.directory_id = "another directory";
  acceptor.table.up(other);
  talk(dialer, acceptor);
  expect_refused(acceptor, dialer, Refusal::kTwin);
}

TEST(Handshake, WhoDoesNotKnowTheFeatureLevelIsRefusedByBoth) {
  for (const bool dialer_is_old : {true, false}) {
    SCOPED_TRACE(dialer_is_old);
    Identity one = identity(1), two = identity(2);
    Identity& old = dialer_is_old ? two : one;
    Identity& young = dialer_is_old ? one : two;
    old.feature_level_known = 1;
    young.feature_level = 2;
    young.feature_level_known = 3;
    young.members_version = Zxid(1, 5);  // the level is what counts first
    young.members.erase(Sid(3));
    End dialer(two, 1, 'a'), acceptor(one, 0, 'b');
    talk(dialer, acceptor);
    expect_refused(acceptor, dialer, Refusal::kLevel);
    const std::string text = "server " + std::to_string(old.self.value) +
                             " knows feature level 1, the ensemble is at level 2: start a newer program there";
    EXPECT_EQ(acceptor.handshake.judgement().text.find(text), 0u) << acceptor.handshake.judgement().text;
    // And the dialer would have said the same.
    const Judgement other = judge(two, *dialer.handshake.peer(), Sid(1), true, dialer.table);
    EXPECT_EQ(other.refusal, Refusal::kLevel);
    EXPECT_EQ(other.text, acceptor.handshake.judgement().text);
  }
}

// What each knows may differ as long as it is enough: a rollout, and a fresh server that is at level 1.
TEST(Handshake, LevelsThatAreKnownGoTogether) {
  Identity one = identity(1), two = identity(2);
  one.feature_level = one.feature_level_known = 2;
  two.feature_level_known = 3;
  End dialer(two, 1, 'a'), acceptor(one, 0, 'b');
  talk(dialer, acceptor);
  EXPECT_EQ(dialer.progress, Progress::kDone);
  EXPECT_EQ(acceptor.progress, Progress::kDone);
  EXPECT_EQ(acceptor.handshake.peer()->feature_level, 1);
  EXPECT_EQ(acceptor.handshake.peer()->feature_level_known, 3);
  EXPECT_EQ(dialer.handshake.peer()->feature_level, 2);
}

TEST(Handshake, TheDialerRefusesToo) {
  End dialer(identity(2), 1, 'a'), acceptor(identity(1), 0, 'b');
  Hello twin{1, zab::Channel::kElection, Sid(1), Sid(2), "c1", "another directory", 77, {}, 0, std::string(32, 'x')};
  dialer.table.up(twin);
  talk(dialer, acceptor);
  expect_refused(dialer, acceptor, Refusal::kTwin);
}

TEST(Handshake, AVirginBelongsAnywhere) {
  for (const bool dialer_virgin : {true, false}) {
    Identity one = identity(1), two = identity(2);
    (dialer_virgin ? two : one).cluster_id = "";
    End dialer(two, 1, 'a'), acceptor(one, 0, 'b');
    talk(dialer, acceptor);
    EXPECT_EQ(dialer.progress, Progress::kDone);
    EXPECT_EQ(acceptor.progress, Progress::kDone);
  }
}

TEST(Handshake, OtherProtocolVersion) {
  End acceptor(identity(1), 0, 'b');
  Hello hello;
  hello.version = 2;
  hello.nonce = std::string(kNonceBytes, 'n');
  std::string bytes = "H", frame, out;
  encode(hello, bytes);
  bytes += "and what version 2 adds";
  FrameWriter().put(bytes, frame);
  feed(acceptor.reader, frame);
  EXPECT_EQ(acceptor.handshake.advance(acceptor.reader, acceptor.writer, out), Progress::kRefused);
  EXPECT_EQ(acceptor.handshake.judgement().refusal, Refusal::kVersion);
  End dialer(identity(2), 1, 'a');
  std::string hello_out, more;
  dialer.handshake.start(dialer.writer, hello_out);
  feed(dialer.reader, out);
  EXPECT_EQ(dialer.handshake.advance(dialer.reader, dialer.writer, more), Progress::kRefused);
  EXPECT_TRUE(dialer.handshake.refused_by_peer());
  EXPECT_FALSE(dialer.handshake.proven());
  EXPECT_NE(dialer.handshake.judgement().text.find("version 2"), std::string::npos);
}

TEST(Handshake, GarbageIsRefusedWhateverItIs) {
  const std::vector<std::string> garbage = {std::string("H"), std::string("P"), std::string("V"), std::string("V\0", 2),
                                            std::string("X"), std::string(100, 'H'), std::string("")};
  for (const std::string& payload : garbage) {
    End acceptor(identity(1), 0, 'b');
    std::string frame, out;
    FrameWriter().put(payload, frame);
    feed(acceptor.reader, frame);
    EXPECT_EQ(acceptor.handshake.advance(acceptor.reader, acceptor.writer, out), Progress::kRefused);
    EXPECT_EQ(acceptor.handshake.judgement().refusal, Refusal::kMalformed);
    EXPECT_FALSE(acceptor.handshake.proven());
  }
  End http(identity(1), 0, 'b');
  std::string out;
  feed(http.reader, "GET / HTTP/1.1\r\n\r\n");
  EXPECT_EQ(http.handshake.advance(http.reader, http.writer, out), Progress::kRefused);
}

TEST(Handshake, HelloIsExact) {
  const Hello hello{1,        zab::Channel::kElection, Sid(3), Sid(2), "c", "d", 42, {{Sid(2), false}, {Sid(3), true}},
                    -5, std::string(kNonceBytes, 'n'), Zxid(7, 8), 2, 3};
  std::string bytes;
  encode(hello, bytes);
  const auto again = decode_hello(bytes);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->sid, Sid(3));
  EXPECT_EQ(again->wanted, Sid(2));
  EXPECT_EQ(again->members, hello.members);
  EXPECT_EQ(again->wall_ms, -5);
  EXPECT_EQ(again->nonce, hello.nonce);
  EXPECT_EQ(again->members_version, Zxid(7, 8));
  EXPECT_EQ(again->feature_level, 2);
  EXPECT_EQ(again->feature_level_known, 3);
  for (const int level : {0, -1, kLevelMost + 1, std::numeric_limits<int>::max(), std::numeric_limits<int>::min()}) {
    for (const bool known : {true, false}) {
      Hello strange = hello;
      (known ? strange.feature_level_known : strange.feature_level) = level;
      std::string strange_bytes;
      encode(strange, strange_bytes);
      EXPECT_FALSE(decode_hello(strange_bytes)) << level;
    }
  }
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    const auto cut = decode_hello(std::string_view(bytes).substr(0, n));
    EXPECT_TRUE(!cut || cut->version != kProtocolVersion) << n;
  }
  EXPECT_FALSE(decode_hello(bytes + "x"));
}

TEST(Handshake, TheLargestHelloFits) {
  Identity one = identity(1), two = identity(2);
  for (std::uint32_t sid = 1; sid <= 254; ++sid) one.members[Sid(sid)] = two.members[Sid(sid)] = false;
  one.cluster_id = two.cluster_id = std::string(32, 'f');
  End dialer(two, 1, 'a'), acceptor(one, 0, 'b');
  talk(dialer, acceptor);
  EXPECT_EQ(dialer.progress, Progress::kDone);
  EXPECT_EQ(acceptor.progress, Progress::kDone);
}

// --- who is connected

Hello hello_of(std::uint64_t incarnation, const char* directory, zab::Channel channel = zab::Channel::kElection) {
  Hello out;
  out.channel = channel;
  out.sid = Sid(2);
  out.incarnation = incarnation;
  out.directory_id = directory;
  return out;
}

TEST(PeerTable, ASecondServerOfOneId) {
  PeerTable table;
  EXPECT_EQ(table.conflict(hello_of(1, "a")), "");
  table.up(hello_of(1, "a"));
  EXPECT_EQ(table.conflict(hello_of(1, "a")), "");                                // again
  EXPECT_EQ(table.conflict(hello_of(1, "a", zab::Channel::kLearner)), "");        // its other channel
  EXPECT_NE(table.conflict(hello_of(2, "b")), "");                                // a twin
  EXPECT_NE(table.conflict(hello_of(2, "b", zab::Channel::kLearner)), "");
  table.down(Sid(2), zab::Channel::kElection);
  EXPECT_EQ(table.conflict(hello_of(2, "b")), "");                                // its disk was replaced
}

TEST(PeerTable, ANewerIncarnationReplacesAndTheOlderDoesNotComeBack) {
  PeerTable table;
  table.up(hello_of(1, "a"));
  EXPECT_EQ(table.conflict(hello_of(2, "a")), "");
  table.up(hello_of(2, "a"));
  const std::string text = table.conflict(hello_of(1, "a"));
  EXPECT_NE(text.find("copies of one data directory"), std::string::npos) << text;
  EXPECT_EQ(table.conflict(hello_of(2, "a")), "");
  for (std::uint64_t n = 3; n < 100; ++n) table.up(hello_of(n, "a"));
  EXPECT_NE(table.conflict(hello_of(98, "a")), "");
}

TEST(Clock, MoreThanAnHourApartIsAWarning) {
  Hello peer = hello_of(1, "a");
  const std::int64_t now = 1'700'000'000'000;
  for (const std::int64_t apart : {0L, 3'600'000L, -3'600'000L}) {
    peer.wall_ms = now + apart;
    EXPECT_EQ(clock_warning(Sid(1), now, peer), "") << apart;
  }
  for (const std::int64_t apart : {3'600'001L, -3'600'001L}) {
    peer.wall_ms = now + apart;
    EXPECT_NE(clock_warning(Sid(1), now, peer), "") << apart;
  }
  peer.wall_ms = std::numeric_limits<std::int64_t>::min();
  EXPECT_NE(clock_warning(Sid(1), now, peer), "");
}

}  // namespace
}  // namespace coord::peers
