// What the tests of reconfig and of the feature level share: the leader of an ensemble as its state machine sees it.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "tests/replica/tree/harness.h"

namespace coord::tree::test {

inline std::string reconfig_body(Data joining, Data leaving, Data whole = std::nullopt, std::int64_t from = -1) {
  std::string body;
  wire::Writer w(body);
  w.buffer(joining);
  w.buffer(leaving);
  w.buffer(whole);
  w.i64(from);
  return body;
}
inline std::string level_body(std::int32_t level) {
  std::string body;
  wire::Writer(body).i32(level);
  return body;
}
inline std::string directories_body(const std::map<Sid, std::string>& directories) {
  std::string body;
  wire::Writer w(body);
  write_directories(w, directories);
  return body;
}
inline std::string directory_of(std::uint32_t sid) { return "directory " + std::to_string(sid); }
// A server as the files have it, and as a client says it.
inline std::string line(std::uint32_t sid, const char* role = "participant") {
  return "server." + std::to_string(sid) + "=h" + std::to_string(sid) + ":2888:3888:" + role;
}
inline std::string said(std::uint32_t sid, const char* role = "participant") {
  return line(sid, role) + ";0.0.0.0:2181";
}

// The leader of an ensemble of three that has its first list; a client with super's rights asks.
class Leader : public World {
 public:
  explicit Leader(Limits limits = {}) : World(limits) {
    trusted = false;
    credentials.uid = 1000;
    ids.push_back({"super", ""});
    electorate.alone = false;
    electorate.reconfig_enabled = true;
    for (const std::uint32_t sid : {1U, 2U, 3U}) connect(sid);
  }
  Leader& begin() {
    EXPECT_EQ(internal(Op::kFeatureLevel, level_body(2)), Err::kOk);
    EXPECT_EQ(internal(Op::kReconfig, first()), Err::kOk);
    EXPECT_EQ(internal(Op::kEnrol, enrolment()), Err::kOk);
    return *this;
  }
  static std::string first() {
    return reconfig_body(std::nullopt, std::nullopt, line(1) + "\n" + line(2) + "\n" + line(3));
  }
  static std::string enrolment() {
    return directories_body({{Sid(1), directory_of(1)}, {Sid(2), directory_of(2)}, {Sid(3), directory_of(3)}});
  }
  void connect(std::uint32_t sid, std::int32_t level = 2) {
    electorate.synced[Sid(sid)] = directory_of(sid);
    electorate.feature_levels[Sid(sid)] = level;
  }
  void disconnect(std::uint32_t sid) {
    electorate.synced.erase(Sid(sid));
    electorate.feature_levels.erase(Sid(sid));
  }
  Err internal(Op op, std::string body) {
    machine.set_electorate(electorate);
    Request r;
    r.op = op;
    r.body = std::move(body);
    return call(r).err;
  }
  Applied reconfig(Data joining, Data leaving, Data whole = std::nullopt, std::int64_t from = -1) {
    machine.set_electorate(electorate);
    return call(Op::kReconfig, reconfig_body(joining, leaving, whole, from));
  }
  Err add(const std::string& joining) { return reconfig(joining, std::nullopt).err; }
  Err leave(std::string_view leaving) { return reconfig(std::nullopt, leaving).err; }
  Err whole(const std::string& list) { return reconfig(std::nullopt, std::nullopt, list).err; }
  Err level(std::int32_t n) {
    machine.set_electorate(electorate);
    return code(Op::kFeatureLevel, level_body(n));
  }
  std::string members() const {
    std::string out;
    for (const Member& m : machine.members()) out += std::to_string(m.sid.value) + (m.observer ? "o " : "v ");
    return out;
  }

  Electorate electorate;
};

}  // namespace coord::tree::test
