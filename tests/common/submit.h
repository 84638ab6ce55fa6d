// Ways to submit a request, by name.
#pragma once

#include "common/client/session.h"

namespace coord::client {

inline Submit resend() {
  Submit how;
  how.resend = true;
  return how;
}
inline Submit first() {
  Submit how;
  how.first = true;
  return how;
}
inline Submit within(Millis deadline) {
  Submit how;
  how.deadline = deadline;
  return how;
}

}  // namespace coord::client
