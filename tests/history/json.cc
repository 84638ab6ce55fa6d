#include "tests/history/json.h"

#include <array>
#include <istream>
#include <nlohmann/json.hpp>
#include <ostream>

namespace coord::history {
namespace {

using nlohmann::json;
using Ordered = nlohmann::ordered_json;

template <class T>
struct Name {
  T value;
  const char* text;
};

constexpr std::array kKinds{Name<Kind>{Kind::kInv, "inv"},     Name<Kind>{Kind::kOk, "ok"},
                            Name<Kind>{Kind::kFail, "fail"},   Name<Kind>{Kind::kInfo, "info"},
                            Name<Kind>{Kind::kEvent, "ev"},    Name<Kind>{Kind::kSession, "sess"},
                            Name<Kind>{Kind::kFault, "fault"}, Name<Kind>{Kind::kInit, "init"}};

constexpr std::array kOps{Name<Op>{Op::kCreate, "create"},
                          Name<Op>{Op::kCreateSeq, "create_seq"},
                          Name<Op>{Op::kCreateEphemeral, "create_ephemeral"},
                          Name<Op>{Op::kCreateEphemeralSeq, "create_ephemeral_seq"},
                          Name<Op>{Op::kSet, "set"},
                          Name<Op>{Op::kSetCas, "set_cas"},
                          Name<Op>{Op::kDelete, "delete"},
                          Name<Op>{Op::kDeleteCas, "delete_cas"},
                          Name<Op>{Op::kCheck, "check"},
                          Name<Op>{Op::kGet, "get"},
                          Name<Op>{Op::kExists, "exists"},
                          Name<Op>{Op::kChildren, "children"},
                          Name<Op>{Op::kSync, "sync"},
                          Name<Op>{Op::kSyncGet, "sync_get"},
                          Name<Op>{Op::kMulti, "multi"},
                          Name<Op>{Op::kPing, "ping"},
                          Name<Op>{Op::kClose, "close"},
                          Name<Op>{Op::kOther, "other"}};

constexpr std::array kEvents{Name<WatchType>{WatchType::kNone, "none"}, Name<WatchType>{WatchType::kCreated, "created"},
                             Name<WatchType>{WatchType::kDeleted, "deleted"},
                             Name<WatchType>{WatchType::kDataChanged, "changed"},
                             Name<WatchType>{WatchType::kChildrenChanged, "children"}};

constexpr std::array kChanges{Name<SessionChange>{SessionChange::kOpened, "opened"},
                              Name<SessionChange>{SessionChange::kDisconnected, "disconnected"},
                              Name<SessionChange>{SessionChange::kMoved, "moved"},
                              Name<SessionChange>{SessionChange::kClosed, "closed"},
                              Name<SessionChange>{SessionChange::kExpired, "expired"}};

template <class T, std::size_t N>
const char* text_of(const std::array<Name<T>, N>& names, T value) {
  for (const auto& n : names) {
    if (n.value == value) return n.text;
  }
  return "?";
}

// What the reader throws inside this file; from_json_line() turns it into a Fault.
[[noreturn]] void refuse(const std::string& why) { throw std::invalid_argument(why); }

template <class T, std::size_t N>
T value_of(const std::array<Name<T>, N>& names, const std::string& text) {
  for (const auto& n : names) {
    if (text == n.text) return n.value;
  }
  refuse("unknown word \"" + text + "\"");
}

void put_request(Ordered& o, const Request& r) {
  o["op"] = text_of(kOps, r.op);
  if (!r.path.empty()) o["path"] = r.path;
  if (!r.value.empty()) o["value"] = r.value;
  if (r.expected != -1) o["expected"] = r.expected;
  if (r.watch) o["watch"] = true;
  if (r.op != Op::kMulti) return;
  o["ops"] = Ordered::array();
  for (const Request& part : r.multi) put_request(o["ops"].emplace_back(Ordered::object()), part);
}

void put_answer(Ordered& o, const Answer& a) {
  if (a.error != Err::kOk) o["error"] = static_cast<std::int32_t>(a.error);
  if (a.zxid != 0) o["zxid"] = a.zxid;
  if (a.mzxid != 0) o["mzxid"] = a.mzxid;
  if (a.czxid != 0) o["czxid"] = a.czxid;
  if (a.version != -1) o["version"] = a.version;
  if (a.owner != 0) o["owner"] = a.owner;
  if (!a.name.empty()) o["name"] = a.name;
  if (!a.value.empty()) o["value"] = a.value;
  if (!a.children.empty()) o["children"] = a.children;
  if (a.replayed) o["replayed"] = true;
  if (a.multi.empty()) return;
  o["results"] = Ordered::array();
  for (const Answer& part : a.multi) put_answer(o["results"].emplace_back(Ordered::object()), part);
}

// -1 is "none" on the wire.
std::uint64_t zxid_of(const json& v) {
  if (v.is_number_integer() && !v.is_number_unsigned() && v.get<std::int64_t>() < 0) return 0;
  return v.get<std::uint64_t>();
}

template <class T>
T number(const json& v) {
  if (!v.is_number_integer()) refuse("a number is expected in place of " + v.dump());
  return v.get<T>();
}

bool take_request(Request& r, const std::string& key, const json& v) {
  if (key == "op") r.op = value_of(kOps, v.get<std::string>());
  else if (key == "path") r.path = v.get<std::string>();
  else if (key == "value") r.value = v.get<std::string>();
  else if (key == "expected") r.expected = number<std::int32_t>(v);
  else if (key == "watch") r.watch = v.get<bool>();
  else if (key == "ops") {
    for (const json& part : v) {
      Request& sub = r.multi.emplace_back();
      for (const auto& [k, w] : part.items()) {
        if (!take_request(sub, k, w)) refuse("unknown key \"" + k + "\" in ops");
      }
    }
  } else return false;
  return true;
}

bool take_answer(Answer& a, const std::string& key, const json& v) {
  if (key == "error") a.error = static_cast<Err>(number<std::int32_t>(v));
  else if (key == "zxid") a.zxid = zxid_of(v);
  else if (key == "mzxid") a.mzxid = zxid_of(v);
  else if (key == "czxid") a.czxid = zxid_of(v);
  else if (key == "version") a.version = number<std::int32_t>(v);
  else if (key == "owner") a.owner = number<std::int64_t>(v);
  else if (key == "name") a.name = v.get<std::string>();
  else if (key == "value") a.value = v.get<std::string>();
  else if (key == "children") a.children = v.get<std::vector<std::string>>();
  else if (key == "replayed") a.replayed = v.get<bool>();
  else if (key == "results") {
    for (const json& part : v) {
      Answer& sub = a.multi.emplace_back();
      for (const auto& [k, w] : part.items()) {
        if (!take_answer(sub, k, w)) refuse("unknown key \"" + k + "\" in results");
      }
    }
  } else return false;
  return true;
}

bool take_other(Record& r, const std::string& key, const json& v) {
  if (key == "ns") r.ns = number<std::int64_t>(v);
  else if (key == "client") r.client = number<std::uint32_t>(v);
  else if (key == "session") r.session = number<std::int64_t>(v);
  else if (key == "id") r.id = number<std::uint64_t>(v);
  else if (key == "kind") r.kind = value_of(kKinds, v.get<std::string>());
  else if (r.kind == Kind::kEvent && key == "event") r.event = value_of(kEvents, v.get<std::string>());
  else if (r.kind == Kind::kSession && key == "change") r.change = value_of(kChanges, v.get<std::string>());
  else if (r.kind == Kind::kSession && key == "replica") r.replica = number<std::uint32_t>(v);
  else if (r.kind == Kind::kSession && key == "timeout_ns") r.timeout_ns = number<std::int64_t>(v);
  else if (r.kind == Kind::kFault && key == "note") r.note = v.get<std::string>();
  else return false;
  return true;
}

void take(Record& r, const std::string& key, const json& v) {
  if (take_other(r, key, v)) return;
  bool known = false;
  switch (r.kind) {
    case Kind::kInv: known = take_request(r.request, key, v); break;
    case Kind::kOk:
    case Kind::kFail:
    case Kind::kInfo: known = take_answer(r.answer, key, v); break;
    case Kind::kEvent: known = (key == "path" && take_request(r.request, key, v)) ||
                               (key == "zxid" && take_answer(r.answer, key, v)); break;
    case Kind::kSession: known = key == "zxid" && take_answer(r.answer, key, v); break;
    case Kind::kInit: known = ((key == "path" || key == "value") && take_request(r.request, key, v)) ||
                              take_answer(r.answer, key, v); break;
    case Kind::kFault: break;
  }
  if (!known) refuse("unknown key \"" + key + "\"");
}

void need(const json& o, const Record& r) {
  const auto has = [&](const char* key) {
    if (!o.contains(key)) refuse(std::string("\"") + key + "\" is missing");
  };
  has("ns");
  if (r.kind <= Kind::kInfo) has("id");
  if (r.kind == Kind::kInv) has("op");
  if (r.kind == Kind::kEvent) has("event");
  if (r.kind == Kind::kSession) has("change");
  if (r.kind == Kind::kEvent || r.kind == Kind::kSession) has("session");
}

}  // namespace

std::string to_json_line(const Record& r) {
  Ordered o = Ordered::object();
  o["kind"] = text_of(kKinds, r.kind);
  o["ns"] = r.ns;
  if (r.client != 0) o["client"] = r.client;
  if (r.session != 0) o["session"] = r.session;
  if (r.kind <= Kind::kInfo) o["id"] = r.id;
  switch (r.kind) {
    case Kind::kInv: put_request(o, r.request); break;
    case Kind::kOk:
    case Kind::kFail:
    case Kind::kInfo: put_answer(o, r.answer); break;
    case Kind::kEvent:
      o["event"] = text_of(kEvents, r.event);
      o["path"] = r.request.path;
      if (r.answer.zxid != 0) o["zxid"] = r.answer.zxid;
      break;
    case Kind::kSession:
      o["change"] = text_of(kChanges, r.change);
      if (r.replica != 0) o["replica"] = r.replica;
      if (r.timeout_ns != 0) o["timeout_ns"] = r.timeout_ns;
      if (r.answer.zxid != 0) o["zxid"] = r.answer.zxid;
      break;
    case Kind::kInit:
      o["path"] = r.request.path;
      put_answer(o, r.answer);
      o["value"] = r.request.value;
      break;
    case Kind::kFault: o["note"] = r.note; break;
  }
  return o.dump(-1, ' ', false, Ordered::error_handler_t::replace);
}

Result<Record, Fault> from_json_line(std::string_view line) {
  try {
    const json o = json::parse(line);
    if (!o.is_object()) return fail(Fault{"not a JSON object"});
    Record r;
    if (!o.contains("kind")) return fail(Fault{"\"kind\" is missing"});
    r.kind = value_of(kKinds, o["kind"].get<std::string>());
    for (const auto& [key, value] : o.items()) take(r, key, value);
    need(o, r);
    return r;
  } catch (const std::exception& e) {  // json::exception, and refuse()
    return fail(Fault{e.what()});
  }
}

void write_json_lines(std::ostream& out, const History& history) {
  for (const Record& r : history.records()) out << to_json_line(r) << '\n';
}

Result<void, Fault> read_json_lines(std::istream& in, History& history) {
  std::string line;
  for (std::size_t number = 1; std::getline(in, line); ++number) {
    if (line.empty()) continue;
    auto record = from_json_line(line);
    if (!record) return fail(Fault{"line " + std::to_string(number) + ": " + record.error().message});
    history.add(std::move(*record));
  }
  if (in.bad()) return fail(Fault{"read error"});
  return {};
}

}  // namespace coord::history
