// Actions and messages as one line of text, for traces.
#pragma once

#include <string>

#include "replica/zab/peer.h"

namespace coord::sim {

std::string describe(const zab::Message& message);
std::string describe(const zab::Action& action);
std::string name_of(zab::Role role, zab::Phase phase);
// A number that tells messages apart, for the trace hash.
std::uint64_t key_of(const zab::Message& message);

}  // namespace coord::sim
