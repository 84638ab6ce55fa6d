// Arbitrary bytes as a transaction: decode() says no, or what it gives survives being encoded and decoded.
#include "replica/tree/txn.h"
#include "tests/fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace coord::tree;
  const std::optional<Txn> txn = decode(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!txn) return 0;
  std::string once;
  encode(*txn, once);
  const std::optional<Txn> again = decode(once);
  COORD_CHECK_MSG(again.has_value(), "what was encoded does not decode");
  std::string twice;
  encode(*again, twice);
  COORD_CHECK_MSG(once == twice, "a transaction changes when it is encoded and decoded");
  once.pop_back();
  COORD_CHECK_MSG(!decode(once), "a transaction without its last byte is one too");
  return 0;
}
