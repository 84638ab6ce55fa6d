#include "common/base/check.h"

#include <cstdio>
#include <cstdlib>

namespace coord {

void check_failed(const char* file, int line, const char* condition, const char* message) noexcept {
  std::fprintf(stderr, "%s:%d: invariant broken: %s %s\n", file, line, condition, message);
  std::fflush(stderr);
  std::abort();
}

}  // namespace coord
