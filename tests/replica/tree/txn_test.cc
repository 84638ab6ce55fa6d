#include "replica/tree/txn.h"

#include <gtest/gtest.h>

namespace coord::tree {
namespace {

ReconfigTxn some_reconfig() {
  return {{Member{Sid(1), "host", 2888, 65535, false, ""}, Member{Sid(254), "::1", 1, 0, true, "[::1]:2181"}},
          {{Sid(254), "directory"}}};
}

Txn every_change() {
  Txn txn;
  txn.session = SessionId(-5);
  txn.xid = 77;
  txn.op = wire::Op::kMulti;
  txn.time = 1'700'000'000'123;
  txn.seq = 9;
  txn.acked_below = 4;
  txn.subject = NodeId(33);
  txn.what = 2;
  CreateTxn create;
  create.id = NodeId(20);
  create.parent = NodeId(1);
  create.name = "n";
  create.null_data = true;
  create.acl = open_acl();
  create.attributes = {Shape::kSymlink, 0111, 123};
  create.lifetime = Lifetime::kTtl;
  create.ttl_ms = 50;
  create.parent_creates = 0xfffffffe;
  create.parent_becomes_dir = true;
  txn.changes.emplace_back(create);
  create.null_data = false;
  create.data = std::string("a\0b", 3);
  create.lifetime = Lifetime::kEphemeral;
  create.owner = SessionId(6);
  txn.changes.emplace_back(create);
  txn.changes.emplace_back(DeleteTxn{NodeId(1)});
  txn.changes.emplace_back(SetDataTxn{NodeId(2), false, "", 3});
  txn.changes.emplace_back(SetAclTxn{NodeId(3), {}, -1});
  txn.changes.emplace_back(SetAttributesTxn{NodeId(4), {Shape::kDir, 01777 & 01111, -1}});
  txn.changes.emplace_back(MoveTxn{NodeId(5), NodeId(6), "new", 7});
  txn.changes.emplace_back(ExchangeTxn{NodeId(8), NodeId(9)});
  txn.changes.emplace_back(CheckTxn{NodeId(10)});
  txn.changes.emplace_back(CreateSessionTxn{SessionId(11), 4000});
  txn.changes.emplace_back(CloseSessionTxn{SessionId(12)});
  txn.changes.emplace_back(ReserveIdsTxn{NodeId(1000), 64});
  txn.changes.emplace_back(ErrorTxn{Err::kNoAuth});
  txn.changes.emplace_back(EnrolTxn{{{Sid(1), std::string(16, 'd')}, {Sid(200), ""}}});
  txn.changes.emplace_back(some_reconfig());
  txn.changes.emplace_back(FeatureLevelTxn{-3});
  txn.multi_ops = {wire::Op::kCreate, wire::Op::kDelete};
  return txn;
}

std::string bytes_of(const Txn& txn) {
  std::string out;
  encode(txn, out);
  return out;
}

TEST(TxnTest, another_version_and_every_truncation_are_refused) {
  const std::string bytes = bytes_of(every_change());
  std::string other = bytes;
  other[0] = 2;
  EXPECT_FALSE(decode(other));
  for (std::size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(decode(std::string_view(bytes).substr(0, n))) << n;
  EXPECT_FALSE(decode(bytes + "x"));
}

TEST(TxnTest, damaged_bytes_do_not_crash) {
  const std::string bytes = bytes_of(every_change());
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    for (const int flip : {0x01, 0x80, 0xff}) {
      std::string damaged = bytes;
      damaged[i] = static_cast<char>(damaged[i] ^ flip);
      if (const auto txn = decode(damaged)) bytes_of(*txn);
    }
  }
}

TEST(TxnTest, comes_back_as_it_went) {
  const std::string bytes = bytes_of(every_change());
  const auto txn = decode(bytes);
  ASSERT_TRUE(txn);
  EXPECT_EQ(bytes_of(*txn), bytes);
  EXPECT_EQ(txn->session, SessionId(-5));
  EXPECT_EQ(txn->seq, 9);
  EXPECT_EQ(txn->subject, NodeId(33));
  EXPECT_EQ(txn->what, 2);
  ASSERT_EQ(txn->changes.size(), 16U);
  const auto& first = std::get<CreateTxn>(txn->changes[0]);
  EXPECT_TRUE(first.null_data);
  EXPECT_EQ(first.acl, open_acl());
  EXPECT_EQ(first.parent_creates, 0xfffffffeU);
  EXPECT_EQ(std::get<CreateTxn>(txn->changes[1]).data, std::string("a\0b", 3));
  EXPECT_FALSE(std::get<SetDataTxn>(txn->changes[3]).null_data);
  EXPECT_EQ(std::get<ErrorTxn>(txn->changes[12]).err, Err::kNoAuth);
  EXPECT_EQ(std::get<EnrolTxn>(txn->changes[13]).directories.at(Sid(1)), std::string(16, 'd'));
  EXPECT_EQ(std::get<ReconfigTxn>(txn->changes[14]).members, some_reconfig().members);
  EXPECT_EQ(std::get<ReconfigTxn>(txn->changes[14]).directories, some_reconfig().directories);
  EXPECT_EQ(std::get<FeatureLevelTxn>(txn->changes[15]).level, -3);
}

Txn reconfig_txn(ReconfigTxn change) {
  Txn txn;
  txn.session = SessionId(5);
  txn.op = wire::Op::kReconfig;
  txn.changes.emplace_back(std::move(change));
  return txn;
}

TEST(TxnTest, members_out_of_order_are_refused) {
  ReconfigTxn change = some_reconfig();
  ASSERT_TRUE(decode(bytes_of(reconfig_txn(change))));
  std::swap(change.members[0], change.members[1]);
  EXPECT_FALSE(decode(bytes_of(reconfig_txn(change))));
  change.members[0] = change.members[1];
  EXPECT_FALSE(decode(bytes_of(reconfig_txn(change)))) << "twice";
  change = some_reconfig();
  change.members[0].sid = Sid();
  EXPECT_FALSE(decode(bytes_of(reconfig_txn(change))));
}

TEST(TxnTest, a_reconfig_is_found_and_nothing_else_is) {
  const Txn txn = reconfig_txn(some_reconfig());
  const std::string bytes = bytes_of(txn);
  const auto found = reconfig_of(bytes);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->members, some_reconfig().members);
  EXPECT_EQ(found->directories, some_reconfig().directories);
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    const std::vector<char> part(bytes.data(), bytes.data() + n);  // so that a sanitizer sees a step too far
    EXPECT_FALSE(reconfig_of(std::string_view(part.data(), n))) << n;
  }
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x81);
    static_cast<void>(reconfig_of(damaged));
  }
  Txn other = txn;
  other.changes.assign(1, ErrorTxn{Err::kBadVersion});
  EXPECT_FALSE(reconfig_of(bytes_of(other))) << "a refusal";
  other = txn;
  other.op = wire::Op::kCreate;
  EXPECT_FALSE(reconfig_of(bytes_of(other)));
  EXPECT_FALSE(reconfig_of(bytes_of(every_change())));
  other = every_change();
  other.op = wire::Op::kReconfig;
  EXPECT_FALSE(reconfig_of(bytes_of(other))) << "one among many";
  other.changes.assign(2, some_reconfig());
  EXPECT_FALSE(reconfig_of(bytes_of(other)));
}

TEST(TxnTest, a_feature_level_is_found_and_nothing_else_is) {
  Txn txn;
  txn.op = wire::Op::kFeatureLevel;
  txn.changes.emplace_back(FeatureLevelTxn{2});
  const std::string bytes = bytes_of(txn);
  const auto found = feature_level_of(bytes);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->level, 2);
  EXPECT_FALSE(reconfig_of(bytes));
  EXPECT_FALSE(feature_level_of(bytes_of(reconfig_txn(some_reconfig()))));
  EXPECT_FALSE(feature_level_of(""));
  txn.changes.assign(1, ErrorTxn{Err::kOk});
  EXPECT_FALSE(feature_level_of(bytes_of(txn))) << "a question";
}

TEST(TxnTest, enrolments_follow_the_members) {
  std::map<Sid, std::string> enrolled{{Sid(1), "one"}, {Sid(2), "two"}, {Sid(254), "old"}};
  ReconfigTxn change = some_reconfig();
  change.directories[Sid(7)] = "no member";
  enrol_members(change, enrolled);
  EXPECT_EQ(enrolled, (std::map<Sid, std::string>{{Sid(1), "one"}, {Sid(254), "directory"}}));
}

}  // namespace
}  // namespace coord::tree
