// Started with descriptor 0, 1 or 2 closed, a program gets that number for the next file it opens, and what it says on
// stderr goes into that file: log lines over the database. So each main calls this before it opens anything.
#pragma once

namespace coord {

// Opens /dev/null in place of those that are closed, in a mode in which reading stdin and writing stdout fail as they
// would have: nothing read is not an empty input, and output that nobody gets is not written. False: not possible, and
// nothing can be said about it.
bool occupy_standard_fds();

}  // namespace coord
