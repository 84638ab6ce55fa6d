// JSON lines: one record in one line, as README.md describes. The reader refuses what it does not know (a misspelt key
// would be a check that silently does not happen).
#pragma once

#include <iosfwd>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "tests/history/record.h"

namespace coord::history {

std::string to_json_line(const Record& record);  // without the line end

// One line. The fault's text says what is wrong.
Result<Record, Fault> from_json_line(std::string_view line);

void write_json_lines(std::ostream& out, const History& history);

// Appends to `history`; empty lines are skipped. The fault names the line.
Result<void, Fault> read_json_lines(std::istream& in, History& history);

}  // namespace coord::history
