// The in-memory tree itself: nodes, the index by id and the index by (parent, name), the sibling lists. It knows no
// rules; data_tree.h applies transactions to it. Compact: at most 250 bytes for each node besides name and data.
// Not synchronised: see state_machine.h.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/model/ids.h"
#include "common/model/records.h"
#include "replica/tree/txn.h"

namespace coord::tree {

using AclIndex = std::uint32_t;

struct Node {
  NodeId id;
  Node* parent = nullptr;       // the root's is itself
  Node* first_child = nullptr;  // children in no order
  Node* next_sibling = nullptr;
  Node* previous_sibling = nullptr;
  std::int64_t czxid = 0;
  std::int64_t mzxid = 0;
  std::int64_t pzxid = 0;
  std::int64_t ctime = 0;
  std::int64_t mtime = 0;
  std::int64_t owner_or_ttl = 0;  // session of an ephemeral, ms of a TTL node
  std::int64_t mtime_ns = 0;      // Attributes::mtime_ns
  std::int32_t version = 0;
  std::int32_t aversion = 0;
  std::uint32_t creates = 0;      // children ever created: the sequential suffix, and cversion = 2*creates - children
  std::uint32_t num_children = 0;
  AclIndex acl = 0;
  std::uint16_t exec = 0;
  Shape shape = Shape::kFile;
  Lifetime lifetime = Lifetime::kPersistent;
  bool null_data = false;
  bool from_client = false;  // made by a stock create: its empty file may still become a dir (filesystem.md section 2)
  bool dirty = false;        // changed since the last fold
  std::uint32_t data_crc = 0;  // crc32c of `data`, for the digest
  std::string name;
  std::string data;

  Stat stat() const;
  Attributes attributes() const { return {shape, exec, mtime_ns}; }
};

class NodeTable {
 public:
  NodeTable();
  ~NodeTable();
  NodeTable(const NodeTable&) = delete;
  NodeTable& operator=(const NodeTable&) = delete;

  Node& root() { return *root_; }
  const Node& root() const { return *root_; }
  Node* find(NodeId id) const;                                    // nullptr: none
  Node* child(NodeId parent, std::string_view name) const;        // nullptr: none
  Node* find(std::string_view path) const;                        // "" and "/" are the root; no validation
  std::string path_of(const Node& node) const;
  std::size_t size() const { return size_; }

  // The id must be free, and (parent, name) too. Does not touch the parent's counters other than num_children.
  Node& insert(NodeId id, Node& parent, std::string name);
  void erase(Node& node);                                          // must have no children
  void move(Node& node, Node& new_parent, std::string new_name);  // with all below it; keeps num_children right

  // Loading: first all nodes, in any order; then all are indexed at once; then each is given its parent.
  Node* add_unlinked(NodeId id);
  Node* index_unlinked();                   // nullptr, or a node whose id is taken; nothing more may be done then
  bool attach(Node& node, Node& parent);    // false: the name is empty, or taken in `parent`

 private:
  // Two open-addressing tables of Node*: 8 bytes a slot, half to three quarters full.
  struct Index;
  struct Slabs;
  void link(Node& node, Node& parent);
  void unlink(Node& node);

  std::unique_ptr<Slabs> slabs_;
  std::unique_ptr<Index> by_id_;
  std::unique_ptr<Index> by_name_;
  std::vector<Node*> unlinked_;  // in no index yet
  Node* root_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace coord::tree
