// Plain data of the log as the core sees it, and the arithmetic on its shape. Pure.
//
// THE SHAPE OF A LOG. Within one epoch the counters of a history are 1, 2, 3, ... without gaps, and two histories that
// share a zxid are equal up to it (the prefix property, zab.md section 7.1). So where a log stands is told by its floor
// and by the last zxid of each epoch in it, whatever its length; and the common point of two logs follows from these.
//
// Source: zab.md sections 3.3 (common point) and 3.6 (chain check).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/model/ids.h"

namespace coord::zab {

using Payload = std::shared_ptr<const std::string>;

// Which replica took the request that became this entry, and its number there, so that this replica finds the client
// that waits. Travels with the proposal, is not stored, means nothing after the link it came by is gone.
struct Origin {
  Sid sid;               // 0: nobody waits
  std::uint64_t id = 0;  // of sid's own counting
  friend bool operator==(const Origin&, const Origin&) = default;
};

struct LogEntry {
  Zxid zxid;
  Zxid previous;
  Payload payload;
  Origin origin;
};

// The retained log: everything above `floor`. The floor itself (the position that a purge or a snapshot left) counts as
// a point of it.
struct LogShape {
  Zxid floor;
  std::vector<Zxid> epoch_ends;  // the last zxid of each epoch above the floor, ascending

  Zxid last() const { return epoch_ends.empty() ? floor : epoch_ends.back(); }
  bool has_point(Zxid zxid) const;       // the floor or an entry above it
  void append(Zxid zxid);                // must follow last(): counter + 1, or a later epoch's first
  void truncate_after(Zxid zxid);        // must be a point
  friend bool operator==(const LogShape&, const LogShape&) = default;
};

// May `next` stand directly behind `previous` in a log? The counter + 1 of the same epoch, or a later epoch's first.
bool follows(Zxid previous, Zxid next);

// Ascending epochs above the floor, counters from 1: what a shape from another server must be before it is used.
bool well_formed(const LogShape& shape);

// The point before `zxid`, which must be an entry of the log above the floor.
Zxid point_before(const LogShape& shape, Zxid zxid);

// How many entries the log has above `after`, a point of it.
std::uint64_t entries_above(const LogShape& shape, Zxid after);

// The highest point that both have; nullopt: none is left above both floors.
std::optional<Zxid> common_point(const LogShape& a, const LogShape& b);

}  // namespace coord::zab
