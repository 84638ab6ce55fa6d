#include "replica/tree/node_table.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

namespace coord::tree {
namespace {

TEST(NodeTableTest, finds_nothing_under_a_path_that_is_not_one) {
  NodeTable table;
  Node& a = table.insert(NodeId(20), table.root(), "a");
  table.insert(NodeId(21), a, "b");
  for (const char* path : {"a", "/a/", "//a", "/a//b", "/b", "/a/b/c", "a/b", "//"}) {
    EXPECT_EQ(table.find(std::string_view(path)), nullptr) << path;
  }
  EXPECT_EQ(table.find(NodeId(22)), nullptr);
  EXPECT_EQ(table.child(NodeId(21), "b"), nullptr);
  EXPECT_EQ(table.find(""), &table.root());
  EXPECT_EQ(table.find("/"), &table.root());
  EXPECT_EQ(table.find("/a/b")->id, NodeId(21));
}

TEST(NodeTableTest, paths_are_those_of_the_names_above) {
  NodeTable table;
  EXPECT_EQ(table.path_of(table.root()), "/");
  Node& a = table.insert(NodeId(20), table.root(), "a");
  Node& bc = table.insert(NodeId(21), a, "bc");
  EXPECT_EQ(table.path_of(a), "/a");
  EXPECT_EQ(table.path_of(bc), "/a/bc");
}

TEST(NodeTableTest, a_move_takes_everything_below_along) {
  NodeTable table;
  Node& a = table.insert(NodeId(20), table.root(), "a");
  Node& b = table.insert(NodeId(21), a, "b");
  Node& c = table.insert(NodeId(22), b, "c");
  Node& d = table.insert(NodeId(23), table.root(), "d");
  table.move(b, d, "e");
  EXPECT_EQ(table.path_of(c), "/d/e/c");
  EXPECT_EQ(table.find("/d/e/c"), &c);
  EXPECT_EQ(table.find("/a/b"), nullptr);
  EXPECT_EQ(a.num_children, 0U);
  EXPECT_EQ(a.first_child, nullptr);
  EXPECT_EQ(d.num_children, 1U);
}

TEST(NodeTableDeathTest, broken_invariants_abort) {
  NodeTable table;
  Node& a = table.insert(NodeId(20), table.root(), "a");
  Node& b = table.insert(NodeId(21), a, "b");
  EXPECT_DEATH(table.insert(NodeId(20), table.root(), "x"), "given twice");
  EXPECT_DEATH(table.insert(NodeId(30), table.root(), "a"), "given twice");
  EXPECT_DEATH(table.erase(a), "children");
  EXPECT_DEATH(table.move(a, b, "x"), "into itself");
}

// Random inserts, moves and erases against a model of (parent, name) -> id.
TEST(NodeTableTest, agrees_with_a_model) {
  NodeTable table;
  std::map<std::pair<NodeId, std::string>, NodeId> model;
  std::vector<NodeId> ids{kRootNode};
  std::mt19937 random(42);
  NodeId next{16};
  const auto pick = [&] { return table.find(ids[random() % ids.size()]); };
  for (int step = 0; step < 40000; ++step) {
    const std::string name = "n" + std::to_string(random() % 50);
    const auto action = random() % 10;
    if (action < 5) {
      Node* parent = pick();
      if (table.child(parent->id, name) != nullptr) continue;
      table.insert(next, *parent, name);
      model[{parent->id, name}] = next;
      ids.push_back(next);
      next = NodeId(next.value + 1);
    } else if (action < 9) {
      Node* node = pick();
      if (node == &table.root() || node->num_children != 0) continue;
      model.erase({node->parent->id, node->name});
      std::erase(ids, node->id);
      table.erase(*node);
    } else {
      Node* node = pick();
      Node* parent = pick();
      bool below = false;
      for (Node* n = parent; n != &table.root(); n = n->parent) below = below || n == node;
      if (node == &table.root() || below || table.child(parent->id, name) != nullptr) continue;
      model.erase({node->parent->id, node->name});
      table.move(*node, *parent, name);
      model[{parent->id, name}] = node->id;
    }
  }
  ASSERT_EQ(table.size(), model.size() + 1);
  std::map<NodeId, std::uint32_t> children;
  for (const auto& [key, id] : model) {
    Node* node = table.child(key.first, key.second);
    ASSERT_NE(node, nullptr);
    EXPECT_EQ(node->id, id);
    EXPECT_EQ(table.find(id), node);
    EXPECT_EQ(table.find(table.path_of(*node)), node);
    ++children[key.first];
  }
  for (const NodeId id : ids) {
    Node* node = table.find(id);
    std::set<NodeId> seen;
    for (Node* child = node->first_child; child != nullptr; child = child->next_sibling) seen.insert(child->id);
    EXPECT_EQ(seen.size(), children[id]);
    EXPECT_EQ(node->num_children, children[id]);
  }
}

}  // namespace
}  // namespace coord::tree
