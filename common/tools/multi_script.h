// The text that `coordctl multi` reads, one operation per line, and the multi request made of it. Pure.
//
//   create PATH [DATA]      set PATH DATA [VERSION]      delete PATH [VERSION]      check PATH VERSION
//
// Words are separated by blanks. Quotes as in a shell: '...' keeps everything, "..." knows \" \\ and \n, and a
// backslash outside quotes keeps the next character. '#' at the beginning of a word starts a comment. Without DATA:
// null.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/wire/protocol.h"

namespace coord::tools {

struct MultiOp {
  wire::Op op = wire::Op::kCheck;  // kCreate, kSetData, kDelete, kCheck
  std::string path;
  std::optional<std::string> data;
  std::int32_t version = -1;
  int line = 0;
};

// Fault: "FILE:LINE: why".
Result<std::vector<MultiOp>, Fault> parse_multi(std::string_view text, std::string_view file_name);

// The body of the request; `chroot` is put before every path.
std::string encode_multi(const std::vector<MultiOp>& ops, std::string_view chroot);

struct MultiResult {
  Err err = Err::kOk;
  std::string path;  // of a create
  Stat stat;         // of a set
};
// One for each operation; kMarshallingError when the reply is not an answer to `count` operations.
Result<std::vector<MultiResult>> decode_multi(std::string_view reply, std::size_t count);

// The operation that made a multi fail: the first with an error of its own; nullopt when all was done.
std::optional<std::size_t> culprit_of(const std::vector<MultiResult>& results);

std::string describe(const MultiOp& op);  // "create /a"

}  // namespace coord::tools
