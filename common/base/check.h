// Invariant checks that stay on in release builds. A failed check is our bug, never bad input: it prints file, line,
// the condition and a message, and aborts the process. Bad input is a value (result.h).
#pragma once

namespace coord {
[[noreturn]] void check_failed(const char* file, int line, const char* condition, const char* message) noexcept;
}  // namespace coord

#define COORD_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::coord::check_failed(__FILE__, __LINE__, #condition, ""))
#define COORD_CHECK_MSG(condition, message) \
  ((condition) ? static_cast<void>(0) : ::coord::check_failed(__FILE__, __LINE__, #condition, message))
