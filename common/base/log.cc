#include "common/base/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/dist_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <mutex>

namespace coord::log {
namespace {

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::kTrace:
      return spdlog::level::trace;
    case Level::kDebug:
      return spdlog::level::debug;
    case Level::kInfo:
      return spdlog::level::info;
    case Level::kWarn:
      return spdlog::level::warn;
    case Level::kError:
      return spdlog::level::err;
    case Level::kOff:
      return spdlog::level::off;
  }
  return spdlog::level::off;
}

std::string pattern(const std::string& prefix) {
  std::string out = "%Y-%m-%dT%H:%M:%S.%e%z %l ";
  for (const char c : prefix) out.append(c == '%' ? 2 : 1, c);
  if (!prefix.empty()) out.push_back(' ');
  return out + "%v";
}

// One logger whose sink can be exchanged while other threads write: the distributing sink has its own lock.
struct State {
  std::mutex mutex;  // of configure and reopen
  std::string file;
  std::string prefix;
  std::shared_ptr<spdlog::sinks::dist_sink_mt> sinks = std::make_shared<spdlog::sinks::dist_sink_mt>();
  spdlog::logger logger{"coord", sinks};

  State() {
    sinks->set_sinks({std::make_shared<spdlog::sinks::stderr_sink_mt>()});
    logger.set_pattern(pattern(""));
    logger.set_level(spdlog::level::info);
    logger.flush_on(spdlog::level::trace);
    logger.set_error_handler([](const std::string&) {});  // a full disk under the log must not stop the daemon
  }

  bool open() {
    try {
      spdlog::sink_ptr sink;
      if (file.empty()) {
        sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
      } else {
        sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(file);
      }
      sinks->set_sinks({std::move(sink)});
      logger.set_pattern(pattern(prefix));
      return true;
    } catch (const std::exception&) {
      return false;
    }
  }
};

State& state() {
  static State* const instance = new State;  // never destroyed: threads may log while the process ends
  return *instance;
}

}  // namespace

bool configure(Level level, const std::string& file, const std::string& prefix) {
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mutex);
  const std::string old_file = s.file;
  const std::string old_prefix = s.prefix;
  s.file = file;
  s.prefix = prefix;
  if (!s.open()) {
    s.file = old_file;
    s.prefix = old_prefix;
    return false;
  }
  s.logger.set_level(to_spdlog(level));
  return true;
}

void reopen() {
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mutex);
  static_cast<void>(s.open());  // on failure the old file stays in use
}

void set_level(Level level) { state().logger.set_level(to_spdlog(level)); }

bool enabled(Level level) { return level != Level::kOff && state().logger.should_log(to_spdlog(level)); }

void write(Level level, const char* component, std::string_view message) {
  if (!enabled(level)) return;
  state().logger.log(to_spdlog(level), "{}: {}", component, fmt::string_view(message.data(), message.size()));
}

}  // namespace coord::log
