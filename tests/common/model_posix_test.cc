// The ACL as POSIX permission, compared with a second, literal implementation of acl(5) over random ACLs.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "common/model/posix.h"

namespace coord {
namespace {

using perm::kAdmin;
using perm::kAll;
using perm::kCreate;
using perm::kDelete;
using perm::kRead;
using perm::kWrite;

AclEntry u(std::uint32_t uid, std::int32_t perms) { return {perms, {"unix", "u:" + std::to_string(uid)}}; }
AclEntry g(std::uint32_t gid, std::int32_t perms) { return {perms, {"unix", "g:" + std::to_string(gid)}}; }
AclEntry world(std::int32_t perms) { return {perms, {"world", "anyone"}}; }
AclEntry digest(std::int32_t perms) { return {perms, {"digest", "bob:hash"}}; }
Credentials user(std::uint32_t uid, std::uint32_t gid, std::vector<std::uint32_t> groups = {}) {
  return {uid, gid, std::move(groups)};
}

constexpr Attributes kFileAttributes{Shape::kFile, 0, 0};
constexpr Attributes kDirAttributes{Shape::kDir, 0, 0};

// The algorithm of acl(5), "ACCESS CHECK ALGORITHM", over an ACL kept as data, not as znode entries.
struct Reference {
  struct Named {
    std::uint32_t id;
    std::int32_t perms;
  };
  std::optional<Named> owner;
  std::vector<Named> users;
  std::vector<Named> groups;
  std::optional<std::int32_t> other;
  bool foreign = false;

  bool allows(const Credentials& who, std::int32_t wanted) const {
    if (who.uid == 0 && !foreign) return true;
    if (who.uid == 0) {
      std::int32_t all = other.value_or(0) | (owner ? owner->perms : 0);
      for (const Named& n : users) all |= n.perms;
      for (const Named& n : groups) all |= n.perms;
      return (all & wanted) != 0;
    }
    if (owner && owner->id == who.uid) return (owner->perms & wanted) != 0;
    for (const Named& n : users) {
      if (n.id == who.uid) return (n.perms & wanted) != 0;
    }
    bool matched = false;
    for (const Named& n : groups) {
      const bool member = n.id == who.gid || std::count(who.groups.begin(), who.groups.end(), n.id) != 0;
      if (member && (n.perms & wanted) != 0) return true;
      matched = matched || member;
    }
    if (matched) return false;
    return (other.value_or(0) & wanted) != 0;
  }
};

TEST(UnixAllows, AgreesWithAcl5OverRandomCases) {
  std::mt19937 rng(20261121);
  const auto pick = [&](std::uint32_t n) { return static_cast<std::uint32_t>(rng() % n); };
  int granted = 0;
  constexpr int kCases = 50'000;
  for (int i = 0; i < kCases; ++i) {
    Reference ref;
    Acl acl;
    std::vector<std::uint32_t> uids{0, 1, 2, 3, 4};  // each at most once
    std::shuffle(uids.begin(), uids.end(), rng);
    if (pick(4) != 0) {
      const auto perms = static_cast<std::int32_t>(pick(16)) | kAdmin;
      ref.owner = Reference::Named{uids[0], perms};
      acl.push_back(u(uids[0], perms));
    }
    for (std::size_t n = 1; n <= pick(3); ++n) {
      const auto perms = static_cast<std::int32_t>(pick(16));
      ref.users.push_back({uids[n], perms});
      acl.push_back(u(uids[n], perms));
    }
    for (std::uint32_t n = 0; n < pick(4); ++n) {
      const auto perms = static_cast<std::int32_t>(pick(32));
      const std::uint32_t gid = 10 + pick(4);
      ref.groups.push_back({gid, perms});
      acl.push_back(g(gid, perms));
    }
    if (pick(2) == 0) {
      ref.other = static_cast<std::int32_t>(pick(32));
      acl.push_back(world(*ref.other));
    }
    if (pick(4) == 0) {
      ref.foreign = true;
      acl.push_back(digest(kAll));
    }
    std::shuffle(acl.begin(), acl.end(), rng);
    Credentials who = user(pick(6), 10 + pick(5));
    for (std::uint32_t n = 0; n < pick(3); ++n) who.groups.push_back(10 + pick(5));
    const auto wanted = static_cast<std::int32_t>(1 + pick(31));
    const bool verdict = unix_allows(acl, who, wanted);
    ASSERT_EQ(verdict, ref.allows(who, wanted)) << "case " << i;
    granted += verdict ? 1 : 0;
  }
  EXPECT_GT(granted, kCases / 10);  // the cases are not all of one kind
  EXPECT_LT(granted, kCases - kCases / 10);
}

// What the kernel decides from uid, gid and mode is what the replica decides, for ACLs without named entries.
TEST(PosixView, TheKernelsVerdictFromTheModeIsTheReplicas) {
  std::mt19937 rng(7);
  const auto pick = [&](std::uint32_t n) { return static_cast<std::uint32_t>(rng() % n); };
  for (int i = 0; i < 20'000; ++i) {
    const std::uint32_t uid = 1 + pick(3);
    const std::uint32_t gid = 10 + pick(3);
    Acl acl = acl_for_new(uid, gid, pick(01000));
    Attributes attributes{pick(2) == 0 ? Shape::kFile : Shape::kDir, static_cast<std::uint16_t>(pick(01000) & 0111), 0};
    if (pick(2) == 0) apply_mode_and_owner(acl, attributes, pick(02000), std::nullopt, 10 + pick(3));
    if (pick(3) == 0) acl = open_acl();
    const bool directory = attributes.shape == Shape::kDir;
    const PosixView view = posix_view(acl, attributes, directory);
    const Credentials who = user(1 + pick(4), 10 + pick(4), {10 + pick(4)});
    const unsigned shift = who.uid == view.uid ? 6 : who.gid == view.gid || who.groups[0] == view.gid ? 3 : 0;
    const std::uint32_t bits = (view.mode >> shift) & 7u;
    ASSERT_EQ(unix_allows(acl, who, kRead), (bits & 4) != 0) << i;
    ASSERT_EQ(unix_allows(acl, who, directory ? kCreate | kDelete : kWrite), (bits & 2) != 0) << i;
    if (!directory) continue;
    ASSERT_EQ(unix_may_search(acl, attributes, who), (bits & 1) != 0) << i;
  }
}

TEST(UnixAllows, TheFirstMatchingClassDecidesEvenAgainstTheCaller) {
  const Acl acl{u(5, kAdmin), g(10, kRead), world(kRead | kWrite)};
  EXPECT_FALSE(unix_allows(acl, user(5, 10), kRead));  // the owner has less than others
  EXPECT_TRUE(unix_allows(acl, user(6, 10), kRead));
  EXPECT_FALSE(unix_allows(acl, user(6, 10), kWrite));  // the group has less than others
  EXPECT_TRUE(unix_allows(acl, user(6, 11), kWrite));
}

TEST(UnixAllows, RootIsAboveUnixAndWorldOnly) {
  EXPECT_TRUE(unix_allows({u(5, kAdmin)}, user(0, 0), kRead));
  EXPECT_FALSE(unix_allows({digest(kAll)}, user(0, 0), kRead));
  EXPECT_TRUE(unix_allows({digest(kAll), world(kRead)}, user(0, 0), kRead));
  EXPECT_FALSE(unix_allows({digest(kAll), world(kRead)}, user(0, 0), kWrite));
  EXPECT_TRUE(unix_allows({digest(kAll), u(7, kWrite)}, user(0, 0), kWrite));
  EXPECT_FALSE(unix_allows({{kAll, {"ip", "127.0.0.1"}}}, user(0, 0), kAdmin));
}

TEST(UnixAllows, ForeignAndMisspeltEntriesGiveNothing) {
  for (const char* id :
       {"u:", "u:01", "u:+5", "u:-5", "u: 5", "u:5 ", "u:5x", "u:4294967301", "U:5", "5", "mask", ""}) {
    EXPECT_FALSE(unix_allows({{kAll, {"unix", id}}}, user(5, 5), kAll)) << id;
  }
  EXPECT_FALSE(unix_allows({{kAll, {"world", "someone"}}}, user(5, 5), kAll));
  EXPECT_FALSE(unix_allows({digest(kAll)}, user(5, 5), kAll));
  EXPECT_FALSE(unix_allows({}, user(5, 5), kAll));
  EXPECT_TRUE(unix_allows({{kAll, {"unix", "u:4294967295"}}}, user(4294967295u, 5), kRead));
}

TEST(PosixView, AClientsNode) {
  EXPECT_EQ(posix_view(open_acl(), kFileAttributes, false).mode, 0666u);
  EXPECT_EQ(posix_view(open_acl(), kFileAttributes, true).mode, 0777u);
  EXPECT_EQ(posix_view(open_acl(), kDirAttributes, true).mode, 0777u);
  EXPECT_EQ(posix_view(open_acl(), kDirAttributes, false).mode, 0666u);
  EXPECT_EQ(posix_view({world(kRead)}, kDirAttributes, true).mode, 0555u);
  EXPECT_EQ(posix_view({digest(kAll)}, kFileAttributes, false).mode, 0u);
  const PosixView view = posix_view(open_acl(), kFileAttributes, false);
  EXPECT_EQ(view.uid, 0u);
  EXPECT_EQ(view.gid, 0u);
  EXPECT_TRUE(unix_may_search(open_acl(), kDirAttributes, user(5, 5)));
  EXPECT_FALSE(unix_may_search({world(kCreate)}, kDirAttributes, user(5, 5)));
}

TEST(PosixView, OwnerIsTheFirstUserWithAdmin) {
  const PosixView view = posix_view({u(4, kAll & ~kAdmin), u(5, kRead | kAdmin), u(6, kAll), g(8, kWrite), g(9, kAll)},
                                    kFileAttributes, false);
  EXPECT_EQ(view.uid, 5u);
  EXPECT_EQ(view.gid, 8u);
  EXPECT_EQ(view.mode, 0420u);
}

TEST(PosixView, WriteOfAFileIsWriteAndOfADirectoryCreateOrDelete) {
  const auto mode = [](std::int32_t perms, bool directory) {
    return posix_view({u(1, kAdmin | perms)}, {Shape::kDir, 0, 0}, directory).mode;
  };
  EXPECT_EQ(mode(kWrite, false), 0200u);
  EXPECT_EQ(mode(kWrite, true), 0u);
  EXPECT_EQ(mode(kCreate, true), 0200u);
  EXPECT_EQ(mode(kDelete, true), 0200u);
  EXPECT_EQ(mode(kCreate | kDelete, false), 0u);
}

TEST(PosixView, ExecBitsStandInTheAttributes) {
  const Acl acl = acl_for_new(1, 2, 0640);
  EXPECT_EQ(posix_view(acl, {Shape::kFile, 01101, 0}, false).mode, 01741u);
  EXPECT_EQ(posix_view(acl, {Shape::kDir, 01101, 0}, true).mode, 01741u);
  EXPECT_EQ(posix_view(acl, {Shape::kDir, 01101, 0}, false).mode, 0640u);  // `.data` is not executable
}

TEST(UnixMaySearch, ByClass) {
  const Acl acl{u(1, kAdmin), g(2, kRead), u(3, kRead)};
  const Attributes attributes{Shape::kDir, 0110, 0};
  EXPECT_TRUE(unix_may_search(acl, attributes, user(1, 9)));
  EXPECT_TRUE(unix_may_search(acl, attributes, user(4, 2)));
  EXPECT_TRUE(unix_may_search(acl, attributes, user(3, 9)));  // a named user is of the group class
  EXPECT_FALSE(unix_may_search(acl, attributes, user(4, 9)));
  EXPECT_TRUE(unix_may_search(acl, {Shape::kDir, 0, 0}, user(0, 0)));
  const Acl foreign{digest(kAll), u(1, kAdmin)};
  EXPECT_FALSE(unix_may_search(foreign, {Shape::kDir, 0, 0}, user(0, 0)));
  EXPECT_TRUE(unix_may_search(foreign, {Shape::kDir, 0100, 0}, user(0, 0)));
}

TEST(AclForNew, GivesWhatTheModeSays) {
  for (std::uint32_t mode = 0; mode <= 0777; ++mode) {
    const Acl acl = acl_for_new(5, 6, mode);
    const Attributes file{Shape::kFile, static_cast<std::uint16_t>(mode & 0111), 0};
    const Attributes dir{Shape::kDir, static_cast<std::uint16_t>(mode & 0111), 0};
    const PosixView view = posix_view(acl, file, false);
    ASSERT_EQ(view.mode, mode);
    ASSERT_EQ(view.uid, 5u);
    ASSERT_EQ(view.gid, 6u);
    ASSERT_EQ(posix_view(acl, dir, true).mode, mode);
    const bool others = (mode & 06) != 0;
    ASSERT_EQ(acl.size(), others ? 3u : 2u);
    ASSERT_TRUE(unix_is_owner(acl, user(5, 9)));
  }
}

TEST(ApplyModeAndOwner, EveryModeRoundTripsFromAnyStart) {
  const std::vector<Acl> starts{open_acl(),
                                acl_for_new(5, 6, 0640),
                                {digest(kAll)},
                                {world(kRead)},
                                {g(8, kCreate), world(kAdmin)},
                                {digest(kRead), u(4, kRead), u(5, kAll), g(1, 0), world(kCreate)}};
  for (const Acl& start : starts) {
    for (const Shape shape : {Shape::kFile, Shape::kDir}) {
      for (std::uint32_t mode = 0; mode <= 01777; ++mode) {
        Acl acl = start;
        Attributes attributes{shape, 0010, 77};
        apply_mode_and_owner(acl, attributes, mode, std::nullopt, std::nullopt);
        const PosixView view = posix_view(acl, attributes, shape == Shape::kDir);
        const PosixView before = posix_view(start, {shape, 0010, 77}, shape == Shape::kDir);
        ASSERT_EQ(view.mode, mode);
        ASSERT_EQ(view.uid, before.uid);
        ASSERT_EQ(view.gid, before.gid);
        ASSERT_EQ(attributes.mtime_ns, 77);
        const Acl once = acl;
        apply_mode_and_owner(acl, attributes, mode, std::nullopt, std::nullopt);
        ASSERT_EQ(acl, once);  // a chmod to what is there changes nothing
      }
    }
  }
}

TEST(ApplyModeAndOwner, ChownKeepsTheMode) {
  for (const Acl& start : {open_acl(), acl_for_new(5, 6, 0640), Acl{world(kRead)}}) {
    for (const Shape shape : {Shape::kFile, Shape::kDir}) {
      Acl acl = start;
      Attributes attributes{shape, 0, 0};
      const PosixView before = posix_view(acl, attributes, shape == Shape::kDir);
      apply_mode_and_owner(acl, attributes, std::nullopt, 1000, 100);
      const PosixView after = posix_view(acl, attributes, shape == Shape::kDir);
      EXPECT_EQ(after.uid, 1000u);
      EXPECT_EQ(after.gid, 100u);
      EXPECT_EQ(after.mode, before.mode);
      apply_mode_and_owner(acl, attributes, std::nullopt, 0, std::nullopt);
      EXPECT_EQ(posix_view(acl, attributes, shape == Shape::kDir).uid, 0u);
    }
  }
}

TEST(ApplyModeAndOwner, NothingToChangeChangesNothing) {
  for (const Acl& start : {open_acl(), Acl{u(5, kAdmin | kCreate), world(kDelete | kAdmin)}}) {
    Acl acl = start;
    Attributes attributes{Shape::kDir, 0, 0};
    const PosixView view = posix_view(acl, attributes, true);
    apply_mode_and_owner(acl, attributes, view.mode, view.uid, view.gid);
    apply_mode_and_owner(acl, attributes, std::nullopt, std::nullopt, std::nullopt);
    EXPECT_EQ(acl, start);
    EXPECT_EQ(attributes, (Attributes{Shape::kDir, 0, 0}));
  }
}

TEST(ApplyModeAndOwner, ExecOfAFileIsNoChangeOfTheAcl) {
  Acl acl = open_acl();
  Attributes attributes = kFileAttributes;
  apply_mode_and_owner(acl, attributes, 0777, std::nullopt, std::nullopt);
  EXPECT_EQ(acl, open_acl());
  EXPECT_EQ(attributes.exec, 0111);
}

TEST(ApplyModeAndOwner, ForeignAndNamedEntriesStay) {
  const Acl start{digest(kAll), u(4, kRead),  {kRead, {"unix", "mask"}}, u(5, kAll),
                  g(6, kAll),   g(7, kWrite), {3, {"ip", "::1"}},        world(kAll)};
  Acl acl = start;
  Attributes attributes = kFileAttributes;
  apply_mode_and_owner(acl, attributes, 0600, 50, 60);
  for (const AclEntry& entry : {start[0], start[1], start[2], start[5], start[6]}) {
    EXPECT_EQ(std::count(acl.begin(), acl.end(), entry), 1) << entry.id.scheme << ":" << entry.id.id;
  }
  EXPECT_EQ(acl.size(), 7u);  // without world
  EXPECT_EQ(posix_view(acl, attributes, false).uid, 50u);
}

TEST(ApplyModeAndOwner, TakingRightsFromOthersTakesAdminFromThem) {
  Acl acl = open_acl();
  Attributes attributes = kFileAttributes;
  apply_mode_and_owner(acl, attributes, 0644, std::nullopt, std::nullopt);
  EXPECT_FALSE(unix_allows(acl, user(9, 9), kAdmin | kWrite | kCreate | kDelete));
  EXPECT_TRUE(unix_allows(acl, user(9, 9), kRead));
}

TEST(MayChange, AsLinuxDecides) {
  const Acl acl = acl_for_new(5, 6, 0644);
  const auto no = std::nullopt;
  EXPECT_EQ(may_change_owner_or_mode(acl, user(5, 1), true, no, no), Err::kOk);
  EXPECT_EQ(may_change_owner_or_mode(acl, user(4, 6), true, no, no), Err::kNotPermitted);
  EXPECT_EQ(may_change_owner_or_mode(acl, user(0, 0), true, 1, 2), Err::kOk);
  EXPECT_EQ(may_change_owner_or_mode(acl, user(5, 1), false, 4, no), Err::kNotPermitted);  // giving away
  EXPECT_EQ(may_change_owner_or_mode(acl, user(5, 1), false, 5, no), Err::kOk);
  EXPECT_EQ(may_change_owner_or_mode(acl, user(4, 1), false, 5, no), Err::kNotPermitted);
  EXPECT_EQ(may_change_owner_or_mode(acl, user(5, 1), false, no, 1), Err::kOk);
  EXPECT_EQ(may_change_owner_or_mode(acl, user(5, 1, {8}), false, no, 8), Err::kOk);
  EXPECT_EQ(may_change_owner_or_mode(acl, user(5, 1), false, no, 6), Err::kOk);  // as it is
  EXPECT_EQ(may_change_owner_or_mode(acl, user(5, 1), false, no, 9), Err::kNotPermitted);
  EXPECT_EQ(may_change_owner_or_mode(acl, user(4, 9), false, no, 9), Err::kNotPermitted);
  EXPECT_EQ(may_change_owner_or_mode(acl, user(4, 9), false, no, no), Err::kOk);
  // World's ADMIN is the clients' business; a mount user needs to own the node.
  EXPECT_EQ(may_change_owner_or_mode(open_acl(), user(5, 5), true, no, no), Err::kNotPermitted);
  EXPECT_EQ(may_change_owner_or_mode(open_acl(), user(0, 0), true, no, no), Err::kOk);
}

TEST(MayChange, RootCannotOpenWhatForeignEntriesProtect) {
  const auto no = std::nullopt;
  EXPECT_EQ(may_change_owner_or_mode({digest(kAll)}, user(0, 0), true, no, no), Err::kNotPermitted);
  EXPECT_EQ(may_change_owner_or_mode({digest(kAll), u(5, kAll)}, user(0, 0), true, no, no), Err::kOk);
}

TEST(IsOwner, OwnerOrRoot) {
  const Acl acl = acl_for_new(5, 6, 0);
  EXPECT_TRUE(unix_is_owner(acl, user(5, 0)));
  EXPECT_TRUE(unix_is_owner(acl, user(0, 9)));
  EXPECT_FALSE(unix_is_owner(acl, user(6, 6)));
  EXPECT_FALSE(unix_is_owner(open_acl(), user(6, 6)));
}

}  // namespace
}  // namespace coord
