// JSON lines: what is written can be read again, what is not understood is refused with its line.
#include "tests/history/json.h"

#include <gtest/gtest.h>

#include <sstream>

#include "tests/history/test/model.h"

namespace coord::history {
namespace {

TEST(HistoryJson, lines_survive_a_round_trip) {
  History h = Model(3, {}).run();
  h.fault(h.records().back().ns, "kill -9 \"2\"");
  Record init;
  init.kind = Kind::kInit;
  init.request.path = "/old";
  init.request.value = "o";
  init.answer = {.mzxid = 7, .czxid = 3, .version = 4};
  h.add(init);
  std::stringstream text;
  write_json_lines(text, h);
  History again;
  const auto read = read_json_lines(text, again);
  ASSERT_TRUE(read) << read.error().message;
  ASSERT_EQ(again.records().size(), h.records().size());
  for (std::size_t i = 0; i < h.records().size(); ++i) {
    EXPECT_EQ(to_json_line(again.records()[i]), to_json_line(h.records()[i]));
  }
  EXPECT_EQ(check(again).outcome, check(h).outcome);
}

TEST(HistoryJson, a_negative_zxid_is_none) {
  const auto r = from_json_line(R"({"kind":"ev","ns":1,"session":2,"event":"changed","path":"/a","zxid":-1})");
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(r->answer.zxid, 0U);
  EXPECT_EQ(r->event, WatchType::kDataChanged);
}

TEST(HistoryJson, what_is_not_understood_is_refused) {
  for (const char* line : {
           "", "[]", "{}", "not json", R"({"kind":"what","ns":1})", R"({"kind":"inv","ns":1,"id":1})",
           R"({"kind":"inv","id":1,"op":"get"})", R"({"kind":"inv","ns":1,"id":1,"op":"get","pth":"/a"})",
           R"({"kind":"ok","ns":1,"id":1,"path":"/a"})", R"({"kind":"ok","ns":"1","id":1})",
           R"({"kind":"inv","ns":1,"id":1,"op":"fly"})", R"({"kind":"sess","ns":1,"session":1})",
           R"({"kind":"sess","ns":1,"change":"opened"})",
           R"({"kind":"inv","ns":1,"id":1,"op":"multi","ops":[{"op":"set","valeu":"x"}]})"}) {
    EXPECT_FALSE(from_json_line(line)) << line;
  }
}

TEST(HistoryJson, a_fault_names_the_line) {
  std::stringstream text("{\"kind\":\"fault\",\"ns\":1,\"note\":\"x\"}\n\n{\"kind\":\"bad\"}\n");
  History h;
  const auto read = read_json_lines(text, h);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().message.substr(0, 8), "line 3: ");
}

}  // namespace
}  // namespace coord::history
