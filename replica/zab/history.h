// Plain data of the log as the core sees it.
#pragma once

#include <memory>
#include <string>

#include "common/model/ids.h"

namespace coord::zab {

using Payload = std::shared_ptr<const std::string>;

struct LogEntry {
  Zxid zxid;
  Zxid previous;
  Payload payload;
};

}  // namespace coord::zab
