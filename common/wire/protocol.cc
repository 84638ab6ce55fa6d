#include "common/wire/protocol.h"

#include <algorithm>

namespace coord::wire {
namespace {

constexpr std::size_t kAclEntryMin = 4 + 4 + 4;
constexpr std::size_t kStringMin = 4;

}  // namespace

void write(Writer& w, const ConnectRequest& v) {
  w.i32(v.protocol_version);
  w.i64(v.last_zxid_seen);
  w.i32(v.timeout_ms);
  w.i64(v.session);
  w.buffer(v.password);
  if (v.has_read_only) w.boolean(v.read_only);
}

void write(Writer& w, const ConnectResponse& v) {
  w.i32(0);  // protocol version
  w.i32(v.timeout_ms);
  w.i64(v.session);
  w.buffer(v.password);
  if (v.has_read_only) w.boolean(v.read_only);
}

ConnectRequest read_connect_request(Reader& r) {
  ConnectRequest v;
  v.protocol_version = r.i32();
  v.last_zxid_seen = r.i64();
  v.timeout_ms = r.i32();
  v.session = r.i64();
  v.password = r.string();
  v.has_read_only = r.remaining() > 0;
  if (v.has_read_only) v.read_only = r.boolean();
  return v;
}

ConnectResponse read_connect_response(Reader& r) {
  ConnectResponse v;
  static_cast<void>(r.i32());  // protocol version: no client looks at it
  v.timeout_ms = r.i32();
  v.session = r.i64();
  v.password = r.string();
  v.has_read_only = r.remaining() > 0;
  if (v.has_read_only) v.read_only = r.boolean();
  return v;
}

void write(Writer& w, const ReplyHeader& v) {
  w.i32(v.xid);
  w.i64(v.zxid);
  w.i32(static_cast<std::int32_t>(v.err));
}

ReplyHeader read_reply_header(Reader& r) {
  ReplyHeader v;
  v.xid = r.i32();
  v.zxid = r.i64();
  v.err = static_cast<Err>(r.i32());
  return v;
}

void write(Writer& w, const Stat& v) {
  w.i64(v.czxid);
  w.i64(v.mzxid);
  w.i64(v.ctime);
  w.i64(v.mtime);
  w.i32(v.version);
  w.i32(v.cversion);
  w.i32(v.aversion);
  w.i64(v.ephemeral_owner);
  w.i32(v.data_length);
  w.i32(v.num_children);
  w.i64(v.pzxid);
}

Stat read_stat(Reader& r) {
  Stat v;
  v.czxid = r.i64();
  v.mzxid = r.i64();
  v.ctime = r.i64();
  v.mtime = r.i64();
  v.version = r.i32();
  v.cversion = r.i32();
  v.aversion = r.i32();
  v.ephemeral_owner = r.i64();
  v.data_length = r.i32();
  v.num_children = r.i32();
  v.pzxid = r.i64();
  return v;
}

void write(Writer& w, const Acl& acl) {
  w.i32(static_cast<std::int32_t>(acl.size()));
  for (const AclEntry& entry : acl) {
    w.i32(entry.perms);
    w.buffer(entry.id.scheme);
    w.buffer(entry.id.id);
  }
}

Acl read_acl(Reader& r, bool* is_null) {
  Acl acl;
  const std::int32_t count = r.vector(is_null);
  reserve_justified(acl, r, count, kAclEntryMin);
  for (std::int32_t i = 0; i < count && !r.failed(); ++i) {
    AclEntry entry;
    entry.perms = r.i32();
    entry.id.scheme = r.string();
    entry.id.id = r.string();
    if (!r.failed()) acl.push_back(std::move(entry));
  }
  if (r.failed()) acl.clear();
  return acl;
}

void write_strings(Writer& w, const std::vector<std::string>& strings) {
  w.i32(static_cast<std::int32_t>(strings.size()));
  for (const std::string& s : strings) w.buffer(s);
}

std::vector<std::string> read_strings(Reader& r) {
  std::vector<std::string> strings;
  const std::int32_t count = r.vector();
  reserve_justified(strings, r, count, kStringMin);
  for (std::int32_t i = 0; i < count && !r.failed(); ++i) {
    const std::string_view s = r.string();
    if (!r.failed()) strings.emplace_back(s);
  }
  if (r.failed()) strings.clear();
  return strings;
}

void write(Writer& w, const MultiHeader& v) {
  w.i32(v.type);
  w.boolean(v.done);
  w.i32(v.err);
}

MultiHeader read_multi_header(Reader& r) {
  MultiHeader v;
  v.type = r.i32();
  v.done = r.boolean();
  v.err = r.i32();
  return v;
}

void write(Writer& w, const WatcherEvent& v) {
  w.i32(static_cast<std::int32_t>(v.type));
  w.i32(v.state);
  w.buffer(v.path);
}

WatcherEvent read_watcher_event(Reader& r) {
  WatcherEvent v;
  v.type = static_cast<WatchType>(r.i32());
  v.state = r.i32();
  v.path = r.string();
  return v;
}

}  // namespace coord::wire
