#include "replica/tree/ensemble.h"

#include <gtest/gtest.h>

namespace coord::tree {
namespace {

TEST(ConfigTextTest, one_line_each_and_the_version) {
  EXPECT_EQ(config_text({}, Zxid()), "version=0");
  EXPECT_EQ(config_text({Member{Sid(1), "a", 1, 2, false, "0.0.0.0:9"}, Member{Sid(3), "::1", 1, 2, true, ""}},
                        Zxid(1, 0xab)),
            "server.1=a:1:2:participant;0.0.0.0:9\nserver.3=[::1]:1:2:observer\nversion=1000000ab");
}

}  // namespace
}  // namespace coord::tree
