// What must hold after every step of the core, and between before and after: checked by tests and the simulator, not in
// production (the core has its own checks). Pure. Source: zab.md sections 1.2 and 7.1 (13, and 5, 6, 12 in local form).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "replica/zab/peer.h"

namespace coord::zab {

// What can be seen of a core from outside.
struct Observation {
  Role role;
  Phase phase;
  std::uint32_t accepted_epoch;
  std::uint32_t current_epoch;
  Zxid last_logged;
  Zxid last_durable;
  Zxid last_committed;
};
Observation observe(const Peer& peer);

// The first invariant that this state breaks, in words; nullopt: none.
std::optional<std::string> broken_state(const Observation& now);

// The first invariant broken by the step from `before` to `after`, which was caused by `event` and put out `actions`.
std::optional<std::string> broken_step(const Observation& before, const Event& event, const Actions& actions,
                                       const Observation& after);

}  // namespace coord::zab
