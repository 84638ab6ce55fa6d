// A fixture for changes of the members: an ensemble whose first list is written down, guests, what all must know.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/replica/zab/ensemble.h"

namespace coord::zab::testing {

using Numbers = std::set<std::uint32_t>;
using Values = std::vector<std::string>;

class ReconfigTest : public ::testing::Test {
 protected:
  // Servers from 1 on, observers last: enrolled, their list written down as version one, all serving.
  void start(std::uint32_t voters, std::uint32_t observers = 0, const std::function<void(Config&)>& tune = {}) {
    e_ = std::make_unique<Ensemble>(voters, observers, tune);
    e_->enrols = true;
    e_->boot_all();
    settle();
    ASSERT_TRUE(e_->wait(1000, [&] { return e_->node(e_->leader()).enrolled.size() == voters; }));
    Numbers voting, observing;
    for (std::uint32_t sid = 1; sid <= voters; ++sid) voting.insert(sid);
    for (std::uint32_t sid = voters + 1; sid <= voters + observers; ++sid) observing.insert(sid);
    first_ = e_->reconfig(e_->leader(), voting, observing);
    expect_members(first_, voting, observing);
  }
  // A leader in broadcast that everybody who is up and connected follows.
  void settle(std::int64_t ms = 10'000) {
    ASSERT_TRUE(e_->wait(ms, [&] {
      return e_->leader() != 0 && e_->all_serve() && e_->peer(e_->leader()).accepts_proposals();
    })) << e_->describe();
  }
  // Starts one with an empty disk, these members and itself in its file.
  void guest(std::uint32_t sid, Numbers members) {
    members.insert(sid);
    e_->add(sid, sids(members));
    e_->boot(sid);
    settle();
  }
  // All who are up know this list, and that it is committed.
  void expect_members(Zxid version, const Numbers& voters, const Numbers& observers = {}) {
    ASSERT_TRUE(e_->wait(2000, [&] {
      return all_up([&](const Peer& peer) {
        return peer.membership().version == version && peer.pending_membership() == nullptr;
      });
    })) << "not all know " << to_string(version) << e_->describe();
    for (std::uint32_t sid = 1; sid <= 5; ++sid) {
      if (!up(sid)) continue;
      EXPECT_EQ(e_->peer(sid).membership().voters, sids(voters)) << sid;
      EXPECT_EQ(e_->peer(sid).membership().observers, sids(observers)) << sid;
    }
  }
  void expect_no_leader(std::int64_t ms = 4000) {
    e_->pass(ms);
    EXPECT_EQ(e_->leader(), 0U) << e_->describe();
  }
  // What clients wrote, as this server has it.
  Values values(std::uint32_t sid) {
    Values result;
    for (const std::string& value : e_->values(sid)) {
      if (!value.starts_with("enrol") && !value.starts_with("members:")) result.push_back(value);
    }
    return result;
  }
  // Of the servers from 1 to `last`, those that are not in `those`.
  static std::vector<std::uint32_t> others(std::uint32_t last, const Numbers& those) {
    std::vector<std::uint32_t> result;
    for (std::uint32_t sid = 1; sid <= last; ++sid) {
      if (!those.contains(sid)) result.push_back(sid);
    }
    return result;
  }
  bool up(std::uint32_t sid) { return e_->exists(sid) && e_->node(sid).up(); }
  bool all_up(const std::function<bool(const Peer&)>& what) {
    for (std::uint32_t sid = 1; sid <= 5; ++sid) {
      if (up(sid) && !what(e_->peer(sid))) return false;
    }
    return true;
  }
  Peer::LearnerView view(std::uint32_t leader, std::uint32_t sid) {
    for (const Peer::LearnerView& one : e_->peer(leader).learners()) {
      if (one.sid == Sid{sid}) return one;
    }
    ADD_FAILURE() << "server " << leader << " does not know server " << sid;
    return {};
  }
  // From now on nobody is told of a commit.
  void lose_commits() {
    e_->lose = [](std::uint32_t, std::uint32_t, const Message& message) {
      return std::holds_alternative<Commit>(message);
    };
  }

  std::unique_ptr<Ensemble> e_;
  Zxid first_;
};

}  // namespace coord::zab::testing
