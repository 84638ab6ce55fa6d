#include "replica/tree/record.h"

#include <utility>

#include "common/base/crc32c.h"
#include "common/wire/codec.h"
#include "replica/tree/mutation.h"

namespace coord::tree {
namespace {

using wire::get_id;
using wire::put_id;
using wire::Reader;
using wire::Writer;

constexpr std::int8_t kRecordVersion = 1;
constexpr std::int8_t kNullData = 1, kFromClient = 2;  // flags

}  // namespace

std::string encode_node(const Node& node, const Acl& acl) {
  std::string out;
  out.reserve(160 + node.name.size() + node.data.size());
  Writer w(out);
  w.i8(kRecordVersion);
  put_id(w, node.parent->id);
  w.buffer(std::string_view(node.name));
  w.i8(static_cast<std::int8_t>((node.null_data ? kNullData : 0) | (node.from_client ? kFromClient : 0)));
  w.i8(static_cast<std::int8_t>(node.shape));
  w.i8(static_cast<std::int8_t>(node.lifetime));
  w.i16(static_cast<std::int16_t>(node.exec));
  w.i64(node.czxid);
  w.i64(node.mzxid);
  w.i64(node.pzxid);
  w.i64(node.ctime);
  w.i64(node.mtime);
  w.i64(node.owner_or_ttl);
  w.i64(node.mtime_ns);
  w.i32(node.version);
  w.i32(node.aversion);
  w.i32(static_cast<std::int32_t>(node.creates));
  w.buffer(std::string_view(AclTable::encoded(acl)));
  w.buffer(std::string_view(node.data));
  return out;
}

std::optional<NodeRecord> decode_node(std::string_view record, Node& node) {
  Reader r(record);
  if (r.i8() != kRecordVersion) return std::nullopt;
  NodeRecord out;
  out.parent = get_id(r);
  node.name = r.string();
  const std::int8_t flags = r.i8();
  node.null_data = (flags & kNullData) != 0;
  node.from_client = (flags & kFromClient) != 0;
  const std::int8_t shape = r.i8();
  const std::int8_t lifetime = r.i8();
  if (shape < 0 || shape > static_cast<std::int8_t>(Shape::kSymlink)) return std::nullopt;
  if (lifetime < 0 || lifetime > static_cast<std::int8_t>(Lifetime::kTtl)) return std::nullopt;
  node.shape = static_cast<Shape>(shape);
  node.lifetime = static_cast<Lifetime>(lifetime);
  node.exec = static_cast<std::uint16_t>(r.i16());
  node.czxid = r.i64();
  node.mzxid = r.i64();
  node.pzxid = r.i64();
  node.ctime = r.i64();
  node.mtime = r.i64();
  node.owner_or_ttl = r.i64();
  node.mtime_ns = r.i64();
  node.version = r.i32();
  node.aversion = r.i32();
  node.creates = static_cast<std::uint32_t>(r.i32());
  out.acl = r.string();
  node.data = r.string();
  if (r.failed() || r.remaining() != 0) return std::nullopt;
  if (node.null_data && !node.data.empty()) return std::nullopt;
  node.data_crc = crc32c(node.data);
  return out;
}

std::string encode_session(const Session& session) {
  std::string out;
  Writer w(out);
  w.i8(kRecordVersion);
  w.i32(session.timeout_ms);
  w.i64(session.acked_below);
  w.i32(static_cast<std::int32_t>(session.answers.size()));
  for (const auto& [seq, answer] : session.answers) {
    w.i64(seq);
    w.i32(static_cast<std::int32_t>(answer.err));
    w.buffer(std::string_view(answer.body));
  }
  return out;
}

std::optional<Session> decode_session(SessionId id, std::string_view record) {
  Reader r(record);
  if (r.i8() != kRecordVersion) return std::nullopt;
  Session session;
  session.id = id;
  session.timeout_ms = r.i32();
  session.acked_below = r.i64();
  for (std::int32_t n = r.vector(); n > 0 && !r.failed(); --n) {
    const std::int64_t seq = r.i64();
    Answer answer;
    answer.err = static_cast<Err>(r.i32());
    answer.body = r.string();
    if (!session.answers.emplace(seq, std::move(answer)).second) return std::nullopt;
  }
  if (r.failed() || r.remaining() != 0 || session.timeout_ms <= 0) return std::nullopt;
  if (COORD_TREE_MUTANT(kWindowNotKept)) session.answers.clear();
  return session;
}

std::string encode_counters(const Counters& counters) {
  std::string out;
  Writer w(out);
  w.i8(kRecordVersion);
  put_id(w, counters.next_node_id);
  const bool levelled = counters.feature_level != 1 || !counters.members.empty();
  if (levelled || !counters.enrolled.empty()) write_directories(w, counters.enrolled);
  if (levelled) {
    w.i32(counters.feature_level);
    w.i64(counters.members_version.wire());
    write_members(w, counters.members);
  }
  return out;
}

std::optional<Counters> decode_counters(std::string_view record) {
  Reader r(record);
  if (r.i8() != kRecordVersion) return std::nullopt;
  Counters counters;
  counters.next_node_id = get_id(r);
  if (!r.failed() && r.remaining() > 0) counters.enrolled = read_directories(r);
  if (!r.failed() && r.remaining() > 0) {
    counters.feature_level = r.i32();
    if (r.failed() || counters.feature_level < kFeatureLevelReconfig) return std::nullopt;
    if (counters.feature_level > kFeatureLevel) return counters;
    counters.members_version = Zxid(static_cast<std::uint64_t>(r.i64()));
    counters.members = read_members(r);
    if (counters.members.empty() != (counters.members_version == Zxid{})) return std::nullopt;
  }
  if (r.failed() || r.remaining() != 0 || counters.next_node_id < kFirstNodeId) return std::nullopt;
  return counters;
}

}  // namespace coord::tree
