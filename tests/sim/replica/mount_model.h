// What a simulated mount knows of its own directories: nobody else writes there and its requests are carried out in
// order, each exactly once, so that it can say of every request, before it is sent, what the answer must be. A request
// that was carried out twice, or not at all, or after a later one, shows in versions, sequential names or refusals.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/wire/extension.h"
#include "tests/sim/random.h"

namespace coord::sim {

// An answer as it must be. Of a node that the replica names by itself the id is not known: 0.
struct Expected {
  Err err = Err::kOk;
  bool node = false;  // a NodeInfo is answered, else what a delete answers
  NodeId id{};
  NodeId parent{};
  std::string name{};
  std::int32_t version = 0;
  std::size_t bytes = 0;
  bool ephemeral = false;
  // "" or what is different.
  std::string differs(Err told, std::string_view body, std::int64_t session) const;
};

class MountModel {
 public:
  using Handle = std::int64_t;  // the sequence number of the request that creates a node
  struct Node {
    NodeId id;
    std::size_t dir = 0;
    std::string name;
    std::string data;
    std::int32_t version = 0;
    bool ephemeral = false;
  };
  static constexpr std::size_t kDirs = 2;  // the session's own, and one in it

  void clear() { *this = MountModel(); }
  void made_dir(std::size_t which, NodeId id) { dirs_[which] = id; }
  bool ready() const { return dirs_[kDirs - 1] != NodeId{}; }
  NodeId dir(std::size_t which) const { return dirs_[which]; }
  const std::map<Handle, Node>& nodes() const { return nodes_; }
  std::size_t size() const { return nodes_.size(); }
  // One that can be named by its id; nullptr: there is none.
  const Node* any(Random& random) const;
  std::optional<NodeId> any_dead(Random& random) const;
  // Where it is; of one that is not: 0.
  wire::NodePlace place(NodeId id) const;
  void learn(Handle handle, NodeId id);

  // Each is carried out at once in the model, and says what a replica must answer.
  Expected create(Handle handle, std::size_t dir, std::string& name, bool sequential, bool ephemeral, NodeId id,
                  std::string data);
  Expected set(NodeId id, std::string data, std::int32_t version);
  Expected remove(NodeId id);
  Expected rename(NodeId id, std::size_t dir, const std::string& name, std::uint32_t flags);

  // A directory as it must be listed, by name; `id` 0: not known.
  std::vector<Node> list(std::size_t dir) const;

 private:
  Node* find(NodeId id);
  Node* find(std::size_t dir, const std::string& name);
  void erase(NodeId id);
  Expected info(const Node& node) const;

  std::array<NodeId, kDirs> dirs_;
  std::array<std::uint32_t, kDirs> creates_{1, 0};  // the second directory was made in the first
  std::map<Handle, Node> nodes_;
  std::vector<NodeId> dead_;
};

inline constexpr std::uint32_t kRenameNoReplace = 1;
inline constexpr std::uint32_t kRenameExchange = 2;

}  // namespace coord::sim
