// TLS between replicas: a certificate of the same authority on both sides, or no link.
#include <fstream>

#include "tests/replica/peers/certificates.h"
#include "tests/replica/peers/transport_testing.h"

namespace coord::peers {
namespace {

using namespace testing;
using zab::Passed;

class TlsTest : public TransportTest {
 protected:
  Server& add_tls(std::uint32_t sid, std::uint32_t count, const TlsFiles& files, const std::string& secret = "") {
    return add(sid, count, [&](TransportOptions& options) {
      options.tls = files;
      options.secret = secret;
    });
  }

  Authority ours_{"our authority"}, theirs_{"their authority"};
};

TEST_F(TlsTest, LinksWithCertificatesOfOneAuthority) {
  for (std::uint32_t sid = 1; sid <= 3; ++sid) add_tls(sid, 3, ours_.sign("server" + std::to_string(sid), ours_));
  connect();
  ASSERT_TRUE(until([&] {
    return std::all_of(servers_.begin(), servers_.end(), [](const auto& s) { return s->user->up.size() == 2; });
  }));
  Server& one = *servers_[0];
  Server& two = *servers_[1];
  const auto link = one.user->link_to(2), there = two.user->link_to(1);
  std::vector<std::string> sent;
  for (std::size_t n = 0; n < 300; ++n) {
    sent.emplace_back(n * 577 % 90'000 + (n == 150 ? 9u << 20 : 0), static_cast<char>(n));
    one->send(link, Passed{sent.back()});
    two->send(there, Passed{sent.back()});
    if (n % 7 == 0) one->flush();
  }
  one->flush();
  two->flush();
  ASSERT_TRUE(until([&] { return received(one, link) == sent.size() && received(two, there) == sent.size(); }));
  for (std::size_t n = 0; n < sent.size(); ++n) {
    ASSERT_TRUE(std::get<Passed>(two.user->got[there][n]).bytes == sent[n]) << n;
    ASSERT_TRUE(std::get<Passed>(one.user->got[link][n]).bytes == sent[n]) << n;
  }
}

TEST_F(TlsTest, WhatWasQueuedBeforeCloseArrives) {
  Server& one = add_tls(1, 2, ours_.sign("server1", ours_));
  Server& two = add_tls(2, 2, ours_.sign("server2", ours_));
  connect();
  ASSERT_TRUE(until([&] { return one.user->up.size() == 1 && two.user->up.size() == 1; }));
  const auto link = one.user->link_to(2), there = two.user->link_to(1);
  for (int n = 0; n < 50; ++n) one->send(link, Passed{std::string(100'000, 'x')});
  one->close(link, "test");
  one.user->up.erase(link);
  ASSERT_TRUE(until([&] { return two.user->over.contains(there); }));
  EXPECT_EQ(received(two, there), 50u);
}

TEST_F(TlsTest, TheSecretCountsAsWell) {
  Server& one = add_tls(1, 2, ours_.sign("server1", ours_), "a");
  Server& two = add_tls(2, 2, ours_.sign("server2", ours_), "b");
  connect();
  ASSERT_TRUE(until([&] { return one.user->troubles.contains(Sid(2)) && two.user->troubles.contains(Sid(1)); }));
  EXPECT_NE(one.user->troubles[Sid(2)].find("different secrets"), std::string::npos);
  EXPECT_EQ(one.user->count("up") + two.user->count("up"), 0u);
}

// Wrong in one direction is enough, whichever it is.
TEST_F(TlsTest, ACertificateOfAnotherAuthority) {
  struct Signers {
    const char* name;
    bool dialer_signed, dialer_trusts, acceptor_signed, acceptor_trusts;  // by, in: our authority
  };
  for (const Signers& c : {Signers{"the dialer's", false, true, true, true},
                           Signers{"the acceptor's", true, true, false, true},
                           Signers{"both", false, false, true, true}}) {
    SCOPED_TRACE(c.name);
    servers_.clear();
    const auto files = [&](bool is_signed, bool trusts, const char* name) {
      return (is_signed ? ours_ : theirs_).sign(name, trusts ? ours_ : theirs_);
    };
    Server& one = add_tls(1, 2, files(c.acceptor_signed, c.acceptor_trusts, "one"));
    Server& two = add_tls(2, 2, files(c.dialer_signed, c.dialer_trusts, "two"));
    connect();
    ASSERT_TRUE(until([&] { return two.user->troubles.contains(Sid(1)) && one.user->troubles.contains(Sid(0)); }));
    EXPECT_NE(two.user->troubles[Sid(1)].find("coord.peerTls"), std::string::npos) << two.user->troubles[Sid(1)];
    EXPECT_NE(one.user->troubles[Sid(0)].find("coord.peerTls"), std::string::npos) << one.user->troubles[Sid(0)];
    EXPECT_EQ(one.user->count("up") + two.user->count("up"), 0u);
  }
}

TEST_F(TlsTest, TlsOnOneSideOnly) {
  for (const bool dialer : {true, false}) {
    SCOPED_TRACE(dialer);
    servers_.clear();
    Server& one = add_tls(1, 2, dialer ? TlsFiles{} : ours_.sign("server1", ours_));
    Server& two = add_tls(2, 2, dialer ? ours_.sign("server2", ours_) : TlsFiles{});
    connect();
    ASSERT_TRUE(until([&] { return two.user->troubles.contains(Sid(1)); }));
    EXPECT_NE(two.user->troubles[Sid(1)].find("coord.peerTls"), std::string::npos) << two.user->troubles[Sid(1)];
    EXPECT_EQ(one.user->count("up") + two.user->count("up"), 0u);
  }
}

TEST_F(TlsTest, FilesThatDoNotFitAreFaults) {
  const TlsFiles good = ours_.sign("good", ours_);
  const TlsFiles other = ours_.sign("other", ours_);
  const auto fault = [&](const TlsFiles& files) {
    TransportOptions options;
    options.self = Sid(1);
    options.listen_address = "127.0.0.1";
    options.tls = files;
    const auto opened = Transport::open(loop_, options);
    return opened ? std::string() : opened.error().message;
  };
  EXPECT_EQ(fault(good), "");
  TlsFiles files = good;
  files.key = other.key;
  EXPECT_NE(fault(files).find("coord.peerTls.key"), std::string::npos) << fault(files);
  files = good;
  files.certificate += ".missing";
  EXPECT_NE(fault(files).find(files.certificate), std::string::npos) << fault(files);
  files = good;
  files.authority = good.key;
  EXPECT_NE(fault(files).find("coord.peerTls.ca"), std::string::npos) << fault(files);
  files = good;
  files.authority = "";
  EXPECT_NE(fault(files).find("coord.peerTls.ca is not given"), std::string::npos) << fault(files);
}

}  // namespace
}  // namespace coord::peers
