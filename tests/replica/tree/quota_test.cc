// Quotas: client-protocol.md section 8.1. Enforcement is tested with prepare.
#include "replica/tree/quota.h"

#include "tests/replica/tree/machine_harness.h"

namespace coord::tree {
namespace {

using namespace machine_test;
using wire::Op;

TEST(QuotaTextTest, what_is_not_understood_counts_as_unlimited) {
  for (const char* text : {"", "=", "count", "count=", "count=x,bytes=1x", ";;,,=", "other=5"}) {
    const QuotaText quota = parse_quota(text);
    EXPECT_EQ(quota.count, -1) << text;
    EXPECT_EQ(quota.bytes, -1) << text;
  }
}

TEST(QuotaTextTest, the_form_that_zookeeper_writes) {
  const QuotaText quota = parse_quota("count=5,bytes=-1=;byteHardLimit=100;countHardLimit=10");
  EXPECT_EQ(quota.count, 5);
  EXPECT_EQ(quota.bytes, -1);
  EXPECT_EQ(quota.byte_hard_limit, 100);
  EXPECT_EQ(quota.count_hard_limit, 10);
  EXPECT_EQ(format_usage(3, 44), "count=3,bytes=44");
}

class QuotaTest : public MachineTest {
 protected:
  std::string usage() {
    const Answered answer = read(Op::kGetData, watch_body("/zookeeper/quota/q/zookeeper_stats", false));
    wire::Reader r(answer.body);
    return std::string(r.string());
  }
  void limit() {
    create("/zookeeper/quota/q");
    create("/zookeeper/quota/q/zookeeper_limits", "count=5,bytes=-1");
    create("/zookeeper/quota/q/zookeeper_stats", "");
  }
};

TEST_F(QuotaTest, stats_start_with_what_is_there_and_follow) {
  create("/q", "12");
  create("/q/a", "345");
  create("/qq", "not below");
  limit();
  EXPECT_EQ(usage(), "count=2,bytes=5");
  const Stat before = stat("/zookeeper/quota/q/zookeeper_stats");
  create("/q/a/b", "6");
  EXPECT_EQ(usage(), "count=3,bytes=6");
  set("/q/a/b", "6789");
  EXPECT_EQ(usage(), "count=3,bytes=9");
  remove("/q/a/b");
  create("/qq/x", "1");
  EXPECT_EQ(usage(), "count=2,bytes=5");
  Stat after = stat("/zookeeper/quota/q/zookeeper_stats");
  after.data_length = before.data_length;
  EXPECT_EQ(after, before);  // neither version nor mzxid
}

TEST_F(QuotaTest, moves_take_their_usage_along) {
  create("/q", "");
  create("/from");
  create("/from/d", "12");
  create("/from/d/e", "345");
  limit();
  Txn txn;
  txn.op = Op::kRename;
  txn.changes.emplace_back(MoveTxn{info("/from/d").id, info("/q").id, "d", 1});
  apply(txn);
  EXPECT_EQ(usage(), "count=3,bytes=5");
}

TEST_F(QuotaTest, without_limits_nothing_is_counted) {
  create("/q", "");
  limit();
  remove("/zookeeper/quota/q/zookeeper_limits");
  create("/q/a", "x");
  EXPECT_EQ(usage(), "count=1,bytes=0");
}

TEST_F(QuotaTest, survives_a_fold) {
  create("/q", "");
  limit();
  const Fold fold = machine.take_fold();
  StateMachine other{Limits()};
  for (const auto& [id, record] : fold.nodes) ASSERT_TRUE(other.load_node(id, *record));
  for (const auto& [id, record] : fold.sessions) ASSERT_TRUE(other.load_session(id, *record));
  ASSERT_TRUE(other.load_counters(fold.counters));
  ASSERT_TRUE(other.finish_load(fold.tree_durable));
  Request r;
  r.session = SessionId(100);
  r.op = Op::kCreate;
  r.body = create_body("/q/a", "xyz");
  const Zxid zxid = next_zxid();
  const std::string payload = machine.prepare(r, zxid, now);
  machine.apply(zxid, payload, false, sink);
  RecordingSink ignored;
  other.apply(zxid, payload, false, ignored);
  EXPECT_EQ(usage(), "count=2,bytes=3");
  EXPECT_EQ(other.digest(), machine.digest());
}

}  // namespace
}  // namespace coord::tree
