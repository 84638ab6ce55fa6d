#include "common/model/member.h"

#include <gtest/gtest.h>

namespace coord {
namespace {

constexpr MemberForm kBothPorts{.election_port = true};

std::string fault_of(std::string_view text, MemberForm form = kBothPorts) {
  const auto member = parse_member(text, form);
  return member ? "" : member.error().message;
}
bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(MemberTest, what_is_no_server_is_refused_with_the_reason) {
  const struct {
    const char* text;
    const char* reason;
  } kCases[] = {
      {"", "the form is"},
      {"some thing", "the form is"},
      {"server=h:1:2;3", "the form is"},
      {"group.1=1:2", "the form is"},
      {"server.0=h:1:2;3", "from 1 to 254"},
      {"server.255=h:1:2;3", "from 1 to 254"},
      {"server.x=h:1:2;3", "from 1 to 254"},
      {"server.-1=h:1:2;3", "from 1 to 254"},
      {"server.=h:1:2;3", "from 1 to 254"},
      {"server.1=", "the host"},
      {"server.1=:1:2;3", "the host"},
      {"server.1=a b:1:2;3", "the host"},
      {"server.1=a=b:1:2;3", "the host"},
      {"server.1=[::1:1:2;3", "the host"},
      {"server.1=[127.0.0.1]:1:2;3", "the host"},
      {"server.1=[]:1:2;3", "the host"},
      {"server.1=::1:1:2;3", "the host"},
      {"server.1=h|g:1:2;3", "several addresses"},
      {"server.1=h", "two ports"},
      {"server.1=h:1;3", "two ports"},
      {"server.1=[::1]x:1:2;3", "two ports"},
      {"server.1=h:0:2;3", "a port must be"},
      {"server.1=h:1:65536;3", "a port must be"},
      {"server.1=h:1:2x;3", "a port must be"},
      {"server.1=h:1:;3", "a port must be"},
      {"server.1=h:1:participant;3", "a port must be"},
      {"server.1=h:1:2:leader;3", "the role"},
      {"server.1=h:1:2:;3", "the role"},
      {"server.1=h:1:2:observer:4;3", "too much"},
      {"server.1=h:1:2;", "behind the semicolon"},
      {"server.1=h:1:2;0", "behind the semicolon"},
      {"server.1=h:1:2;c:", "behind the semicolon"},
      {"server.1=h:1:2;:3", "behind the semicolon"},
      {"server.1=h:1:2;c:d:3", "behind the semicolon"},
      {"server.1=h:1:2;3;4", "secure"},
      {"server.1=h:1:2;;4", "secure"},
  };
  for (const auto& [text, reason] : kCases) {
    const std::string fault = fault_of(text);
    EXPECT_TRUE(contains(fault, reason)) << text << " -> " << fault;
  }
}

TEST(MemberTest, the_second_port_may_be_left_out_where_the_form_allows_it) {
  const struct {
    const char* text;
    const char* reason;
  } kCases[] = {
      {"server.1=h", "a port must follow"},       {"server.1=h:", "a port must be"},
      {"server.1=h:participant", "a port must"},  {"server.1=h:1:", "a port must be"},
      {"server.1=h:1:0", "a port must be"},       {"server.1=h:1:70000:observer", "a port must be"},
      {"server.1=h:1:leader", "the role"},        {"server.1=h:1:observer:2", "too much"},
      {"server.1=h:1:2:observer:3", "too much"},
  };
  for (const auto& [text, reason] : kCases) {
    EXPECT_TRUE(contains(fault_of(text, {}), reason)) << text << " -> " << fault_of(text, {});
  }
  for (const char* text : {"server.1=h:9", "server.1=h:9:participant", "server.1=h:9:9"}) {
    const auto member = parse_member(text, {});
    ASSERT_TRUE(member) << text;
    EXPECT_EQ(*member, (Member{Sid(1), "h", 9, 9, false, ""})) << text;
  }
}

TEST(MemberTest, every_truncation_is_refused_or_another_server) {
  const std::string text = "server.12=[::1]:2888:3888:observer;[::1]:2181";
  for (std::size_t n = 0; n < text.size(); ++n) {
    const auto member = parse_member(text.substr(0, n), kBothPorts);
    if (!member) continue;
    EXPECT_NE(to_text(*member), text);
  }
}

TEST(MemberTest, normal_form) {
  const auto normal = [](std::string_view text) {
    const auto member = parse_member(text, kBothPorts);
    return member ? to_text(*member) : member.error().message;
  };
  EXPECT_EQ(normal("server.1=h:2888:3888"), "server.1=h:2888:3888:participant");
  EXPECT_EQ(normal("server.1=h:2888:3888;2181"), "server.1=h:2888:3888:participant;0.0.0.0:2181");
  EXPECT_EQ(normal(" server.254 = h.example-1.org:1:65535:OBSERVER ; 10.0.0.1:2181\r"),
            "server.254=h.example-1.org:1:65535:observer;10.0.0.1:2181");
  EXPECT_EQ(normal("server.7=[2001:db8::1]:2888:3888:participant;[::]:2181"),
            "server.7=[2001:db8::1]:2888:3888:participant;[::]:2181");
  const auto member = parse_member("server.7=[2001:db8::1]:2888:3888:observer;c:2181", kBothPorts);
  ASSERT_TRUE(member);
  EXPECT_EQ(*member, (Member{Sid(7), "2001:db8::1", 2888, 3888, true, "c:2181"}));
}

TEST(MemberTest, a_port_that_was_not_said_is_the_first) {
  EXPECT_EQ(to_text(Member{Sid(1), "h", 2888, 0, false, ""}), "server.1=h:2888:2888:participant");
}

TEST(MemberTest, client_address) {
  EXPECT_EQ(parse_client_address("2181"), "0.0.0.0:2181");
  EXPECT_EQ(parse_client_address("a.example:2181"), "a.example:2181");
  EXPECT_EQ(parse_client_address("[::1]:2181"), "[::1]:2181");
  for (const char* bad : {"", "0", "65536", "x", ":2181", "a:b", "::1:2181", "[]:2181", "a b:2181", "1:2:3", "-1"}) {
    EXPECT_EQ(parse_client_address(bad), std::nullopt) << bad;
  }
}

}  // namespace
}  // namespace coord
