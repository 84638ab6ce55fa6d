// ACLs of stock operations: client-protocol.md section 8.
#include "replica/tree/acl_check.h"
#include "tests/replica/tree/harness.h"

namespace coord::tree::test {
namespace {

const std::vector<AuthId> kNobody{{"ip", "10.1.2.3"}};

Err stored(const Acl& acl, const std::vector<AuthId>& ids = kNobody) {
  const auto result = acl_to_store(acl, ids);
  return result ? Err::kOk : result.error();
}

TEST(AclToStore, RefusesWhatNoProviderKnows) {
  EXPECT_EQ(stored({}), Err::kInvalidAcl);
  for (const auto& [scheme, id] : std::vector<std::pair<std::string, std::string>>{{"", ""},
                                                                                   {"", "anyone"},
                                                                                   {"world", ""},
                                                                                   {"world", "somebody"},
                                                                                   {"super", "x"},
                                                                                   {"sasl", "bob"},
                                                                                   {"x509", "CN=bob"},
                                                                                   {"digest", ""},
                                                                                   {"digest", "u"},
                                                                                   {"digest", "u:"},
                                                                                   {"digest", "a:b:c"},
                                                                                   {"digest", ":"},
                                                                                   {"ip", ""},
                                                                                   {"ip", "host"},
                                                                                   {"ip", "1.2.3"},
                                                                                   {"ip", "1.2.3.4/33"},
                                                                                   {"ip", "1.2.3.4/"},
                                                                                   {"ip", "1.2.3.4/-1"},
                                                                                   {"ip", "::1/129"},
                                                                                   {"unix", ""},
                                                                                   {"unix", "u:"},
                                                                                   {"unix", "u:01"},
                                                                                   {"unix", "u:-1"},
                                                                                   {"unix", "x:1"},
                                                                                   {"unix", "u:4294967295"},
                                                                                   {"unix", "u:1 "},
                                                                                   {"auth", ""}}) {
    EXPECT_EQ(stored(acl_of(scheme, id)), Err::kInvalidAcl) << scheme << ':' << id;
  }
  Acl mixed = open_acl();
  mixed.push_back({1, {"nonsense", ""}});
  EXPECT_EQ(stored(mixed), Err::kInvalidAcl);
}

TEST(AclToStore, AcceptsWellFormedIds) {
  for (const auto& [scheme, id] : std::vector<std::pair<std::string, std::string>>{{"world", "anyone"},
                                                                                   {"digest", "u:h"},
                                                                                   {"digest", ":h"},
                                                                                   {"digest", "u:h:"},
                                                                                   {"ip", "1.2.3.4"},
                                                                                   {"ip", "1.2.3.4/0"},
                                                                                   {"ip", "1.2.3.4/32"},
                                                                                   {"ip", "::1"},
                                                                                   {"ip", "fe80::/10"},
                                                                                   {"unix", "u:0"},
                                                                                   {"unix", "g:1000"}}) {
    EXPECT_EQ(stored(acl_of(scheme, id)), Err::kOk) << scheme << ':' << id;
  }
}

TEST(AclToStore, ExpandsAuth) {  // section 18.30
  const std::vector<AuthId> ids{{"ip", "10.1.2.3"}, {"digest", "a:1"}, {"unix", "u:5"},
                                {"unix", "g:5"},    {"digest", "b:2"}, {"super", ""}};
  const auto acl = acl_to_store({{5, {"auth", "whatever"}}}, ids);
  ASSERT_TRUE(acl.has_value());
  EXPECT_EQ(*acl, (Acl{{5, {"digest", "a:1"}}, {5, {"unix", "u:5"}}, {5, {"digest", "b:2"}}}));
}

TEST(AclToStore, RemovesDuplicatesInOrder) {
  const AclEntry a{1, {"digest", "a:1"}};
  const AclEntry b{2, {"digest", "a:1"}};
  EXPECT_EQ(*acl_to_store({b, a, b, a}, kNobody), (Acl{b, a}));
}

TEST(AclToStore, LongListsTakeLinearTime) {
  Acl acl;
  for (std::int32_t i = 0; i < 90'000; ++i) acl.push_back({i / 2, {"world", "anyone"}});
  const auto result = acl_to_store(acl, kNobody);
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->size(), 45'000u);
}

TEST(AclAllows, Schemes) {
  EXPECT_TRUE(acl_allows({}, kNobody, perm::kAdmin));
  EXPECT_TRUE(acl_allows(open_acl(), {}, perm::kAdmin));
  EXPECT_FALSE(acl_allows(acl_of("world", "anyone", perm::kRead), kNobody, perm::kWrite));
  EXPECT_TRUE(acl_allows(acl_of("world", "anyone", perm::kRead), kNobody, perm::kWrite | perm::kRead));
  const Acl digest = acl_of("digest", "u:h");
  EXPECT_FALSE(acl_allows(digest, kNobody, perm::kRead));
  EXPECT_TRUE(acl_allows(digest, {{"digest", "u:h"}}, perm::kRead));
  EXPECT_FALSE(acl_allows(digest, {{"unix", "u:h"}}, perm::kRead));
  EXPECT_TRUE(acl_allows(digest, {{"super", "whoever"}}, perm::kRead));
  EXPECT_FALSE(acl_allows(digest, {{"unix", "u:0"}}, perm::kRead)) << "uid 0 is above unix and world only";
}

TEST(AclAllows, Ip) {
  EXPECT_TRUE(ip_matches("10.1.2.3", "10.1.2.3"));
  EXPECT_FALSE(ip_matches("10.1.2.3", "10.1.2.4"));
  EXPECT_TRUE(ip_matches("10.1.2.3", "10.1.0.0/16"));
  EXPECT_TRUE(ip_matches("10.1.2.3", "10.1.2.2/31"));
  EXPECT_FALSE(ip_matches("10.1.2.3", "10.1.2.0/31"));
  EXPECT_TRUE(ip_matches("10.1.2.3", "99.9.9.9/0"));
  EXPECT_FALSE(ip_matches("10.1.2.3", "::/0"));
  EXPECT_TRUE(ip_matches("fe80::1", "fe80::/10"));
  EXPECT_TRUE(ip_matches("::1", "0:0:0:0:0:0:0:1"));
  EXPECT_FALSE(ip_matches("", "0.0.0.0/0"));
  EXPECT_TRUE(acl_allows(acl_of("ip", "10.0.0.0/8"), kNobody, perm::kRead));
}

TEST(AclAllows, UnixIdsOfTheSocket) {
  const std::vector<AuthId> user{{"unix", "u:1000"}, {"unix", "g:100"}};
  const std::vector<AuthId> root{{"unix", "u:0"}, {"unix", "g:0"}};
  EXPECT_TRUE(acl_allows(acl_of("unix", "u:1000"), user, perm::kWrite));
  EXPECT_TRUE(acl_allows(acl_of("unix", "g:100"), user, perm::kWrite));
  EXPECT_FALSE(acl_allows(acl_of("unix", "u:1001"), user, perm::kWrite));
  EXPECT_TRUE(acl_allows(acl_of("unix", "u:1001", 0), root, perm::kWrite));
  EXPECT_TRUE(acl_allows(acl_of("world", "anyone", perm::kRead), root, perm::kWrite));
  Acl foreign = acl_of("unix", "u:1001", perm::kRead);
  foreign.push_back({perm::kAll, {"digest", "a:b"}});
  EXPECT_TRUE(acl_allows(foreign, root, perm::kRead)) << "the union of unix and world entries";
  EXPECT_FALSE(acl_allows(foreign, root, perm::kWrite));
}

TEST(AclEnforced, SkipAcl) {
  Limits limits;
  limits.skip_acl = true;
  World w(limits);
  ASSERT_EQ(w.create("/x", "", 0, acl_of("digest", "a:b")), Err::kOk);
  EXPECT_EQ(w.set("/x", "y"), Err::kOk);
  EXPECT_EQ(w.create("/x/c"), Err::kOk);
  EXPECT_EQ(w.create("/y", "", 0, {}), Err::kInvalidAcl);
}

TEST(AclEnforced, PendingAclDecides) {
  World w;
  ASSERT_EQ(w.create("/x"), Err::kOk);
  w.prepare(w.request(Op::kSetAcl, set_acl_body("/x", acl_of("digest", "a:b"))));
  w.prepare(w.request(Op::kSetData, set_data_body("/x", "no")));
  w.prepare(w.request(Op::kCreate, create_body("/x/c")));
  const std::vector<Applied> replies = w.settle();
  EXPECT_EQ(replies[1].err, Err::kNoAuth);
  EXPECT_EQ(replies[2].err, Err::kNoAuth);
}

TEST(AclEnforced, AuthIsExpandedAtWriteTime) {
  World w;
  EXPECT_EQ(w.create("/x", "", 0, acl_of("auth", "")), Err::kInvalidAcl);
  w.ids.push_back({"digest", "u:hash"});
  ASSERT_EQ(w.create("/x", "", 0, acl_of("auth", "")), Err::kOk);
  EXPECT_EQ(w.acl("/x"), acl_of("digest", "u:hash"));
}

}  // namespace
}  // namespace coord::tree::test
