#include "replica/runtime/forward.h"

#include <utility>

#include "common/wire/codec.h"

namespace coord::runtime::forward {
namespace {

using wire::Reader;
using wire::Writer;

// On the wire: never renumbered. The order is that of the variant.
enum class Kind : std::int8_t {
  kRequest = 1,
  kAttach = 2,
  kTouched = 3,
  kSync = 4,
  kAttached = 5,
  kMoved = 6,
  kRefused = 7,
  kAsk = 8,
  kSynced = 9,
  kDiffers = 10,
};

constexpr std::int32_t kFeatureLevelMax = 1000;  // what may be believed of a sender, not what is known here

void put(Writer& w, std::uint64_t v) { w.i64(static_cast<std::int64_t>(v)); }
std::uint64_t u64(Reader& r) { return static_cast<std::uint64_t>(r.i64()); }
bool boolean(Reader& r) {
  const std::int8_t v = r.i8();
  if (v != 0 && v != 1) r.fail();
  return v == 1;
}
Zxid zxid(Reader& r) { return Zxid(u64(r)); }
SessionId session(Reader& r) { return SessionId(r.i64()); }

void body(Writer& w, const Request& m) {
  put(w, m.id);
  put(w, m.generation);
  const tree::Request& q = m.request;
  w.i64(q.session.value);
  w.i32(q.xid);
  w.i32(static_cast<std::int32_t>(q.op));
  w.buffer(std::string_view(q.body));
  w.i32(static_cast<std::int32_t>(q.ids.size()));
  for (const AuthId& id : q.ids) {
    w.buffer(std::string_view(id.scheme));
    w.buffer(std::string_view(id.id));
  }
  w.boolean(q.trusted);
  w.i32(static_cast<std::int32_t>(q.credentials.uid));
  w.i32(static_cast<std::int32_t>(q.credentials.gid));
  w.i32(static_cast<std::int32_t>(q.credentials.groups.size()));
  for (const std::uint32_t group : q.credentials.groups) w.i32(static_cast<std::int32_t>(group));
}
void body(Writer& w, const Attach& m) {
  put(w, m.id);
  w.i64(m.session.value);
  w.i32(m.timeout_ms);
}
void body(Writer& w, const Touched& m) {
  put(w, m.answers);
  w.boolean(m.refuse_writes);
  w.i32(m.feature_level);
  w.i32(static_cast<std::int32_t>(m.touches.size()));
  for (const Touch& touch : m.touches) {
    w.i64(touch.session.value);
    put(w, touch.generation);
    w.i64(touch.age_ms);
    w.boolean(touch.connected);
  }
  w.i32(static_cast<std::int32_t>(m.digests.size()));
  for (const DigestNote& note : m.digests) {
    put(w, note.zxid.value);
    put(w, note.digest);
  }
}
void body(Writer& w, const Sync& m) { put(w, m.id); }
void body(Writer& w, const Attached& m) {
  put(w, m.id);
  w.boolean(m.accepted);
  put(w, m.generation);
}
void body(Writer& w, const Moved& m) {
  w.i64(m.session.value);
  put(w, m.generation);
}
void body(Writer& w, const Refused& m) { put(w, m.id); }
void body(Writer& w, const Ask& m) { put(w, m.number); }
void body(Writer& w, const Synced& m) {
  put(w, m.id);
  put(w, m.zxid.value);
}
void body(Writer& w, const Differs& m) { put(w, m.zxid.value); }

Passed read_request(Reader& r) {
  Request m;
  m.id = u64(r);
  m.generation = u64(r);
  tree::Request& q = m.request;
  q.session = session(r);
  q.xid = r.i32();
  q.op = static_cast<wire::Op>(r.i32());
  q.body = r.string();
  const std::int32_t ids = r.vector();
  for (std::int32_t n = 0; n < ids && !r.failed(); ++n) {
    AuthId id;
    id.scheme = r.string();
    id.id = r.string();
    q.ids.push_back(std::move(id));
  }
  q.trusted = boolean(r);
  q.credentials.uid = static_cast<std::uint32_t>(r.i32());
  q.credentials.gid = static_cast<std::uint32_t>(r.i32());
  const std::int32_t groups = r.vector();
  for (std::int32_t n = 0; n < groups && !r.failed(); ++n) {
    q.credentials.groups.push_back(static_cast<std::uint32_t>(r.i32()));
  }
  return m;
}

Passed read_touched(Reader& r) {
  Touched m;
  m.answers = u64(r);
  m.refuse_writes = boolean(r);
  m.feature_level = r.i32();
  if (m.feature_level < 1 || m.feature_level > kFeatureLevelMax) r.fail();
  const std::int32_t touches = r.vector();
  for (std::int32_t n = 0; n < touches && !r.failed(); ++n) {
    Touch touch;
    touch.session = session(r);
    touch.generation = u64(r);
    touch.age_ms = r.i64();
    touch.connected = boolean(r);
    if (touch.age_ms < 0) r.fail();
    m.touches.push_back(touch);
  }
  const std::int32_t notes = r.vector();
  for (std::int32_t n = 0; n < notes && !r.failed(); ++n) {
    const Zxid at = zxid(r);
    m.digests.push_back(DigestNote{at, u64(r)});
  }
  return m;
}

Passed read(Kind kind, Reader& r) {
  switch (kind) {
    case Kind::kRequest:
      return read_request(r);
    case Kind::kAttach: {
      Attach m;
      m.id = u64(r);
      m.session = session(r);
      m.timeout_ms = r.i32();
      if (m.timeout_ms <= 0) r.fail();
      return m;
    }
    case Kind::kTouched:
      return read_touched(r);
    case Kind::kSync:
      return Sync{u64(r)};
    case Kind::kAttached: {
      Attached m;
      m.id = u64(r);
      m.accepted = boolean(r);
      m.generation = u64(r);
      return m;
    }
    case Kind::kMoved: {
      const SessionId id = session(r);
      return Moved{id, u64(r)};
    }
    case Kind::kRefused:
      return Refused{u64(r)};
    case Kind::kAsk:
      return Ask{u64(r)};
    case Kind::kSynced: {
      const std::uint64_t id = u64(r);
      return Synced{id, zxid(r)};
    }
    case Kind::kDiffers:
      return Differs{zxid(r)};
  }
  r.fail();
  return Sync{};
}

}  // namespace

std::string encode(const Passed& message) {
  std::string out;
  Writer writer(out);
  writer.i8(static_cast<std::int8_t>(message.index() + 1));
  std::visit([&writer](const auto& m) { body(writer, m); }, message);
  return out;
}

std::optional<Passed> decode(std::string_view bytes) {
  Reader reader(bytes);
  const auto kind = static_cast<Kind>(reader.i8());
  if (reader.failed()) return std::nullopt;
  Passed message = read(kind, reader);
  if (reader.failed() || reader.remaining() != 0) return std::nullopt;
  return message;
}

}  // namespace coord::runtime::forward
