// watch: one line per event, until killed. The client library registers the watch again after a reconnect; after an
// expiry it is made anew here.
#include <atomic>
#include <cstdio>

#include "common/base/log.h"
#include "common/tools/commands.h"

namespace coord::tools {
namespace {

const char* word(WatchType type) {
  switch (type) {
    case WatchType::kCreated:
      return "created";
    case WatchType::kDeleted:
      return "deleted";
    case WatchType::kDataChanged:
      return "changed";
    case WatchType::kChildrenChanged:
      return "children";
    case WatchType::kNone:
      break;
  }
  return "unknown";
}

// In the thread of the client: stdout is line-buffered, so that a reader at the other end of a pipe sees each event.
bool print_event(const wire::WatcherEvent& event) {
  return std::printf("%s %s\n", word(event.type), event.path.c_str()) >= 0 && std::ferror(stdout) == 0;
}

}  // namespace

int watch(Context& context, const std::string& path, bool recursive) {
  if (!check_path(path)) return kRefused;
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  hold_signals();
  std::atomic<bool> watching{false};
  std::atomic<int> refusal{0};
  std::atomic<bool> unheard{false};  // that thread gets no SIGPIPE: all signals are blocked in it
  const auto arm = [&] {
    const std::string chroot = context.client->chroot();
    std::string body;
    wire::Writer w(body);
    w.buffer(path == "/" && !chroot.empty() ? chroot : chroot + path);
    w.i32(recursive ? 1 : 0);
    context.client->submit(wire::Op::kAddWatch, std::move(body), {}, [&](const client::Reply& reply) {
      if (reply.err != Err::kOk && reply.err != Err::kConnectionLoss) refusal = static_cast<int>(reply.err);
    });
  };
  context.options.on_watch = [&](const wire::WatcherEvent& event, std::int64_t) {
    if (!print_event(event)) unheard = true;
  };
  context.options.on_session = [&](client::SessionEvent event) {
    if (!watching) return;
    switch (event) {
      case client::SessionEvent::kDisconnected:
        complain(0, "the connection is lost; changes from now on are missed until it is back");
        break;
      case client::SessionEvent::kReconnected:
        complain(0, "connected again");
        break;
      case client::SessionEvent::kExpired:
        complain(0, "the session has expired; starting a new one");
        break;
      case client::SessionEvent::kConnected:
        complain(0, "connected again");
        arm();
        break;
    }
  };
  int code = context.connect();
  if (code == kDone) {
    const auto added = context.blocking().add_watch(path, recursive);
    if (!added) code = complain(path, added.error());
  }
  if (code == kDone) {
    watching = true;
    complain(0, "watching " + path + (recursive ? " and everything below" : ""));
    wait_for_signal([&] { return refusal != 0 || unheard; });
    if (refusal != 0) code = complain(path, static_cast<Err>(refusal.load()));
    context.close();
  }
  context.client.reset();  // its callbacks refer to this frame
  return code;
}

}  // namespace coord::tools
