#include "common/model/ids.h"

#include <cstdio>

namespace coord {

std::string to_string(Zxid z) {
  char text[24];
  std::snprintf(text, sizeof text, "%x:%x", z.epoch(), z.counter());
  return text;
}

}  // namespace coord
