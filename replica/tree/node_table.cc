#include "replica/tree/node_table.h"

#include <new>
#include <utility>

#include "common/base/check.h"

namespace coord::tree {
namespace {

std::uint64_t mix(std::uint64_t x) {
  x ^= x >> 32;
  x *= 0x9e3779b97f4a7c15ULL;
  x ^= x >> 29;
  x *= 0xbf58476d1ce4e5b9ULL;
  x ^= x >> 32;
  return x;
}

std::uint64_t hash_id(NodeId id) { return mix(id.value + 0x9e3779b97f4a7c15ULL); }

// The same on every replica is not needed: it only places slots.
std::uint64_t hash_name(NodeId parent, std::string_view name) {
  return mix(std::hash<std::string_view>()(name) ^ (parent.value * 0x9e3779b97f4a7c15ULL));
}

}  // namespace

// Linear probing with backward-shift deletion; capacity grows by half, so that between half and three quarters of the
// slots are in use. A slot is a pointer with 16 bits of the hash in its upper bits (user addresses have 48 here), so
// that a probe rarely looks at a node that is not the one.
struct NodeTable::Index {
  static constexpr std::uint64_t kPointerBits = 48;
  static constexpr std::uint64_t kPointerMask = (1ULL << kPointerBits) - 1;
  static constexpr std::size_t kMinimum = 16;

  __extension__ using Wide = unsigned __int128;
  using Hash = std::uint64_t (*)(const Node&);
  explicit Index(Hash hash_of) : hash(hash_of), slots(kMinimum, 0) {}

  Hash hash;
  std::vector<std::uint64_t> slots;
  std::size_t used = 0;

  static Node* node(std::uint64_t slot) { return reinterpret_cast<Node*>(slot & kPointerMask); }
  static std::uint64_t tag(std::uint64_t h) { return h << kPointerBits; }
  std::size_t home(std::uint64_t h) const {
    return static_cast<std::size_t>((static_cast<Wide>(h) * slots.size()) >> 64);
  }
  std::size_t next(std::size_t i) const { return i + 1 == slots.size() ? 0 : i + 1; }

  template <class Equal>
  Node* find(std::uint64_t h, Equal equal) const {
    const std::uint64_t wanted = tag(h);
    for (std::size_t i = home(h); slots[i] != 0; i = next(i)) {
      if ((slots[i] & ~kPointerMask) == wanted && equal(*node(slots[i]))) return node(slots[i]);
    }
    return nullptr;
  }

  void place(Node* n) {
    const std::uint64_t h = hash(*n);
    std::size_t i = home(h);
    while (slots[i] != 0) i = next(i);
    const auto bits = reinterpret_cast<std::uint64_t>(n);
    COORD_CHECK_MSG((bits & ~kPointerMask) == 0, "a heap address above 48 bits");
    slots[i] = bits | tag(h);
  }

  void resize(std::size_t capacity) {
    std::vector<std::uint64_t> old(capacity, 0);
    old.swap(slots);
    for (const std::uint64_t slot : old) {
      if (slot != 0) place(node(slot));
    }
  }

  void reserve(std::size_t count) {
    if (count * 4 > slots.size() * 3) resize(count * 3 / 2);
  }

  void insert(Node* n) {
    if ((used + 1) * 4 > slots.size() * 3) resize(slots.size() + slots.size() / 2);
    place(n);
    ++used;
  }

  // Called while the node still has the key under which it was inserted.
  void erase(const Node& n) {
    std::size_t hole = home(hash(n));
    while (slots[hole] != 0 && node(slots[hole]) != &n) hole = next(hole);
    COORD_CHECK_MSG(slots[hole] != 0, "a node is missing in its index");
    for (std::size_t i = next(hole); slots[i] != 0; i = next(i)) {
      const std::size_t wants = home(hash(*node(slots[i])));
      // May the entry move into the hole? Only if its home is not cyclically within (hole, i].
      const bool between = hole < i ? (wants > hole && wants <= i) : (wants > hole || wants <= i);
      if (between) continue;
      slots[hole] = slots[i];
      hole = i;
    }
    slots[hole] = 0;
    --used;
  }
};

// Nodes live in slabs: no allocator overhead for each, and neighbours in time are neighbours in memory. Slabs are kept
// for reuse until the table goes.
struct NodeTable::Slabs {
  static constexpr std::size_t kNodesPerSlab = 128;
  union Cell {
    Cell* next_free;
    alignas(Node) unsigned char bytes[sizeof(Node)];
  };
  std::vector<std::unique_ptr<Cell[]>> slabs;
  Cell* free = nullptr;

  Node* make() {
    if (free == nullptr) {
      slabs.push_back(std::make_unique_for_overwrite<Cell[]>(kNodesPerSlab));
      for (std::size_t i = kNodesPerSlab; i-- > 0;) {
        slabs.back()[i].next_free = free;
        free = &slabs.back()[i];
      }
    }
    Cell* cell = free;
    free = cell->next_free;
    return new (cell->bytes) Node();
  }
  void destroy(Node* node) {
    node->~Node();
    Cell* cell = reinterpret_cast<Cell*>(node);
    cell->next_free = free;
    free = cell;
  }
};

NodeTable::NodeTable()
    : slabs_(std::make_unique<Slabs>()),
      by_id_(std::make_unique<Index>(+[](const Node& n) { return hash_id(n.id); })),
      by_name_(std::make_unique<Index>(+[](const Node& n) { return hash_name(n.parent->id, n.name); })) {
  root_ = slabs_->make();
  root_->id = kRootNode;
  root_->parent = root_;
  by_id_->insert(root_);
  size_ = 1;
}

NodeTable::~NodeTable() {
  for (const std::uint64_t slot : by_id_->slots) {
    if (slot != 0) Index::node(slot)->~Node();
  }
  for (Node* node : unlinked_) node->~Node();
}

Node* NodeTable::find(NodeId id) const {
  return by_id_->find(hash_id(id), [id](const Node& n) { return n.id == id; });
}

Node* NodeTable::child(NodeId parent, std::string_view name) const {
  return by_name_->find(hash_name(parent, name),
                        [&](const Node& n) { return n.parent->id == parent && n.name == name; });
}

Node* NodeTable::find(std::string_view path) const {
  if (path.empty() || path == "/") return root_;
  if (path.front() != '/') return nullptr;
  Node* node = root_;
  std::size_t at = 1;
  while (node != nullptr) {
    const std::size_t slash = path.find('/', at);
    node = child(node->id, path.substr(at, slash == std::string_view::npos ? slash : slash - at));
    if (slash == std::string_view::npos) break;
    at = slash + 1;
  }
  return node;
}

std::string NodeTable::path_of(const Node& node) const {
  if (&node == root_) return "/";
  std::size_t length = 0;
  for (const Node* n = &node; n != root_; n = n->parent) length += n->name.size() + 1;
  std::string path(length, '/');
  for (const Node* n = &node; n != root_; n = n->parent) {
    length -= n->name.size();
    path.replace(length, n->name.size(), n->name);
    --length;
  }
  return path;
}

void NodeTable::link(Node& node, Node& parent) {
  node.parent = &parent;
  node.previous_sibling = nullptr;
  node.next_sibling = parent.first_child;
  if (parent.first_child != nullptr) parent.first_child->previous_sibling = &node;
  parent.first_child = &node;
  ++parent.num_children;
  by_name_->insert(&node);
}

void NodeTable::unlink(Node& node) {
  by_name_->erase(node);
  Node& parent = *node.parent;
  (node.previous_sibling != nullptr ? node.previous_sibling->next_sibling : parent.first_child) = node.next_sibling;
  if (node.next_sibling != nullptr) node.next_sibling->previous_sibling = node.previous_sibling;
  COORD_CHECK(parent.num_children > 0);
  --parent.num_children;
}

Node* NodeTable::add_unlinked(NodeId id) {
  Node* node = slabs_->make();
  node->id = id;
  unlinked_.push_back(node);
  return node;
}

Node* NodeTable::index_unlinked() {
  by_id_->reserve(size_ + unlinked_.size());
  by_name_->reserve(size_ + unlinked_.size());
  for (; !unlinked_.empty(); unlinked_.pop_back()) {
    Node* node = unlinked_.back();
    if (node->id.value == 0 || find(node->id) != nullptr) return node;
    by_id_->insert(node);
    ++size_;
  }
  unlinked_.shrink_to_fit();
  return nullptr;
}

bool NodeTable::attach(Node& node, Node& parent) {
  if (node.name.empty() || child(parent.id, node.name) != nullptr) return false;
  link(node, parent);
  return true;
}

Node& NodeTable::insert(NodeId id, Node& parent, std::string name) {
  COORD_CHECK_MSG(id.value != 0 && find(id) == nullptr, "a node id is given twice");
  COORD_CHECK_MSG(!name.empty() && child(parent.id, name) == nullptr, "a name is given twice in one parent");
  Node* node = slabs_->make();
  node->id = id;
  node->name = std::move(name);
  link(*node, parent);
  by_id_->insert(node);
  ++size_;
  return *node;
}

void NodeTable::erase(Node& node) {
  COORD_CHECK_MSG(&node != root_ && node.first_child == nullptr, "a node with children is erased");
  unlink(node);
  by_id_->erase(node);
  --size_;
  slabs_->destroy(&node);
}

void NodeTable::move(Node& node, Node& new_parent, std::string new_name) {
  COORD_CHECK_MSG(child(new_parent.id, new_name) == nullptr, "a node is moved onto another");
  for (const Node* n = &new_parent;; n = n->parent) {
    COORD_CHECK_MSG(n != &node, "a node is moved into itself");
    if (n == root_) break;
  }
  unlink(node);
  node.name = std::move(new_name);
  link(node, new_parent);
}

Stat Node::stat() const {
  Stat s;
  s.czxid = czxid;
  s.mzxid = mzxid;
  s.ctime = ctime;
  s.mtime = mtime;
  s.version = version;
  s.cversion = static_cast<std::int32_t>(2U * creates - num_children);
  s.aversion = aversion;
  s.ephemeral_owner = lifetime == Lifetime::kEphemeral ? owner_or_ttl : 0;
  s.data_length = static_cast<std::int32_t>(data.size());
  s.num_children = static_cast<std::int32_t>(num_children);
  s.pzxid = pzxid;
  return s;
}

}  // namespace coord::tree
