// coordd: arguments and configuration, then a Replica until a signal comes.
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <filesystem>

#include "common/base/log.h"
#include "common/base/standard_fds.h"
#include "common/base/version.h"
#include "replica/runtime/replica.h"

namespace {

using coord::Fault;
using coord::runtime::Config;

constexpr int kExitUsage = 2;
constexpr int kExitFailure = 1;

constexpr const char* kDescription = R"(coordd - a replica of the coordination tree

Serves ZooKeeper clients on a TCP port and the local mount (coordfs) on a Unix
socket. Every acknowledged write is on disk. SIGTERM stops it cleanly; a kill at
any time loses nothing that was acknowledged.

Either --config FILE (keys of zoo.cfg; own keys begin with "coord."), or, for a
quick start, --data-dir DIR with --client-port and --socket.)";

constexpr const char* kFooter = R"(
Exit status: 0 after SIGTERM or SIGINT; 1 the data directory or a port could not
be used; 2 the command line or the configuration cannot be meant.

Files: DIR/data.mdb (log and tree), DIR/journal (what was acknowledged last),
DIR/coord.lock, DIR/myid (server id).
See coordd(8) and coord.cfg(5).)";

struct Arguments {
  std::string config_file;
  std::string data_dir;
  int client_port = -1;
  std::string socket;
};

int refuse(const std::string& message, int code) {
  std::fprintf(stderr, "coordd: %s\n", message.c_str());
  return code;
}

coord::Result<Config, Fault> configure(const Arguments& arguments) {
  Config config;
  std::string name = "command line";
  if (!arguments.config_file.empty()) {
    name = arguments.config_file;
    auto entries = coord::read_config_file(name);
    if (!entries) return coord::fail(entries.error());
    auto interpreted = coord::runtime::interpret_config(*entries, name);
    if (!interpreted) return coord::fail(interpreted.error());
    config = std::move(*interpreted);
  } else {
    config.client_address = "127.0.0.1";  // a quick start is not for the network
  }
  if (!arguments.data_dir.empty()) config.data_dir = arguments.data_dir;
  if (arguments.client_port >= 0) {
    config.has_client_port = true;
    config.client_port = static_cast<std::uint16_t>(arguments.client_port);
  }
  if (!arguments.socket.empty()) config.socket = arguments.socket;
  if (auto checked = coord::runtime::check_config(config, name); !checked) return coord::fail(checked.error());
  if (auto id = coord::runtime::read_server_id(config); !id) return coord::fail(id.error());
  return config;
}

coord::log::Level level_of(const std::string& name) {
  using coord::log::Level;
  if (name == "trace") return Level::kTrace;
  if (name == "debug") return Level::kDebug;
  if (name == "warn") return Level::kWarn;
  if (name == "error") return Level::kError;
  return Level::kInfo;
}

}  // namespace

// A connection is a descriptor: the soft limit is usually 1024.
static void raise_file_limit() {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
}

int main(int argc, char** argv) {
  if (!coord::occupy_standard_fds()) return kExitFailure;
  std::signal(SIGHUP, SIG_IGN);  // until the log can be reopened
  Arguments arguments;
  CLI::App app(kDescription, "coordd");
  app.footer(kFooter);
  app.set_version_flag("--version", std::string("coordd ") + coord::kVersion);
  app.add_option("--config", arguments.config_file, "configuration file in the syntax of zoo.cfg")->type_name("FILE");
  app.add_option("--data-dir", arguments.data_dir, "where the replica keeps its data (created if missing)")
      ->type_name("DIR");
  app.add_option("--client-port", arguments.client_port, "TCP port for ZooKeeper clients; 0: any free one, see the log")
      ->type_name("PORT")
      ->check(CLI::Range(0, 65535));
  app.add_option("--socket", arguments.socket, "Unix socket for the mount and for local clients")->type_name("PATH");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  auto config = configure(arguments);
  if (!config) return refuse(config.error().message, kExitUsage);
  if (!coord::log::configure(level_of(config->log_level), config->log_file,
                             "sid=" + std::to_string(config->server_id))) {
    return refuse("cannot write the log file " + config->log_file + " (coord.logFile)", kExitUsage);
  }
  for (const std::string& warning : config->warnings) coord::log::warn("config", "{}", warning);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // a file at the limit of its size is as a full disk: EFBIG
  raise_file_limit();
  auto replica = coord::runtime::Replica::open(*config);
  if (!replica) {
    coord::log::error("core", "{}", replica.error().message);
    return kExitFailure;
  }
  return (*replica)->run();
}
