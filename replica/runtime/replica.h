// A whole replica: store, core, listeners. The face of replica/ that main.cc uses.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/base/result.h"
#include "replica/runtime/config.h"
#include "replica/runtime/ensemble_status.h"

namespace coord::runtime {

class Replica {
 public:
  // Opens the data directory, loads the tree, takes the ports. Fault: what is wrong and what to do; nothing is changed
  // in a data directory that is not ours.
  static Result<std::unique_ptr<Replica>, Fault> open(const Config& config);
  virtual ~Replica() = default;  // everything submitted is durable

  // Serves on the calling thread until SIGTERM or SIGINT; tells systemd READY and the watchdog. Returns the exit code.
  virtual int run() = 0;
  // Ends run() as SIGTERM would. Any thread.
  virtual void stop() = 0;
  // Where it listens for TCP; 0: it does not. After open().
  virtual std::uint16_t client_port() const = 0;
  // Able to answer requests: the log is settled. Until then connections are closed unanswered. Any thread.
  virtual bool serving() const = 0;
  // How it stands in its ensemble. Any thread; a copy, up to 200 ms old.
  virtual EnsembleStatus ensemble_status() const = 0;
};

}  // namespace coord::runtime
