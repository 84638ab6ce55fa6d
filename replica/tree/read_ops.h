// Answers requests that change nothing: the reads of client-protocol.md section 3 and those of extension.h. Arms
// watches and interest on the way, which is one step with respect to apply because the caller holds the shared lock.
//
// Split by subject: read_ops.cc (nodes), read_watches.cc (watches), read_extension.cc (what a mount asks).
// Threading: any thread, see state_machine.h.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "replica/tree/data_tree.h"
#include "replica/tree/interest.h"
#include "replica/tree/state_machine.h"
#include "replica/tree/watches.h"

namespace coord::tree {

using EarlyEvent = std::function<void(WatchType, std::string_view path)>;

class ReadOps {
 public:
  ReadOps(const DataTree& tree, Watches& watches, Interest& interest, const Limits& limits)
      : tree_(tree), watches_(watches), interest_(interest), limits_(limits) {}

  static bool is_read(wire::Op op);
  // As StateMachine::read.
  Err read(const Peer& peer, wire::Op op, std::string_view body, std::string& out, const EarlyEvent& early) const;

  // Facts about the disk that only the shell knows; for kCapabilities. Exclusive lock.
  void set_disk(std::int64_t bytes, std::int64_t free_bytes) {
    disk_bytes_ = bytes;
    disk_free_bytes_ = free_bytes;
  }

 private:
  Err dispatch(const Peer& peer, wire::Op op, wire::Reader& r, wire::Writer& w, const EarlyEvent& early) const;
  bool allowed(const Peer& peer, const Node& node, std::int32_t perms) const;

  Err exists(const Peer& peer, wire::Reader& r, wire::Writer& w) const;
  Err get_data(const Peer& peer, wire::Reader& r, wire::Writer& w, bool may_watch) const;
  Err get_children(const Peer& peer, wire::Reader& r, wire::Writer& w, bool may_watch, bool with_stat) const;
  Err get_acl(const Peer& peer, wire::Reader& r, wire::Writer& w) const;
  Err get_ephemerals(const Peer& peer, wire::Reader& r, wire::Writer& w) const;
  Err get_all_children_number(const Peer& peer, wire::Reader& r, wire::Writer& w) const;
  Err who_am_i(const Peer& peer, wire::Writer& w) const;
  Err multi_read(const Peer& peer, wire::Reader& r, wire::Writer& w) const;

  Err set_watches(const Peer& peer, wire::Reader& r, bool with_persistent, const EarlyEvent& early) const;
  Err add_watch(const Peer& peer, wire::Reader& r, wire::Writer& w) const;
  Err remove_watches(const Peer& peer, wire::Reader& r, bool only_check) const;

  Err capabilities(const Peer& peer, wire::Reader& r, wire::Writer& w) const;
  Err lookup(const Peer& peer, wire::Reader& r, wire::Writer& w) const;
  Err read_dir(const Peer& peer, wire::Reader& r, wire::Writer& w) const;
  Err read_node(const Peer& peer, wire::Reader& r, wire::Writer& w) const;
  Err forget(const Peer& peer, wire::Reader& r) const;
  Err resume(const Peer& peer, wire::Reader& r, wire::Writer& w) const;
  // Who asks: what the request says if the peer may speak for others, else the peer itself.
  static const Credentials& asker(const Peer& peer, const Credentials& claimed);
  bool may(const Node& node, const Credentials& who, std::int32_t perms) const;
  bool may_search(const Node& node, const Credentials& who) const;

  const DataTree& tree_;
  Watches& watches_;
  Interest& interest_;
  std::int64_t disk_bytes_ = 0;
  std::int64_t disk_free_bytes_ = 0;
  const Limits& limits_;
};

}  // namespace coord::tree
