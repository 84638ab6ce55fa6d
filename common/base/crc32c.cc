#include "common/base/crc32c.h"

#include <isa-l/crc.h>

namespace coord {

std::uint32_t crc32c(std::string_view bytes, std::uint32_t seed) {
  // crc32_iscsi neither inverts its seed nor its result; both are part of CRC32C. It wants a non-const pointer but
  // only reads.
  auto* data = reinterpret_cast<unsigned char*>(const_cast<char*>(bytes.data()));
  return ~crc32_iscsi(data, static_cast<int>(bytes.size()), ~seed);
}

}  // namespace coord
