// Gives bytes to a FrameReader as a socket would, in pieces of what it has room for.
#pragma once

#include <algorithm>
#include <cstring>
#include <string_view>

#include "replica/peers/frame.h"

namespace coord::peers {

inline void feed(FrameReader& reader, std::string_view bytes) {
  while (!bytes.empty()) {
    const auto room = reader.room(1);
    const std::size_t n = std::min(room.size, bytes.size());
    std::memcpy(room.data, bytes.data(), n);
    reader.wrote(n);
    bytes.remove_prefix(n);
  }
}

}  // namespace coord::peers
