#include "tests/sim/replica/scripted.h"

#include <algorithm>
#include <utility>

namespace coord::sim {

namespace {

void create_body(wire::Writer& out, const std::string& path, const std::string& value, wire::CreateMode mode) {
  out.buffer(path);
  out.buffer(value);
  wire::write(out, open_acl());
  out.i32(static_cast<std::int32_t>(mode));
}

history::Op recorded(wire::CreateMode mode) {
  switch (mode) {
    case wire::CreateMode::kEphemeral: return history::Op::kCreateEphemeral;
    case wire::CreateMode::kPersistentSequential: return history::Op::kCreateSeq;
    case wire::CreateMode::kEphemeralSequential: return history::Op::kCreateEphemeralSeq;
    case wire::CreateMode::kPersistent:
    case wire::CreateMode::kContainer:
    case wire::CreateMode::kTtl:
    case wire::CreateMode::kTtlSequential: break;
  }
  return history::Op::kCreate;
}

bool has_stat(wire::Op op) {
  return op == wire::Op::kCreate2 || op == wire::Op::kGetData || op == wire::Op::kSetData || op == wire::Op::kExists;
}

}  // namespace

// --- connections

void ScriptedClient::dropped() {
  for (const Outstanding& one : outstanding_) {
    if (one.id != 0) history_.info(ns(), one.id);
    if (!one.is_ping) asked_[one.number].lost = true;
  }
  outstanding_.clear();
}

void ScriptedClient::ping() {
  if (!ready()) return;
  outstanding_.push_back(Outstanding{wire::xid::kPing, true, 0, 0});
  send(wire::xid::kPing, wire::Op::kPing, [](wire::Writer&) {});
}

void ScriptedClient::think() {
  if (work) {
    work();
  } else if (idle()) {
    ping();
  }
}

// --- answers

void ScriptedClient::frame(const wire::ReplyHeader& header, wire::Reader& in) {
  if (header.xid == wire::xid::kNotification) return;
  if (outstanding_.empty() || outstanding_.front().xid != header.xid) return on_wrong(18, "a reply out of order");
  if (header.zxid > 0 && header.zxid < told_zxid_) return on_wrong(18, "a reply with an older zxid than one before it");
  told_zxid_ = std::max(told_zxid_, header.zxid);
  const Outstanding what = outstanding_.front();
  outstanding_.pop_front();
  ++answers_;
  if (what.is_ping) return;
  Asked& asked = asked_[what.number];
  asked.answered = true;
  asked.err = header.err;
  asked.zxid = header.zxid;
  asked.body = std::string(in.rest());
  if (what.id != 0) record_answer(what, asked);
  if (asked.op == wire::Op::kCloseSession && asked.ok()) forget_session();
}

void ScriptedClient::record_answer(const Outstanding& what, const Asked& asked) {
  history::Answer answer;
  answer.error = asked.err;
  answer.zxid = asked.zxid > 0 ? static_cast<std::uint64_t>(asked.zxid) : 0;
  if (!asked.ok()) return history_.fail(ns(), what.id, std::move(answer));
  wire::Reader in(asked.body);
  if (asked.op == wire::Op::kCreate2) answer.name = in.string();
  if (asked.op == wire::Op::kGetData) answer.value = in.string();
  if (has_stat(asked.op)) {
    const Stat stat = wire::read_stat(in);
    answer.mzxid = static_cast<std::uint64_t>(stat.mzxid);
    answer.czxid = static_cast<std::uint64_t>(stat.czxid);
    answer.version = stat.version;
    answer.owner = stat.ephemeral_owner;
  }
  if (in.failed()) return on_wrong(18, "a reply that does not decode");
  history_.ok(ns(), what.id, std::move(answer));
}

std::string ScriptedClient::value(Number get) const {
  wire::Reader in(asked_[get].body);
  return std::string(in.string());
}

std::string ScriptedClient::name(Number create) const { return value(create); }

// --- requests

ScriptedClient::Number ScriptedClient::request(wire::Op op, history::Request what,
                                               const std::function<void(wire::Writer&)>& body) {
  const Number number = asked_.size();
  Asked& asked = asked_.emplace_back();
  asked.op = op;
  asked.path = what.path;
  asked.value = what.value;
  asked.opening = openings_;
  if (!ready()) {
    asked.lost = true;
    return number;
  }
  Outstanding one;
  one.xid = next_xid_++;
  one.number = number;
  const bool in_history = (records && what.op != history::Op::kMulti) || what.op == history::Op::kClose;
  if (in_history) one.id = history_.invoke(ns(), number_, session(), std::move(what));
  outstanding_.push_back(one);
  send(one.xid, op, body);
  return number;
}

ScriptedClient::Number ScriptedClient::create(const std::string& path, wire::CreateMode mode) {
  const std::string value = "x" + std::to_string(number_) + "." + std::to_string(next_value_++);
  return request(wire::Op::kCreate2, {.op = recorded(mode), .path = path, .value = value},
                 [&](wire::Writer& out) { create_body(out, path, value, mode); });
}

ScriptedClient::Number ScriptedClient::set(const std::string& path) {
  const std::string value = "y" + std::to_string(number_) + "." + std::to_string(next_value_++);
  return request(wire::Op::kSetData, {.op = history::Op::kSet, .path = path, .value = value}, [&](wire::Writer& out) {
    out.buffer(path);
    out.buffer(value);
    out.i32(-1);
  });
}

ScriptedClient::Number ScriptedClient::remove(const std::string& path) {
  return request(wire::Op::kDelete, {.op = history::Op::kDelete, .path = path}, [&](wire::Writer& out) {
    out.buffer(path);
    out.i32(-1);
  });
}

ScriptedClient::Number ScriptedClient::get(const std::string& path) {
  return request(wire::Op::kGetData, {.op = history::Op::kGet, .path = path}, [&](wire::Writer& out) {
    out.buffer(path);
    out.boolean(false);
  });
}

ScriptedClient::Number ScriptedClient::exists(const std::string& path) {
  return request(wire::Op::kExists, {.op = history::Op::kExists, .path = path}, [&](wire::Writer& out) {
    out.buffer(path);
    out.boolean(false);
  });
}

ScriptedClient::Number ScriptedClient::sync(const std::string& path) {
  return request(wire::Op::kSync, {.op = history::Op::kSync, .path = path},
                 [&](wire::Writer& out) { out.buffer(path); });
}

ScriptedClient::Number ScriptedClient::close() {
  return request(wire::Op::kCloseSession, {.op = history::Op::kClose}, [](wire::Writer&) {});
}

ScriptedClient::Number ScriptedClient::multi(const std::string& operations) {
  return request(wire::Op::kMulti, {.op = history::Op::kMulti}, [&](wire::Writer& out) {
    out.raw(operations);
    wire::write(out, wire::MultiHeader{-1, true, -1});
  });
}

std::string ScriptedClient::multi_create(const std::string& path, wire::CreateMode mode) {
  std::string bytes;
  wire::Writer out(bytes);
  wire::write(out, wire::MultiHeader{static_cast<std::int32_t>(wire::Op::kCreate), false, -1});
  create_body(out, path, "m", mode);
  return bytes;
}

std::string ScriptedClient::multi_remove(const std::string& path) {
  std::string bytes;
  wire::Writer out(bytes);
  wire::write(out, wire::MultiHeader{static_cast<std::int32_t>(wire::Op::kDelete), false, -1});
  out.buffer(path);
  out.i32(-1);
  return bytes;
}

}  // namespace coord::sim
