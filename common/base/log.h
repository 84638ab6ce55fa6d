// A thin front of spdlog: one logger per component, one line per fact, fields as name=value. Configure once at start.
// Any thread. Format: fmt's, checked at compile time where it is called.
#pragma once

#include <spdlog/fmt/fmt.h>

#include <string>
#include <string_view>

namespace coord::log {

enum class Level { kTrace, kDebug, kInfo, kWarn, kError, kOff };

// Where lines go: stderr (the default) or, with `file`, a file that is reopened by reopen(). `prefix`: put before each
// message, for example "sid=1". A path that cannot be opened is a false.
bool configure(Level level, const std::string& file = "", const std::string& prefix = "");
void reopen();
void set_level(Level level);
bool enabled(Level level);
void write(Level level, const char* component, std::string_view message);

template <class... Args>
void at(Level level, const char* component, fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(level)) write(level, component, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void debug(const char* component, fmt::format_string<Args...> format, Args&&... args) {
  at(Level::kDebug, component, format, std::forward<Args>(args)...);
}
template <class... Args>
void info(const char* component, fmt::format_string<Args...> format, Args&&... args) {
  at(Level::kInfo, component, format, std::forward<Args>(args)...);
}
template <class... Args>
void warn(const char* component, fmt::format_string<Args...> format, Args&&... args) {
  at(Level::kWarn, component, format, std::forward<Args>(args)...);
}
template <class... Args>
void error(const char* component, fmt::format_string<Args...> format, Args&&... args) {
  at(Level::kError, component, format, std::forward<Args>(args)...);
}

}  // namespace coord::log
