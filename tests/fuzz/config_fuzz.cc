// Arbitrary text as zoo.cfg, and as the address of an ensemble. What was understood of a configuration, written with
// everything unusual escaped, is understood the same way again.
#include <cstdio>

#include "common/base/config.h"
#include "common/client/client.h"
#include "tests/fuzz/input.h"

namespace {

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = byte >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (plain) {
      out.push_back(c);
    } else {
      char code[8];
      std::snprintf(code, sizeof code, "\\u%04x", byte);
      out += code;
    }
  }
  return out;
}

void check_config(std::string_view text) {
  const auto entries = coord::parse_config(text, "zoo.cfg");
  if (!entries) {
    COORD_CHECK_MSG(entries.error().message.starts_with("zoo.cfg:"), "a fault that does not say where");
    return;
  }
  std::string again = "#\n";
  int line = 0;
  for (const coord::ConfigEntry& entry : *entries) {
    COORD_CHECK_MSG(!entry.key.empty(), "a setting without a key");
    COORD_CHECK_MSG(entry.line > line, "lines out of order");
    line = entry.line;
    again += escaped(entry.key) + " = " + escaped(entry.value) + "\n";
  }
  const auto second = coord::parse_config(again, "again");
  COORD_CHECK_MSG(second.has_value(), "what was understood is not understood again");
  COORD_CHECK_MSG(second->size() == entries->size(), "settings lost or won");
  for (std::size_t i = 0; i < entries->size(); ++i) {
    COORD_CHECK_MSG((*second)[i].key == (*entries)[i].key && (*second)[i].value == (*entries)[i].value,
                    "a setting that changes when it is written and read");
  }
}

void check_target(std::string_view text) {
  const auto target = coord::client::parse_target(text);
  if (!target) {
    COORD_CHECK_MSG(!target.error().message.empty(), "a fault without a message");
    return;
  }
  COORD_CHECK_MSG(!target->servers.empty(), "an ensemble without a server");
  for (const coord::client::Server& server : target->servers) {
    COORD_CHECK_MSG(server.unix_path.empty() != (server.host.empty() || server.port == 0), "half an address");
  }
  COORD_CHECK_MSG(target->chroot.empty() || target->chroot.starts_with('/'), "a chroot that is no path");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check_config(text);
  check_target(text);
  return 0;
}
