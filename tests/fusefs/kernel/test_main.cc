// The test binary is also its own helper, daemon and guardian: see the flags in children.h.
#include <gtest/gtest.h>

#include "fusefs/replay/helper.h"
#include "tests/fusefs/kernel/children.h"

int main(int argc, char** argv) {
  int status = 0;
  if (coord::fs::replay::replay_helper_main(argc, argv, status)) return status;
  if (coord::fs::testing_child_main(argc, argv, status)) return status;
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
