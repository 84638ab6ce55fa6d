// One write and one read for each record, fields in the order of the header. An optional field is a boolean and, when
// true, the value. Unsigned 32-bit fields travel as ints, node ids as longs. Enumerations are one byte, checked.
#include "common/wire/extension.h"

#include <algorithm>

namespace coord::wire {
namespace {

constexpr std::size_t kNodeIdSize = 8;
constexpr std::size_t kNodeInfoMin = 8 + 8 + 4 + (1 + 2 + 8) + 68 + 4 + 1 + 1;
constexpr std::int32_t kResumeMax = 10'000;  // ids in one ResumeRequest, elements in its reply
constexpr std::uint16_t kExecBits = 01111;   // Attributes.exec

void put_text(Writer& w, const std::optional<std::string>& v) {
  w.boolean(v.has_value());
  if (v) w.buffer(*v);
}
std::optional<std::string> get_text(Reader& r) {
  if (!r.boolean()) return std::nullopt;
  return std::string(r.string());
}

void put_u32(Writer& w, const std::optional<std::uint32_t>& v) {
  w.boolean(v.has_value());
  if (v) put_u32(w, *v);
}
std::optional<std::uint32_t> get_optional_u32(Reader& r) {
  if (!r.boolean()) return std::nullopt;
  return get_u32(r);
}

// A one-byte enumeration whose legal values are first..last; anything else is a decoding error.
template <class Enum>
void put_enum(Writer& w, Enum v) {
  w.i8(static_cast<std::int8_t>(v));
}
template <class Enum>
Enum get_enum(Reader& r, Enum first, Enum last) {
  const std::int8_t v = r.i8();
  if (v < static_cast<std::int8_t>(first) || v > static_cast<std::int8_t>(last)) {
    r.fail();
    return first;
  }
  return static_cast<Enum>(v);
}

void put_ids(Writer& w, const std::vector<NodeId>& ids) {
  w.i32(static_cast<std::int32_t>(ids.size()));
  for (const NodeId id : ids) put_id(w, id);
}
std::vector<NodeId> get_ids(Reader& r) {
  std::vector<NodeId> ids;
  const std::int32_t count = r.vector();
  reserve_justified(ids, r, count, kNodeIdSize);
  for (std::int32_t i = 0; i < count && !r.failed(); ++i) ids.push_back(get_id(r));
  if (r.failed()) ids.clear();
  return ids;
}

}  // namespace

void write(Writer& w, const Credentials& v) {
  put_u32(w, v.uid);
  put_u32(w, v.gid);
  w.i32(static_cast<std::int32_t>(v.groups.size()));
  for (const std::uint32_t group : v.groups) put_u32(w, group);
}

void read(Reader& r, Credentials& v) {
  v.uid = get_u32(r);
  v.gid = get_u32(r);
  v.groups.clear();
  const std::int32_t count = r.vector();
  reserve_justified(v.groups, r, count, sizeof(std::uint32_t));
  for (std::int32_t i = 0; i < count && !r.failed(); ++i) v.groups.push_back(get_u32(r));
  // A record that does not decode must not leave somebody's identity behind, least of all uid 0.
  if (r.failed()) v = Credentials{0xffffffffu, 0xffffffffu, {}};
}

void write(Writer& w, const MutationHeader& v) {
  w.i64(v.seq);
  w.i64(v.acked_below);
  write(w, v.who);
}

void read(Reader& r, MutationHeader& v) {
  v.seq = r.i64();
  v.acked_below = r.i64();
  read(r, v.who);
}

void write(Writer& w, const Attributes& v) {
  put_enum(w, v.shape);
  w.i16(static_cast<std::int16_t>(v.exec));
  w.i64(v.mtime_ns);
}

void read(Reader& r, Attributes& v) {
  v.shape = get_enum(r, Shape::kFile, Shape::kSymlink);
  v.exec = static_cast<std::uint16_t>(r.i16());
  v.mtime_ns = r.i64();
  if ((v.exec & ~kExecBits) != 0) {
    v.exec = 0;
    r.fail();
  }
}

void write(Writer& w, const NodeInfo& v) {
  put_id(w, v.id);
  put_id(w, v.parent);
  w.buffer(v.name);
  write(w, v.attributes);
  write(w, v.stat);
  write(w, v.acl);
  w.boolean(v.null_data);
  w.i64(v.ttl_ms);
  put_text(w, v.data);
}

void read(Reader& r, NodeInfo& v) {
  v.id = get_id(r);
  v.parent = get_id(r);
  v.name = r.string();
  read(r, v.attributes);
  v.stat = read_stat(r);
  v.acl = read_acl(r);
  v.null_data = r.boolean();
  v.ttl_ms = r.i64();
  v.data = get_text(r);
}

void write(Writer& w, const CapabilitiesRequest& v) { w.i32(v.reserve_ids); }

void read(Reader& r, CapabilitiesRequest& v) { v.reserve_ids = r.i32(); }

void write(Writer& w, const CapabilitiesReply& v) {
  w.i32(v.feature_level);
  w.i32(v.frame_size_max);
  w.i32(v.rename_nodes_max);
  put_id(w, v.first_id);
  w.i32(v.id_count);
  w.boolean(v.trusted);
  put_u32(w, v.peer_uid);
  put_u32(w, v.peer_gid);
  w.i64(v.disk_bytes);
  w.i64(v.disk_free_bytes);
  w.i64(v.node_count);
}

void read(Reader& r, CapabilitiesReply& v) {
  v.feature_level = r.i32();
  v.frame_size_max = r.i32();
  v.rename_nodes_max = r.i32();
  v.first_id = get_id(r);
  v.id_count = r.i32();
  v.trusted = r.boolean();
  v.peer_uid = get_u32(r);
  v.peer_gid = get_u32(r);
  v.disk_bytes = r.i64();
  v.disk_free_bytes = r.i64();
  v.node_count = r.i64();
}

void write(Writer& w, const LookupRequest& v) {
  write(w, v.who);
  put_id(w, v.parent);
  w.buffer(v.name);
  w.boolean(v.hold);
  w.i32(v.data_max);
}

void read(Reader& r, LookupRequest& v) {
  read(r, v.who);
  v.parent = get_id(r);
  v.name = r.string();
  v.hold = r.boolean();
  v.data_max = r.i32();
}

void write(Writer& w, const ReadDirRequest& v) {
  write(w, v.who);
  put_id(w, v.node);
  w.boolean(v.hold);
}

void read(Reader& r, ReadDirRequest& v) {
  read(r, v.who);
  v.node = get_id(r);
  v.hold = r.boolean();
}

void write(Writer& w, const ReadDirReply& v) {
  write(w, v.node);
  w.i32(static_cast<std::int32_t>(v.children.size()));
  for (const NodeInfo& child : v.children) write(w, child);
}

void read(Reader& r, ReadDirReply& v) {
  read(r, v.node);
  v.children.clear();
  const std::int32_t count = r.vector();
  reserve_justified(v.children, r, count, kNodeInfoMin);
  for (std::int32_t i = 0; i < count && !r.failed(); ++i) {
    NodeInfo child;
    read(r, child);
    if (!r.failed()) v.children.push_back(std::move(child));
  }
  if (r.failed()) v.children.clear();
}

void write(Writer& w, const ReadNodeRequest& v) {
  write(w, v.who);
  put_id(w, v.node);
}

void read(Reader& r, ReadNodeRequest& v) {
  read(r, v.who);
  v.node = get_id(r);
}

void write(Writer& w, const CreateNodeRequest& v) {
  write(w, v.header);
  put_id(w, v.parent);
  w.buffer(v.name);
  put_id(w, v.id);
  put_enum(w, v.mode);
  w.i64(v.ttl_ms);
  put_text(w, v.data);
  write(w, v.attributes);
  write(w, v.acl);
  w.boolean(v.fill_null);
  w.boolean(v.hold);
}

void read(Reader& r, CreateNodeRequest& v) {
  read(r, v.header);
  v.parent = get_id(r);
  v.name = r.string();
  v.id = get_id(r);
  v.mode = get_enum(r, CreateMode::kPersistent, CreateMode::kTtlSequential);
  v.ttl_ms = r.i64();
  v.data = get_text(r);
  read(r, v.attributes);
  v.acl = read_acl(r);
  v.fill_null = r.boolean();
  v.hold = r.boolean();
}

void write(Writer& w, const SetNodeDataRequest& v) {
  write(w, v.header);
  put_id(w, v.node);
  put_text(w, v.data);
  w.i32(v.version);
}

void read(Reader& r, SetNodeDataRequest& v) {
  read(r, v.header);
  v.node = get_id(r);
  v.data = get_text(r);
  v.version = r.i32();
}

namespace {

void write(Writer& w, const NodePlace& v) {
  put_id(w, v.parent);
  w.buffer(v.name);
}

void read(Reader& r, NodePlace& v) {
  v.parent = get_id(r);
  v.name = r.string();
}

}  // namespace

void write(Writer& w, const DeleteNodeRequest& v) {
  write(w, v.header);
  put_id(w, v.node);
  put_enum(w, v.half);
  write(w, v.at);
}

void read(Reader& r, DeleteNodeRequest& v) {
  read(r, v.header);
  v.node = get_id(r);
  v.half = get_enum(r, DeleteHalf::kWhole, DeleteHalf::kChildren);
  read(r, v.at);
}

void write(Writer& w, const SetAttributesRequest& v) {
  write(w, v.header);
  put_id(w, v.node);
  put_u32(w, v.mode);
  put_u32(w, v.uid);
  put_u32(w, v.gid);
  w.boolean(v.mtime_ns.has_value());
  if (v.mtime_ns) w.i64(*v.mtime_ns);
}

void read(Reader& r, SetAttributesRequest& v) {
  read(r, v.header);
  v.node = get_id(r);
  v.mode = get_optional_u32(r);
  v.uid = get_optional_u32(r);
  v.gid = get_optional_u32(r);
  v.mtime_ns.reset();
  if (r.boolean()) v.mtime_ns = r.i64();
}

void write(Writer& w, const RenameRequest& v) {
  write(w, v.header);
  put_id(w, v.node);
  put_id(w, v.new_parent);
  w.buffer(v.new_name);
  put_u32(w, v.flags);
  write(w, v.at);
}

void read(Reader& r, RenameRequest& v) {
  read(r, v.header);
  v.node = get_id(r);
  v.new_parent = get_id(r);
  v.new_name = r.string();
  v.flags = get_u32(r);
  read(r, v.at);
}

void write(Writer& w, const ForgetRequest& v) { put_ids(w, v.nodes); }

void read(Reader& r, ForgetRequest& v) { v.nodes = get_ids(r); }

void write(Writer& w, const ResumeRequest& v) { put_ids(w, v.nodes); }

void read(Reader& r, ResumeRequest& v) {
  v.nodes = get_ids(r);
  if (v.nodes.size() > static_cast<std::size_t>(kResumeMax)) {
    v.nodes.clear();
    r.fail();
  }
}

void write(Writer& w, const ResumeReply& v) {
  w.i32(static_cast<std::int32_t>(v.nodes.size()));
  for (const std::optional<NodeInfo>& node : v.nodes) {
    w.boolean(node.has_value());
    if (node) write(w, *node);
  }
}

void read(Reader& r, ResumeReply& v) {
  v.nodes.clear();
  const std::int32_t count = r.vector();
  // A node that has gone takes one byte on the wire and some 200 in memory, so the number itself is bounded too.
  if (count > kResumeMax) {
    r.fail();
    return;
  }
  for (std::int32_t i = 0; i < count && !r.failed(); ++i) {
    std::optional<NodeInfo>& node = v.nodes.emplace_back();
    if (r.boolean()) read(r, node.emplace());
  }
  if (r.failed()) v.nodes.clear();
}

void write(Writer& w, const ChangeEvent& v) {
  put_enum(w, v.kind);
  w.i64(v.zxid);
  if (v.kind == ChangeKind::kDropAll) return;
  w.boolean(v.more);
  w.i64(v.origin.value);
  w.i64(v.origin_seq);
  write(w, v.node);
  write(w, v.parent_stat);
  if (v.kind != ChangeKind::kRenamed) return;
  put_id(w, v.old_parent);
  w.buffer(v.old_name);
  write(w, v.old_parent_stat);
}

void read(Reader& r, ChangeEvent& v) {
  v = ChangeEvent{};
  v.kind = get_enum(r, ChangeKind::kCreated, ChangeKind::kDropAll);
  v.zxid = r.i64();
  if (r.failed() || v.kind == ChangeKind::kDropAll) return;
  v.more = r.boolean();
  v.origin = SessionId{r.i64()};
  v.origin_seq = r.i64();
  read(r, v.node);
  v.parent_stat = read_stat(r);
  if (v.kind != ChangeKind::kRenamed) return;
  v.old_parent = get_id(r);
  v.old_name = r.string();
  v.old_parent_stat = read_stat(r);
}

}  // namespace coord::wire
