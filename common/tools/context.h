// What every command of coordctl needs: the connection, and how a failure is told and becomes an exit code.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/client/client.h"

namespace coord::tools {

enum Exit : int {
  kDone = 0,
  kRefused = 1,  // the operation was refused; the message names path and reason
  kUsage = 2,    // or input that cannot be read, output that cannot be written
  kNoServer = 3,  // nobody answered; the message says what was tried
};

struct Context {
  std::string server = "unix:/run/coordd/client.sock";
  std::int64_t timeout_ms = 5000;
  std::vector<std::string> auth;  // SCHEME:CREDENTIAL
  client::Options options;        // callbacks are the command's; the rest is filled in by connect()
  std::unique_ptr<client::Client> client;

  std::chrono::milliseconds timeout() const { return std::chrono::milliseconds(timeout_ms); }
  client::Blocking blocking() { return client::Blocking(*client, timeout()); }

  // kDone, or another code after a message.
  int connect();
  // Ends the session, so that it does not linger until it expires.
  void close();
};

// "coordctl: MESSAGE" on stderr; gives `code` back.
int complain(int code, std::string_view message);
// Writes what stands in the buffer of stdout; `code`, or if that is kDone and output is lost, kUsage after a message.
int finish_output(int code);
// For the answer to an operation on `path`.
int complain(std::string_view path, Err err);

// All of `text`, or of standard input for "-"; what cannot be read is not an empty text.
Result<std::string, Fault> data_argument(const std::string& text);
// False, after a message, for a path that no server would take.
bool check_path(std::string_view path);
// False, after a message, for data that does not fit into a request.
bool check_size(std::string_view path, std::size_t data_size);

// Waits for SIGINT, SIGTERM or SIGHUP, or until `stop` is true (looked at five times a second). Call
// hold_signals() before what shall not be interrupted halfway.
void hold_signals();
void wait_for_signal(const std::function<bool()>& stop);

std::string format_stat(const Stat& stat);  // one "name = value" per line
std::string format_acl(const Acl& acl);     // one "scheme:id:cdrwa" per line
Result<Acl, Fault> parse_acl(std::string_view text);

}  // namespace coord::tools
