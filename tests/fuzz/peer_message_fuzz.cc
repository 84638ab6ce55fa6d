// Arbitrary bytes from another replica: no message, or one that is encoded to the same bytes again.
#include "replica/peers/codec.h"
#include "tests/fuzz/input.h"

namespace {

void as_message(std::string_view bytes) {
  const auto message = coord::peers::decode(bytes);
  if (!message) return;
  std::string again;
  coord::peers::encode(*message, again);
  COORD_CHECK_MSG(again == bytes, "a message changes when it is decoded and encoded");
  COORD_CHECK_MSG(coord::peers::encoded_size(*message) == bytes.size(), "a message has another size than it says");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  as_message(std::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
