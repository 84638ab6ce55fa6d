// What coordctl reads: multi scripts, ACLs; and what it makes of a multi's answer.
#include <gtest/gtest.h>

#include "common/tools/context.h"
#include "common/tools/multi_script.h"

namespace coord::tools {
namespace {

std::string fault_of(std::string_view text) {
  const auto ops = parse_multi(text, "f");
  return ops ? "no fault" : ops.error().message;
}

TEST(MultiScript, FaultsNameFileAndLine) {
  EXPECT_EQ(fault_of("create /a\nfrob /b\n"), "f:2: unknown operation \"frob\": expected create, set, delete or check");
  EXPECT_EQ(fault_of("create"), "f:1: expected create PATH [DATA]");
  EXPECT_EQ(fault_of("create /a b c"), "f:1: expected create PATH [DATA]");
  EXPECT_EQ(fault_of("set /a"), "f:1: expected set PATH DATA [VERSION]");
  EXPECT_EQ(fault_of("check /a"), "f:1: expected check PATH VERSION");
  EXPECT_EQ(fault_of("delete /a 1 2"), "f:1: expected delete PATH [VERSION]");
  EXPECT_EQ(fault_of("\n\ndelete /a x"), "f:3: \"x\" is not a version (a number, or -1 for any)");
  EXPECT_EQ(fault_of("delete /a -2"), "f:1: \"-2\" is not a version (a number, or -1 for any)");
  EXPECT_EQ(fault_of("delete /a 99999999999"), "f:1: \"99999999999\" is not a version (a number, or -1 for any)");
  EXPECT_EQ(fault_of("delete a"), "f:1: \"a\" is not a valid node path");
  EXPECT_EQ(fault_of("create /a 'x"), "f:1: a single quote that is not closed");
  EXPECT_EQ(fault_of("create /a \"x\\\""), "f:1: a double quote that is not closed");
  EXPECT_EQ(fault_of("create /a x\\"), "f:1: a backslash at the end of the line");
}

TEST(MultiScript, QuotesAsInAShell) {
  const auto ops = parse_multi(
      "# comment\n  create /a 'it''s $x \\n'  # behind\r\ncreate /b \"a \\\"b\\\" \\\\ \\n \\x\"\ncreate /c a\\ b#c\n"
      "create '/d e' ''\ncreate /f",
      "f");
  ASSERT_TRUE(ops) << ops.error().message;
  ASSERT_EQ(ops->size(), 5u);
  EXPECT_EQ((*ops)[0].data, "its $x \\n");
  EXPECT_EQ((*ops)[0].line, 2);
  EXPECT_EQ((*ops)[1].data, "a \"b\" \\ \n \\x");
  EXPECT_EQ((*ops)[2].data, "a b#c");
  EXPECT_EQ((*ops)[3].path, "/d e");
  EXPECT_EQ((*ops)[3].data, "");
  EXPECT_FALSE((*ops)[4].data.has_value());
}

TEST(MultiScript, EncodesAsTheProtocolSays) {
  const auto ops = parse_multi("create /a x\nset /b y 3\ndelete /\ncheck /c 0", "f");
  ASSERT_TRUE(ops);
  const std::string body = encode_multi(*ops, "/root");
  wire::Reader r(body);
  EXPECT_EQ(wire::read_multi_header(r).type, 1);
  EXPECT_EQ(r.string(), "/root/a");
  EXPECT_EQ(r.buffer(), "x");
  EXPECT_EQ(wire::read_acl(r), open_acl());
  EXPECT_EQ(r.i32(), 0);
  EXPECT_EQ(wire::read_multi_header(r).type, 5);
  EXPECT_EQ(r.string(), "/root/b");
  EXPECT_EQ(r.buffer(), "y");
  EXPECT_EQ(r.i32(), 3);
  EXPECT_EQ(wire::read_multi_header(r).type, 2);
  EXPECT_EQ(r.string(), "/root");
  EXPECT_EQ(r.i32(), -1);
  EXPECT_EQ(wire::read_multi_header(r).type, 13);
  EXPECT_EQ(r.string(), "/root/c");
  EXPECT_EQ(r.i32(), 0);
  EXPECT_TRUE(wire::read_multi_header(r).done);
  EXPECT_FALSE(r.failed());
  EXPECT_EQ(r.remaining(), 0u);
}

std::string error_results(const std::vector<std::int32_t>& codes) {
  std::string out;
  wire::Writer w(out);
  for (const std::int32_t code : codes) {
    write(w, wire::MultiHeader{-1, false, code});
    w.i32(code);
  }
  write(w, wire::MultiHeader{-1, true, -1});
  return out;
}

TEST(MultiResult, FindsTheCulprit) {
  const auto results = decode_multi(error_results({0, 0, -103, -2}), 4);
  ASSERT_TRUE(results);
  EXPECT_EQ(culprit_of(*results), 2u);
  EXPECT_EQ((*results)[2].err, Err::kBadVersion);
}

TEST(MultiResult, AnAnswerThatDoesNotFitIsRefused) {
  EXPECT_FALSE(decode_multi("", 1));
  EXPECT_FALSE(decode_multi(error_results({0}), 2));
  EXPECT_FALSE(decode_multi(error_results({0, 0, 0}), 2));
  std::string foreign;
  wire::Writer w(foreign);
  write(w, wire::MultiHeader{99, false, 0});
  EXPECT_FALSE(decode_multi(foreign, 1));
  const std::string whole = error_results({0, -103});
  for (std::size_t n = 0; n < whole.size(); ++n) EXPECT_FALSE(decode_multi(whole.substr(0, n), 2)) << n;
}

TEST(MultiResult, SuccessHasNoCulprit) {
  std::string out;
  wire::Writer w(out);
  write(w, wire::MultiHeader{1, false, 0});
  w.buffer("/a");
  write(w, wire::MultiHeader{5, false, 0});
  Stat stat;
  stat.version = 4;
  write(w, stat);
  write(w, wire::MultiHeader{2, false, 0});
  write(w, wire::MultiHeader{13, false, 0});
  write(w, wire::MultiHeader{-1, true, -1});
  const auto results = decode_multi(out, 4);
  ASSERT_TRUE(results);
  EXPECT_FALSE(culprit_of(*results).has_value());
  EXPECT_EQ((*results)[0].path, "/a");
  EXPECT_EQ((*results)[1].stat.version, 4);
}

TEST(AclText, RoundTripsAndNamesWhatIsWrong) {
  const auto acl = parse_acl("world:anyone:r,digest:bob:hash:cdrwa,ip:::1:w,unix:u:5:");
  ASSERT_TRUE(acl) << acl.error().message;
  EXPECT_EQ(*acl, (Acl{{perm::kRead, {"world", "anyone"}},
                       {perm::kAll, {"digest", "bob:hash"}},
                       {perm::kWrite, {"ip", "::1"}},
                       {0, {"unix", "u:5"}}}));
  EXPECT_EQ(format_acl(*acl), "world:anyone:r\ndigest:bob:hash:cdrwa\nip:::1:w\nunix:u:5:\n");
  for (const char* bad : {"", "world", "world:anyone", "world:anyone:rx", "world:anyone:r,"}) {
    EXPECT_FALSE(parse_acl(bad)) << bad;
  }
}

}  // namespace
}  // namespace coord::tools
