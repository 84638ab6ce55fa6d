#include "tests/sim/replica/client.h"

#include <algorithm>
#include <utility>

namespace coord::sim {

namespace {

constexpr std::size_t kPipelined = 5;
constexpr int kShared = 4;

void world_acl(wire::Writer& out) {
  out.i32(1);
  out.i32(31);
  out.buffer("world");
  out.buffer("anyone");
}

void take_stat(history::Answer& answer, const Stat& stat) {
  answer.mzxid = static_cast<std::uint64_t>(stat.mzxid);
  answer.czxid = static_cast<std::uint64_t>(stat.czxid);
  answer.version = stat.version;
  answer.owner = stat.ephemeral_owner;
}

}  // namespace

void SimClient::dropped() {
  for (const Outstanding& one : outstanding_) {
    if (one.id != 0) history_.info(ns(), one.id);
  }
  outstanding_.clear();
}

void SimClient::ping() {
  request(wire::Op::kPing, {.op = history::Op::kPing}, [](wire::Writer&) {});
}

// --- answers

void SimClient::frame(const wire::ReplyHeader& header, wire::Reader& in) {
  if (header.xid == wire::xid::kNotification) return event(header.zxid, in);
  if (outstanding_.empty() || outstanding_.front().xid != header.xid) return on_wrong(18, "a reply out of order");
  const Outstanding what = std::move(outstanding_.front());
  outstanding_.pop_front();
  ++answers_;
  if (what.id != 0) answer(what, header, in);
}

void SimClient::event(std::int64_t zxid, wire::Reader& in) {
  const wire::WatcherEvent event = wire::read_watcher_event(in);
  if (event.type == WatchType::kNone) return;
  history_.event(ns(), number_, session(), event.type, event.path, zxid > 0 ? static_cast<std::uint64_t>(zxid) : 0);
}

void SimClient::answer(const Outstanding& what, const wire::ReplyHeader& header, wire::Reader& in) {
  history::Answer answer;
  answer.error = header.err;
  answer.zxid = header.zxid > 0 ? static_cast<std::uint64_t>(header.zxid) : 0;
  if (header.err != Err::kOk) {
    // These two say nothing of what became of the request's predecessor, only that this one had no effect.
    if (header.err == Err::kBadVersion) versions_.erase(what.request.path);
    return history_.fail(ns(), what.id, std::move(answer));
  }
  if (what.op == wire::Op::kCreate2) answer.name = in.string();
  if (what.op == wire::Op::kGetData) answer.value = in.string();
  if (what.op == wire::Op::kGetChildren) answer.children = wire::read_strings(in);
  const bool stat = what.op == wire::Op::kCreate2 || what.op == wire::Op::kGetData || what.op == wire::Op::kSetData ||
                    what.op == wire::Op::kExists;
  if (stat) take_stat(answer, wire::read_stat(in));
  if (in.failed()) on_wrong(18, "a reply that does not decode");
  if (answer.mzxid != 0) versions_[what.request.path] = answer.version;
  history_.ok(ns(), what.id, std::move(answer));
}

// --- requests

void SimClient::request(wire::Op op, history::Request recorded, const std::function<void(wire::Writer&)>& body) {
  if (!ready()) return;
  Outstanding one;
  one.op = op;
  one.xid = op == wire::Op::kPing ? wire::xid::kPing : next_xid_++;
  one.request = recorded;
  if (op != wire::Op::kPing) one.id = history_.invoke(ns(), number_, session(), std::move(recorded));
  outstanding_.push_back(one);
  send(one.xid, op, body);
}

void SimClient::create(const std::string& path, wire::CreateMode mode, history::Op op) {
  const std::string value = "c" + std::to_string(number_) + "." + std::to_string(next_value_++);
  request(wire::Op::kCreate2, {.op = op, .path = path, .value = value}, [&](wire::Writer& out) {
    out.buffer(path);
    out.buffer(value);
    world_acl(out);
    out.i32(static_cast<std::int32_t>(mode));
  });
}

void SimClient::set(const std::string& path, std::int32_t expected) {
  const std::string value = "s" + std::to_string(number_) + "." + std::to_string(next_value_++);
  request(wire::Op::kSetData,
          {.op = expected < 0 ? history::Op::kSet : history::Op::kSetCas,
           .path = path,
           .value = value,
           .expected = expected},
          [&](wire::Writer& out) {
            out.buffer(path);
            out.buffer(value);
            out.i32(expected);
          });
}

void SimClient::remove(const std::string& path, std::int32_t expected) {
  request(wire::Op::kDelete,
          {.op = expected < 0 ? history::Op::kDelete : history::Op::kDeleteCas, .path = path, .expected = expected},
          [&](wire::Writer& out) {
            out.buffer(path);
            out.i32(expected);
          });
}

void SimClient::read(wire::Op op, history::Op recorded, const std::string& path, bool watch) {
  request(op, {.op = recorded, .path = path, .watch = watch}, [&](wire::Writer& out) {
    out.buffer(path);
    out.boolean(watch);
  });
}

void SimClient::sync(const std::string& path) {
  request(wire::Op::kSync, {.op = history::Op::kSync, .path = path}, [&](wire::Writer& out) { out.buffer(path); });
}

void SimClient::think() {
  const std::size_t burst = random_.chance(0.2) ? kPipelined : 1;
  for (std::size_t i = 0; i < burst && outstanding_.size() < kPipelined; ++i) act();
}

void SimClient::act() {
  const std::string path = "/n" + std::to_string(random_.below(kShared));
  const auto seen = versions_.find(path);
  const std::int32_t version = seen == versions_.end() ? -1 : seen->second;
  switch (random_.below(14)) {
    case 0:
    case 1: return create(path, wire::CreateMode::kPersistent, history::Op::kCreate);
    case 2:
      return create("/e" + std::to_string(random_.below(kShared)), wire::CreateMode::kEphemeral,
                    history::Op::kCreateEphemeral);
    case 3: return create("/q-", wire::CreateMode::kPersistentSequential, history::Op::kCreateSeq);
    case 4:
    case 5: return set(path, random_.chance(0.5) ? version : -1);
    case 6: return remove(path, random_.chance(0.3) ? version : -1);
    case 7: return remove("/e" + std::to_string(random_.below(kShared)), -1);
    case 8:
    case 9: return read(wire::Op::kGetData, history::Op::kGet, path, random_.chance(0.3));
    case 10:
      return read(wire::Op::kGetData, history::Op::kGet, "/e" + std::to_string(random_.below(kShared)),
                  random_.chance(0.3));
    case 11: return read(wire::Op::kExists, history::Op::kExists, path, random_.chance(0.3));
    case 12: return read(wire::Op::kGetChildren, history::Op::kChildren, "/", random_.chance(0.2));
    default:
      sync(path);
      return read(wire::Op::kGetData, history::Op::kGet, path, false);
  }
}

}  // namespace coord::sim
