// CRC32C (Castagnoli, RFC 3720), from ISA-L, which uses the CPU's instructions where it has them.
#pragma once

#include <cstdint>
#include <string_view>

namespace coord {

// The checksum of `bytes`, continued from `seed` (the checksum of what came before; 0 at the start).
std::uint32_t crc32c(std::string_view bytes, std::uint32_t seed = 0);

}  // namespace coord
