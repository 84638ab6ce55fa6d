// The budget of design.md section 6: at most 250 bytes for each node besides name and data.
#include <malloc.h>

#include <chrono>
#include <cstdio>

#include "tests/replica/tree/machine_harness.h"

namespace coord::tree {
namespace {

using namespace machine_test;
using wire::Op;

Fold wide_tree(std::size_t count, std::size_t data_size) {
  // Folded by one machine and loaded by another, so that what is left is what a running replica keeps.
  StateMachine machine{Limits()};
  RecordingSink sink;
  Zxid zxid(1, 0);
  NodeId parent = kRootNode;
  std::uint32_t creates = 0;
  for (std::size_t i = 0; i < count; ++i) {
    CreateTxn c;
    c.id = NodeId(16 + i);
    if (i % 1000 == 0) parent = kRootNode;
    c.parent = parent;
    c.name = "node-" + std::to_string(i);
    c.data = std::string(data_size, 'x');
    c.acl = open_acl();
    c.parent_creates = ++creates;
    if (i % 1000 == 0) parent = c.id;
    Txn txn;
    txn.op = Op::kCreate;
    txn.changes.emplace_back(std::move(c));
    std::string payload;
    encode(txn, payload);
    zxid = Zxid(zxid.value + 1);
    machine.apply(zxid, payload, false, sink);
  }
  return machine.take_fold();
}

void load(StateMachine& machine, const Fold& fold) {
  for (const auto& [id, record] : fold.nodes) ASSERT_TRUE(machine.load_node(id, *record));
  ASSERT_TRUE(machine.load_counters(fold.counters));
  ASSERT_TRUE(machine.finish_load(fold.tree_durable));
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
std::size_t in_use() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

TEST(MemoryTest, at_most_250_bytes_for_a_node_besides_name_and_data) {
  constexpr std::size_t kNodes = 100'000;
  for (const std::size_t data_size : {0UL, 100UL, 1024UL}) {
    const Fold fold = wide_tree(kNodes, data_size);
    const std::size_t before = in_use();
    StateMachine machine{Limits()};
    load(machine, fold);
    const std::size_t used = in_use() - before;
    const double overhead = (static_cast<double>(used) - static_cast<double>(machine.data_bytes())) / kNodes;
    std::printf("overhead per node with %zu bytes of data: %.1f bytes\n", data_size, overhead);
    EXPECT_LE(overhead, 250.0) << "data of " << data_size;
  }
}
#endif

// Not a timed test: prints what a person wants to see, and checks that all are there.
TEST(MemoryTest, loads_many_nodes) {
  constexpr std::size_t kNodes = 200'000;
  const Fold fold = wide_tree(kNodes, 20);
  const auto start = std::chrono::steady_clock::now();
  StateMachine machine{Limits()};
  load(machine, fold);
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - start);
  std::printf("%zu nodes loaded in %lld ms\n", kNodes, static_cast<long long>(took.count()));
  EXPECT_EQ(machine.node_count(), kNodes + 5);
}

}  // namespace
}  // namespace coord::tree
