// Which troubles with whom are present, so that each is told and logged once and not with every attempt. Pure: time is
// an argument.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/model/ids.h"

namespace coord::peers {

class Troubles {
 public:
  Troubles(std::int64_t lasts_ms, std::int64_t log_again_ms) : lasts_ms_(lasts_ms), log_again_ms_(log_again_ms) {}

  struct Noted {
    bool log = false;     // first time, another text, or long ago
    bool changed = false;  // text(sid) is another one now
  };
  // `cause`: any small number of the caller's; one text per server and cause is kept.
  Noted note(Sid sid, int cause, const std::string& text, std::int64_t now_ms);
  bool present(Sid sid, int cause) const;
  // Whether text(sid) changed.
  bool clear(Sid sid, int cause);
  // Forgets what has not happened again for lasts_ms; whose text changed by that.
  std::vector<Sid> expire(std::int64_t now_ms);
  // All present ones, joined; empty: none.
  std::string text(Sid sid) const;

 private:
  struct Trouble {
    std::string text;
    std::int64_t seen_ms = 0, logged_ms = 0;
    bool present = false;  // else only kept so that it is not logged again soon
  };
  const std::int64_t lasts_ms_, log_again_ms_;
  std::map<std::pair<Sid, int>, Trouble> all_;
};

}  // namespace coord::peers
