// The driver as a member of an ensemble, over links and time of the test's own.
#include <gtest/gtest.h>

#include "tests/replica/runtime/cluster.h"

namespace coord::runtime::testing {
namespace {

struct Ensemble : ::testing::Test {
  Ensemble() : cluster(3) {}
  void up() {
    cluster.start_all();
    ASSERT_TRUE(cluster.settle());
  }
  std::uint64_t digest(Sid sid) { return cluster.core(sid).tree().digest(); }
  bool equal() {
    const Sid lead = cluster.leader();
    if (lead == Sid()) return false;
    for (const Member& member : cluster.config.members) {
      if (!cluster.runs(member.sid)) continue;
      if (cluster.core(member.sid).tree().last_applied() != cluster.core(lead).tree().last_applied()) return false;
      if (digest(member.sid) != digest(lead)) return false;
    }
    return true;
  }
  // Nodes /n0.. of `bytes` bytes, and a restart of all that run but one: what a leader has in memory of the log is
  // gone, and who was away needs a snapshot.
  void fill_and_forget(int nodes, std::size_t bytes, Sid but = Sid()) {
    {
      Client client(cluster, 40'000);
      ASSERT_TRUE(client.connect(cluster.leader()));
      for (int n = 0; n < nodes; ++n) client.create("/n" + std::to_string(n), std::string(bytes, 'x'));
      for (int n = 0; n < nodes; ++n) ASSERT_EQ(client.err(), Err::kOk);
      cluster.clock.run_for(1'000);
      // Each transaction lets go of some of the log.
      for (int n = 0; n < nodes / 50 + 10; ++n) {
        client.set("/n0", "z");
        ASSERT_EQ(client.err(), Err::kOk);
      }
    }
    std::vector<Sid> all;
    for (const Member& member : cluster.config.members) {
      if (cluster.runs(member.sid) && member.sid != but) all.push_back(member.sid);
    }
    for (const Sid sid : all) cluster.kill(sid);
    for (const Sid sid : all) cluster.start(sid);
    for (const Sid sid : all) ASSERT_TRUE(cluster.clock.run_until([&] { return cluster.core(sid).serving(); }));
  }
  // It has missed about 2 MB, more than the log, and they are sent at 100 kB/s.
  void one_away_for_long(Sid& away) {
    cluster.log_keep_entries = 20;
    cluster.config.snapshot_rate = 100'000;
    up();
    away = cluster.follower(0);
    cluster.kill(away);
    ASSERT_NO_FATAL_FAILURE(fill_and_forget(2000, 1000));
  }
  std::uint64_t snapshots_sent() { return cluster.core(cluster.leader()).ensemble_status().snapshots_sent; }
  Cluster cluster;
};

TEST_F(Ensemble, NobodyServesWithoutAQuorum) {
  cluster.start(Sid(1));
  cluster.clock.run_for(10'000);
  EXPECT_FALSE(cluster.core(Sid(1)).serving());
  Client client(cluster);
  EXPECT_FALSE(client.connect(Sid(1)));
  EXPECT_FALSE(client.refused) << "closed without an answer: it is no statement about the session";
  cluster.start(Sid(2));
  ASSERT_TRUE(cluster.settle());
  EXPECT_TRUE(client.connect(Sid(1)));
}

TEST_F(Ensemble, AWriteThroughAFollowerIsReadAtTheOthers) {
  up();
  Client client(cluster), leader(cluster), other(cluster);
  ASSERT_TRUE(client.connect(cluster.follower(0)));
  ASSERT_TRUE(leader.connect(cluster.leader()));
  ASSERT_TRUE(other.connect(cluster.follower(1)));
  client.create("/a", "1");
  EXPECT_EQ(client.err(), Err::kOk);
  client.create("/a", "2");
  EXPECT_EQ(client.err(), Err::kNodeExists);
  EXPECT_EQ(client.read("/a"), "1");
  EXPECT_EQ(leader.read("/a"), "1") << "committed there before the follower heard of it";
  other.sync();
  EXPECT_EQ(other.err(), Err::kOk);
  EXPECT_EQ(other.read("/a"), "1");
}

TEST_F(Ensemble, PipelinedRequestsKeepTheirOrderThroughAFollower) {
  up();
  Client client(cluster);
  ASSERT_TRUE(client.connect(cluster.follower()));
  client.create("/p", "");
  std::vector<std::int32_t> xids = {1};
  for (int n = 0; n < 200; ++n) {
    xids.push_back(client.set("/p", std::to_string(n)));
    xids.push_back(client.get("/p"));
    if (n % 10 == 0) xids.push_back(client.sync());
    xids.push_back(client.get("/p"));
  }
  std::int64_t zxid = 0;
  for (const std::int32_t xid : xids) {
    const auto reply = client.next();
    ASSERT_TRUE(reply);
    ASSERT_EQ(reply->xid, xid);
    ASSERT_EQ(reply->err, Err::kOk);
    ASSERT_GE(reply->zxid, zxid);
    zxid = reply->zxid;
  }
  EXPECT_EQ(client.read("/p"), "199");
}

TEST_F(Ensemble, SyncAfterAnothersWriteShowsIt) {
  up();
  Client writer(cluster), reader(cluster);
  ASSERT_TRUE(writer.connect(cluster.leader()));
  ASSERT_TRUE(reader.connect(cluster.follower()));
  writer.create("/s", "0");
  ASSERT_EQ(writer.err(), Err::kOk);
  for (int n = 1; n < 50; ++n) {
    writer.set("/s", std::to_string(n));
    ASSERT_EQ(writer.err(), Err::kOk);
    reader.sync();
    ASSERT_EQ(reader.err(), Err::kOk);
    ASSERT_EQ(reader.read("/s"), std::to_string(n));
  }
}

// A leader that is cut off and does not know it yet must not answer a sync.
TEST_F(Ensemble, ACutOffLeaderAnswersNoSync) {
  up();
  const Sid old = cluster.leader();
  Client client(cluster);
  ASSERT_TRUE(client.connect(old));
  cluster.isolate(old);
  client.sync();
  EXPECT_FALSE(client.next());
  EXPECT_TRUE(client.ended());
}

TEST_F(Ensemble, ASessionMovesAndItsOldConnectionIsClosed) {
  up();
  auto client = std::make_unique<Client>(cluster);
  ASSERT_TRUE(client->connect(cluster.follower(0)));
  client->create("/e", "", 1);
  ASSERT_EQ(client->err(), Err::kOk);
  for (const Sid to : {cluster.leader(), cluster.follower(1), cluster.follower(0), cluster.leader()}) {
    auto moved = std::make_unique<Client>(cluster);
    moved->session = client->session;
    moved->password = client->password;
    moved->seen = client->seen;
    cluster.clock.run_for(50);
    ASSERT_TRUE(moved->connect(to));
    EXPECT_TRUE(client->ends(1000)) << "the old connection";
    EXPECT_EQ(moved->read("/e"), "");
    moved->set("/e", "");
    EXPECT_EQ(moved->err(), Err::kOk);
    client = std::move(moved);
  }
}

// What the old replica forwards after the session has moved is not carried out.
TEST_F(Ensemble, WritesThroughAnOldOwnerAreRefused) {
  up();
  Client client(cluster);
  ASSERT_TRUE(client.connect(cluster.follower(0)));
  client.create("/m", "");
  ASSERT_EQ(client.err(), Err::kOk);
  Client moved(cluster);
  moved.session = client.session;
  moved.password = client.password;
  ASSERT_TRUE(moved.connect(cluster.leader()));
  for (int n = 0; n < 20; ++n) client.set("/m", "old");  // on its way while Moved comes
  EXPECT_TRUE(client.ends(1000));
  EXPECT_EQ(moved.read("/m"), "");
}

TEST_F(Ensemble, AWrongPasswordAndAnUnknownSessionAreRefusedEverywhere) {
  up();
  Client client(cluster);
  ASSERT_TRUE(client.connect(cluster.follower(0)));
  for (const Sid at : {cluster.leader(), cluster.follower(0), cluster.follower(1)}) {
    Client wrong(cluster);
    wrong.session = client.session;
    wrong.password = std::string(16, 'x');
    EXPECT_FALSE(wrong.connect(at));
    EXPECT_TRUE(wrong.refused);
    Client unknown(cluster);
    unknown.session = 99999;
    unknown.password = cluster.core(at).password_of(SessionId(99999));
    EXPECT_FALSE(unknown.connect(at));
    EXPECT_TRUE(unknown.refused);
  }
}

TEST_F(Ensemble, ClosedSessionsAreGoneAtOnceEverywhere) {
  up();
  Client client(cluster), other(cluster);
  ASSERT_TRUE(client.connect(cluster.follower(0)));
  ASSERT_TRUE(other.connect(cluster.follower(1)));
  client.create("/e", "", 1);
  ASSERT_EQ(client.err(), Err::kOk);
  client.put(wire::Op::kCloseSession, [](wire::Writer&) {});
  EXPECT_EQ(client.err(), Err::kOk);
  EXPECT_TRUE(client.ends());
  other.sync();
  EXPECT_EQ(other.err(), Err::kOk);
  EXPECT_FALSE(other.read("/e"));
  EXPECT_FALSE(client.connect(cluster.follower(1)));
  EXPECT_TRUE(client.refused);
}

TEST_F(Ensemble, WatchesFireAtEveryReplica) {
  up();
  Client writer(cluster);
  ASSERT_TRUE(writer.connect(cluster.follower(0)));
  writer.create("/w", "");
  ASSERT_EQ(writer.err(), Err::kOk);
  for (const Sid at : {cluster.leader(), cluster.follower(0), cluster.follower(1)}) {
    Client watcher(cluster);
    ASSERT_TRUE(watcher.connect(at));
    watcher.sync();
    ASSERT_EQ(watcher.err(), Err::kOk);
    watcher.get("/w", true);
    ASSERT_EQ(watcher.err(), Err::kOk);
    writer.set("/w", "x");
    ASSERT_EQ(writer.err(), Err::kOk);
    const auto event = watcher.next();
    ASSERT_TRUE(event);
    EXPECT_EQ(event->xid, wire::xid::kNotification);
  }
}

// --- expiry

// The silent one goes in time, the one that pings stays, wherever they are connected.
TEST_F(Ensemble, SessionsExpireInTimeWhereverTheyAre) {
  up();
  for (const Sid at : {cluster.leader(), cluster.follower(0)}) {
    Client silent(cluster, 10'000), live(cluster, 10'000);
    ASSERT_TRUE(silent.connect(at));
    ASSERT_TRUE(live.connect(at));
    live.create("/live", "", 1);
    ASSERT_EQ(live.err(), Err::kOk);
    silent.create("/silent", "", 1);
    ASSERT_EQ(silent.err(), Err::kOk);
    const std::int64_t last = cluster.clock.now_ms();
    std::int64_t gone = 0;
    for (int n = 0; n < 100; ++n) {
      cluster.clock.run_for(200);
      live.ping();
      ASSERT_EQ(live.err(), Err::kOk);
      if (gone == 0 && !live.read("/silent")) gone = cluster.clock.now_ms();
    }
    ASSERT_NE(gone, 0);
    EXPECT_GE(gone, last + 10'000);
    EXPECT_LE(gone, last + 10'000 + 2 * 2000 + 250);
    EXPECT_TRUE(silent.ended());
    EXPECT_EQ(live.read("/live"), "");
    live.put(wire::Op::kCloseSession, [](wire::Writer&) {});
    EXPECT_EQ(live.err(), Err::kOk);
  }
}

TEST_F(Ensemble, ANewLeaderGivesEverySessionItsFullTimeout) {
  up();
  Client client(cluster, 10'000);
  ASSERT_TRUE(client.connect(cluster.follower(0)));
  client.create("/e", "", 1);
  ASSERT_EQ(client.err(), Err::kOk);
  cluster.clock.run_for(9'000);
  cluster.kill(cluster.leader());
  ASSERT_TRUE(cluster.settle());
  const std::int64_t established = cluster.clock.now_ms();
  Client other(cluster, 40'000);
  ASSERT_TRUE(other.connect(cluster.leader()));
  cluster.clock.run_for(established + 9'900 - cluster.clock.now_ms());
  EXPECT_TRUE(other.read("/e"));
  cluster.clock.run_for(4'400);
  EXPECT_FALSE(other.read("/e"));
  EXPECT_FALSE(client.connect(cluster.leader()));
  EXPECT_TRUE(client.refused);
}

TEST_F(Ensemble, ALeaderThatCannotProveItExpiresNobody) {
  up();
  const Sid old = cluster.leader();
  Client client(cluster, 4'000);
  ASSERT_TRUE(client.connect(old));
  client.create("/e", "", 1);
  ASSERT_EQ(client.err(), Err::kOk);
  cluster.clock.run_for(3'500);
  cluster.isolate(old);
  cluster.clock.run_for(3'000);
  EXPECT_FALSE(cluster.core(old).serving());
  // The client comes to the others in time.
  ASSERT_TRUE(client.connect(cluster.leader())) << "expired by a leader that led nobody, or by the new one too early";
  EXPECT_TRUE(client.read("/e"));
}

// --- losing replicas

TEST_F(Ensemble, AKilledReplicaIsMissedByNobody) {
  up();
  Client client(cluster);
  for (int round = 0; round < 6; ++round) {
    const Sid victim = round % 2 == 0 ? cluster.leader() : cluster.follower(0);
    ASSERT_TRUE(client.connect(victim));
    const std::string path = "/r" + std::to_string(round);
    client.create(path, "x", round % 3 == 0 ? 1 : 0);
    ASSERT_EQ(client.err(), Err::kOk);
    cluster.kill(victim);
    EXPECT_TRUE(client.ended());
    ASSERT_TRUE(cluster.settle());
    ASSERT_TRUE(client.connect(cluster.leader())) << "the session goes on";
    EXPECT_EQ(client.read(path), "x");
    client.set(path, "y");
    EXPECT_EQ(client.err(), Err::kOk);
    cluster.start(victim);
    ASSERT_TRUE(cluster.settle());
    ASSERT_TRUE(cluster.clock.run_until([this] { return equal(); }));
  }
}

TEST_F(Ensemble, AllAtOnceComeBackWithWhatWasAcknowledged) {
  up();
  Client client(cluster);
  ASSERT_TRUE(client.connect(cluster.follower(0)));
  for (int n = 0; n < 50; ++n) client.create("/n" + std::to_string(n), std::to_string(n));
  for (int n = 0; n < 50; ++n) ASSERT_EQ(client.err(), Err::kOk);
  for (std::uint32_t n = 1; n <= 3; ++n) cluster.kill(Sid(n));
  up();
  ASSERT_TRUE(client.connect(cluster.follower(1)));
  for (int n = 0; n < 50; ++n) EXPECT_EQ(client.read("/n" + std::to_string(n)), std::to_string(n));
  EXPECT_TRUE(cluster.clock.run_until([this] { return equal(); }));
}

// Clients of a replica that left broadcast see a lost connection, never a wrong answer; those that come meanwhile are
// sent away without one.
TEST_F(Ensemble, AFollowerThatIsCutOffStopsServing) {
  up();
  const Sid cut = cluster.follower(0);
  Client client(cluster);
  ASSERT_TRUE(client.connect(cut));
  client.create("/x", "1");
  ASSERT_EQ(client.err(), Err::kOk);
  cluster.isolate(cut);
  client.set("/x", "2");
  EXPECT_FALSE(client.next());
  EXPECT_TRUE(client.ended());
  EXPECT_FALSE(client.connect(cut));
  EXPECT_FALSE(client.refused);
  ASSERT_TRUE(client.connect(cluster.leader()));
  EXPECT_EQ(client.read("/x"), "1") << "it never came to the leader";
  cluster.isolate(cut, false);
  ASSERT_TRUE(cluster.settle());
  EXPECT_TRUE(cluster.clock.run_until([this] { return equal(); }));
}

// --- synchronization of a replica that was away for long

TEST_F(Ensemble, ASnapshotReplacesATreeThatIsTooFarBehind) {
  cluster.log_keep_entries = 20;
  up();
  const Sid away = cluster.follower(0);
  Client client(cluster, 40'000);
  ASSERT_TRUE(client.connect(cluster.leader()));
  client.create("/old", "1");
  ASSERT_EQ(client.err(), Err::kOk);
  cluster.kill(away);
  client.put(wire::Op::kDelete, [](wire::Writer& w) { w.buffer(std::string("/old")), w.i32(-1); });
  ASSERT_EQ(client.err(), Err::kOk);
  ASSERT_NO_FATAL_FAILURE(fill_and_forget(2000, 1));
  ASSERT_TRUE(client.connect(cluster.leader()));
  cluster.start(away);
  // Writes go on while it is sent.
  for (int n = 0; n < 200; ++n) {
    client.set("/n0", std::to_string(n));
    ASSERT_EQ(client.err(), Err::kOk);
  }
  ASSERT_TRUE(cluster.settle());
  EXPECT_TRUE(cluster.clock.run_until([this] { return snapshots_sent() == 1; }));
  EXPECT_TRUE(cluster.clock.run_until([this] { return equal(); }));
  Client reader(cluster);
  ASSERT_TRUE(reader.connect(away));
  reader.sync();
  ASSERT_EQ(reader.err(), Err::kOk);
  EXPECT_EQ(reader.read("/n1999"), "x");
  EXPECT_EQ(reader.read("/n0"), "199");
  EXPECT_FALSE(reader.read("/old"));
  // And it stands after a restart.
  cluster.kill(away);
  cluster.start(away);
  ASSERT_TRUE(cluster.settle());
  EXPECT_TRUE(cluster.clock.run_until([this] { return equal(); }));
  EXPECT_EQ(cluster.core(away).ensemble_status().alarms.size(), 0u);
}

// While there are writes it takes 20 s, and when they end it comes at once.
TEST_F(Ensemble, ASnapshotLeavesTheMachineToTheWritesWhileThereAreSome) {
  Sid away;
  ASSERT_NO_FATAL_FAILURE(one_away_for_long(away));
  Client client(cluster, 40'000);
  ASSERT_TRUE(client.connect(cluster.leader()));
  const std::int64_t begun = cluster.clock.now_ms();
  for (bool started = false; cluster.clock.now_ms() < begun + 10'000;) {
    client.set("/n0", "y");
    ASSERT_EQ(client.err(), Err::kOk);
    if (!started && cluster.clock.now_ms() > begun + 100) {
      cluster.start(away);
      started = true;
    }
    ASSERT_FALSE(started && cluster.core(away).serving()) << "after " << cluster.clock.now_ms() - begun << " ms";
  }
  EXPECT_TRUE(cluster.clock.run_until([&] { return cluster.core(away).serving(); }, 2'000));
  EXPECT_TRUE(cluster.clock.run_until([this] { return snapshots_sent() == 1; }));
  EXPECT_TRUE(cluster.clock.run_until([this] { return equal(); }));
}

// The one that is left needs the snapshot's receiver for a majority: nobody can write before it has arrived,
// whatever the log holds that is not known to be committed.
TEST_F(Ensemble, ASnapshotForAMajorityIsNotHeldBack) {
  Sid away;
  ASSERT_NO_FATAL_FAILURE(one_away_for_long(away));
  const Sid left = cluster.leader(), gone = cluster.follower(0);
  {
    Client client(cluster, 40'000);
    ASSERT_TRUE(client.connect(left));
    for (int n = 0; n < 5; ++n) client.set("/n0", "y");
    for (int n = 0; n < 5; ++n) ASSERT_EQ(client.err(), Err::kOk);
  }
  cluster.kill(gone);
  cluster.kill(left);
  cluster.start(left);
  cluster.start(away);
  EXPECT_TRUE(cluster.clock.run_until([&] { return cluster.core(away).serving(); }, 5'000));
  EXPECT_TRUE(cluster.clock.run_until([this] { return snapshots_sent() == 1 && equal(); }));
}

// What is committed meanwhile it keeps in memory, so it gets its snapshot at once, while others are writing.
TEST_F(Ensemble, ASnapshotForADamagedReplicaIsNotHeldBack) {
  Sid hurt;
  ASSERT_NO_FATAL_FAILURE(one_away_for_long(hurt));
  cluster.damage(hurt);
  Client client(cluster, 40'000);
  ASSERT_TRUE(client.connect(cluster.leader()));
  cluster.start(hurt);
  const std::int64_t begun = cluster.clock.now_ms();
  while (!cluster.core(hurt).serving() && cluster.clock.now_ms() < begun + 10'000) {
    client.set("/n0", "y");
    ASSERT_EQ(client.err(), Err::kOk);
  }
  EXPECT_LT(cluster.clock.now_ms() - begun, 3'000);
  EXPECT_EQ(snapshots_sent(), 1u);
  EXPECT_TRUE(cluster.clock.run_until([this] { return equal(); }));
}

// Whatever time passes: a link that is slow gets no more than it can take (else it would be closed, again and again).
TEST_F(Ensemble, ASnapshotWaitsForASlowLink) {
  cluster.log_keep_entries = 20;
  up();
  const Sid away = cluster.follower(0);
  cluster.kill(away);
  ASSERT_NO_FATAL_FAILURE(fill_and_forget(2000, 1000));
  cluster.hub().choke(away);
  cluster.start(away);
  ASSERT_TRUE(cluster.clock.run_until([this] { return cluster.hub().pieces_to_full_links() > 0; }));
  cluster.clock.run_for(2'000);
  EXPECT_EQ(cluster.hub().pieces_to_full_links(), 1u);
  EXPECT_FALSE(cluster.core(away).serving());
  cluster.hub().free(away);
  EXPECT_TRUE(cluster.clock.run_until([&] { return cluster.core(away).serving() && equal(); }));
}

TEST_F(Ensemble, ARunningFollowerTakesASnapshotToo) {
  cluster.log_keep_entries = 20;
  up();
  const Sid away = cluster.leader() == Sid(1) ? Sid(2) : Sid(1);
  cluster.isolate(away);
  ASSERT_NO_FATAL_FAILURE(fill_and_forget(2000, 1, away));
  cluster.isolate(away, false);
  ASSERT_TRUE(cluster.clock.run_until([&] { return cluster.core(away).serving() && equal(); }));
  EXPECT_TRUE(cluster.clock.run_until([this] { return snapshots_sent() == 1; }));
  Client reader(cluster);
  ASSERT_TRUE(reader.connect(away));
  EXPECT_EQ(reader.read("/n1999"), "x");
  reader.set("/n1999", "new");
  EXPECT_EQ(reader.err(), Err::kOk);
  EXPECT_EQ(reader.read("/n1999"), "new");
}

// --- what an administrator sees

TEST_F(Ensemble, EveryReplicaCanTellHowItStands) {
  up();
  cluster.clock.run_for(5'000);
  const Sid lead = cluster.leader();
  const EnsembleStatus leader = cluster.core(lead).ensemble_status();
  EXPECT_EQ(leader.role, zab::Role::kLeading);
  EXPECT_EQ(leader.learners(), 2u);
  EXPECT_EQ(leader.peers.size(), 2u);
  for (const auto& peer : leader.peers) EXPECT_TRUE(peer.connected && peer.serving && peer.counted) << peer.sid.value;
  const EnsembleStatus follower = cluster.core(cluster.follower()).ensemble_status();
  EXPECT_EQ(follower.role, zab::Role::kFollowing);
  EXPECT_EQ(follower.leader, lead);
  EXPECT_TRUE(follower.serving);
  EXPECT_EQ(follower.cluster_id, leader.cluster_id);
  EXPECT_EQ(cluster.core(lead).tree().enrolled().size(), 3u);
}

TEST_F(Ensemble, DigestsAreComparedAndAgree) {
  up();
  Client client(cluster, 40'000);
  ASSERT_TRUE(client.connect(cluster.follower()));
  client.create("/d", "");
  ASSERT_EQ(client.err(), Err::kOk);
  for (int n = 0; n < 3000; ++n) client.set("/d", std::to_string(n));
  for (int n = 0; n < 3000; ++n) ASSERT_EQ(client.err(), Err::kOk);
  cluster.clock.run_for(2'000);
  for (const Sid sid : {Sid(1), Sid(2), Sid(3)}) EXPECT_TRUE(cluster.core(sid).ensemble_status().alarms.empty());
}

TEST(EnsembleObserver, AnObserverServesAndNeverCounts) {
  Cluster cluster(3, 1);
  cluster.start_all();
  ASSERT_TRUE(cluster.settle());
  const Sid observer(4);
  Client client(cluster, 10'000);
  ASSERT_TRUE(client.connect(observer));
  client.create("/o", "1", 1);
  ASSERT_EQ(client.err(), Err::kOk);
  EXPECT_EQ(client.read("/o"), "1");
  client.sync();
  EXPECT_EQ(client.err(), Err::kOk);
  cluster.clock.run_for(500);
  EXPECT_EQ(cluster.core(observer).ensemble_status().role, zab::Role::kObserving);
  cluster.kill(Sid(1));
  cluster.kill(Sid(2));
  cluster.clock.run_for(5'000);
  EXPECT_FALSE(cluster.core(Sid(3)).serving());
  EXPECT_FALSE(cluster.core(observer).serving());
}

TEST(EnsembleCounter, HandOversLoseNothing) {
  Cluster cluster(3);
  cluster.config.counter_max = 50;
  cluster.start_all();
  ASSERT_TRUE(cluster.settle());
  Client client(cluster, 40'000);
  int done = 0;
  for (int round = 0; done < 500 && round < 500; ++round) {
    cluster.settle();
    if (!client.connect(cluster.follower(round % 2))) {
      ASSERT_FALSE(client.refused);
      continue;
    }
    if (done == 0 && !client.read("/c")) {
      client.create("/c", "");
      if (client.err() != Err::kOk) continue;
    }
    while (done < 500) {
      client.set("/c", std::to_string(done));
      if (client.err() != Err::kOk) break;
      ++done;
    }
  }
  EXPECT_EQ(done, 500);
  EXPECT_GT(cluster.core(cluster.leader()).peer().epoch(), 9u);
}

}  // namespace
}  // namespace coord::runtime::testing
