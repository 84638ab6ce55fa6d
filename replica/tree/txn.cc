#include "replica/tree/txn.h"

#include <type_traits>
#include <utility>

#include "common/wire/codec.h"

namespace coord::tree {
namespace {

using wire::get_id;
using wire::get_u32;
using wire::Reader;
using wire::Writer;

constexpr std::int8_t kTxnVersion = 1;
constexpr std::size_t kOpAt = 1 + 8 + 4;  // behind version, session and xid

// The tag of a change is its place in the variant; the list may only grow at its end.
static_assert(std::variant_size_v<Change> == 15);

void put(Writer& w, NodeId id) { wire::put_id(w, id); }
void put(Writer& w, std::uint32_t v) { wire::put_u32(w, v); }
void put_data(Writer& w, bool is_null, const std::string& data) {
  if (is_null) {
    w.i32(-1);
  } else {
    w.buffer(std::string_view(data));
  }
}
void get_data(Reader& r, bool& is_null, std::string& data) {
  const auto bytes = r.buffer();
  is_null = !bytes.has_value();
  data = bytes.value_or(std::string_view());
}

struct Encoder {
  Writer& w;

  void operator()(const CreateTxn& c) const {
    put(w, c.id);
    put(w, c.parent);
    w.buffer(std::string_view(c.name));
    put_data(w, c.null_data, c.data);
    wire::write(w, c.acl);
    wire::write(w, c.attributes);
    w.i8(static_cast<std::int8_t>(c.lifetime));
    w.i64(c.owner.value);
    w.i64(c.ttl_ms);
    put(w, c.parent_creates);
    w.boolean(c.parent_becomes_dir);
  }
  void operator()(const DeleteTxn& c) const { put(w, c.id); }
  void operator()(const SetDataTxn& c) const {
    put(w, c.id);
    put_data(w, c.null_data, c.data);
    w.i32(c.version);
  }
  void operator()(const SetAclTxn& c) const {
    put(w, c.id);
    wire::write(w, c.acl);
    w.i32(c.aversion);
  }
  void operator()(const SetAttributesTxn& c) const {
    put(w, c.id);
    wire::write(w, c.attributes);
  }
  void operator()(const MoveTxn& c) const {
    put(w, c.id);
    put(w, c.new_parent);
    w.buffer(std::string_view(c.new_name));
    put(w, c.new_parent_creates);
  }
  void operator()(const ExchangeTxn& c) const {
    put(w, c.a);
    put(w, c.b);
  }
  void operator()(const CheckTxn& c) const { put(w, c.id); }
  void operator()(const CreateSessionTxn& c) const {
    w.i64(c.id.value);
    w.i32(c.timeout_ms);
  }
  void operator()(const CloseSessionTxn& c) const { w.i64(c.id.value); }
  void operator()(const ReserveIdsTxn& c) const {
    put(w, c.first);
    w.i32(c.count);
  }
  void operator()(const ErrorTxn& c) const { w.i32(static_cast<std::int32_t>(c.err)); }
  void operator()(const EnrolTxn& c) const { write_directories(w, c.directories); }
  void operator()(const ReconfigTxn& c) const {
    write_members(w, c.members);
    write_directories(w, c.directories);
  }
  void operator()(const FeatureLevelTxn& c) const { w.i32(c.level); }
};

void read_change(Reader& r, CreateTxn& c) {
  c.id = get_id(r);
  c.parent = get_id(r);
  c.name = r.string();
  get_data(r, c.null_data, c.data);
  c.acl = wire::read_acl(r);
  wire::read(r, c.attributes);
  const std::int8_t lifetime = r.i8();
  if (lifetime < 0 || lifetime > static_cast<std::int8_t>(Lifetime::kTtl)) r.fail();
  c.lifetime = static_cast<Lifetime>(lifetime);
  c.owner = SessionId(r.i64());
  c.ttl_ms = r.i64();
  c.parent_creates = get_u32(r);
  c.parent_becomes_dir = r.boolean();
}
void read_change(Reader& r, DeleteTxn& c) { c.id = get_id(r); }
void read_change(Reader& r, SetDataTxn& c) {
  c.id = get_id(r);
  get_data(r, c.null_data, c.data);
  c.version = r.i32();
}
void read_change(Reader& r, SetAclTxn& c) {
  c.id = get_id(r);
  c.acl = wire::read_acl(r);
  c.aversion = r.i32();
}
void read_change(Reader& r, SetAttributesTxn& c) {
  c.id = get_id(r);
  wire::read(r, c.attributes);
}
void read_change(Reader& r, MoveTxn& c) {
  c.id = get_id(r);
  c.new_parent = get_id(r);
  c.new_name = r.string();
  c.new_parent_creates = get_u32(r);
}
void read_change(Reader& r, ExchangeTxn& c) {
  c.a = get_id(r);
  c.b = get_id(r);
}
void read_change(Reader& r, CheckTxn& c) { c.id = get_id(r); }
void read_change(Reader& r, CreateSessionTxn& c) {
  c.id = SessionId(r.i64());
  c.timeout_ms = r.i32();
}
void read_change(Reader& r, CloseSessionTxn& c) { c.id = SessionId(r.i64()); }
void read_change(Reader& r, ReserveIdsTxn& c) {
  c.first = get_id(r);
  c.count = r.i32();
}
void read_change(Reader& r, ErrorTxn& c) { c.err = static_cast<Err>(r.i32()); }
void read_change(Reader& r, EnrolTxn& c) { c.directories = read_directories(r); }
void read_change(Reader& r, ReconfigTxn& c) {
  c.members = read_members(r);
  c.directories = read_directories(r);
}
void read_change(Reader& r, FeatureLevelTxn& c) { c.level = r.i32(); }

// The alternative number `tag`, decoded; no such number fails the reader.
template <std::size_t I = 0>
Change read_tagged(Reader& r, std::size_t tag) {
  if constexpr (I < std::variant_size_v<Change>) {
    if (tag != I) return read_tagged<I + 1>(r, tag);
    Change change(std::in_place_index<I>);
    read_change(r, std::get<I>(change));
    return change;
  } else {
    r.fail();
    return ErrorTxn{};
  }
}

}  // namespace

void write_directories(Writer& w, const std::map<Sid, std::string>& directories) {
  w.i32(static_cast<std::int32_t>(directories.size()));
  for (const auto& [sid, directory] : directories) {
    put(w, sid.value);
    w.buffer(std::string_view(directory));
  }
}

std::map<Sid, std::string> read_directories(Reader& r) {
  std::map<Sid, std::string> directories;
  for (std::int32_t n = r.vector(); n > 0 && !r.failed(); --n) {
    const Sid sid(get_u32(r));
    directories[sid] = r.string();
  }
  return directories;
}

void write_members(Writer& w, const std::vector<Member>& members) {
  w.i32(static_cast<std::int32_t>(members.size()));
  for (const Member& member : members) {
    put(w, member.sid.value);
    w.buffer(std::string_view(member.host));
    w.i16(static_cast<std::int16_t>(member.port));
    w.i16(static_cast<std::int16_t>(member.election_port));
    w.boolean(member.observer);
    w.buffer(std::string_view(member.client));
  }
}

std::vector<Member> read_members(Reader& r) {
  std::vector<Member> members;
  for (std::int32_t n = r.vector(); n > 0 && !r.failed(); --n) {
    Member member;
    member.sid = Sid(get_u32(r));
    member.host = r.string();
    member.port = static_cast<std::uint16_t>(r.i16());
    member.election_port = static_cast<std::uint16_t>(r.i16());
    member.observer = r.boolean();
    member.client = r.string();
    if (member.sid <= (members.empty() ? Sid() : members.back().sid)) r.fail();
    members.push_back(std::move(member));
  }
  return members;
}

void enrol_members(const ReconfigTxn& change, std::map<Sid, std::string>& enrolled) {
  std::map<Sid, std::string> before = std::exchange(enrolled, {});
  for (const Member& member : change.members) {
    const auto joins = change.directories.find(member.sid);
    const auto stays = before.find(member.sid);
    if (joins != change.directories.end()) {
      enrolled.insert(*joins);
    } else if (stays != before.end()) {
      enrolled.insert(std::move(*stays));
    }
  }
}

void encode(const Txn& txn, std::string& out) {
  std::size_t size = 96;
  for (const Change& change : txn.changes) {
    size += 160;
    if (const auto* create = std::get_if<CreateTxn>(&change)) size += create->data.size();
    if (const auto* set = std::get_if<SetDataTxn>(&change)) size += set->data.size();
  }
  out.reserve(out.size() + size);
  Writer w(out);
  w.i8(kTxnVersion);
  w.i64(txn.session.value);
  w.i32(txn.xid);
  w.i32(static_cast<std::int32_t>(txn.op));
  w.i64(txn.time);
  w.i64(txn.seq);
  w.i64(txn.acked_below);
  w.i32(static_cast<std::int32_t>(txn.changes.size()));
  for (const Change& change : txn.changes) {
    w.i8(static_cast<std::int8_t>(change.index()));
    std::visit(Encoder{w}, change);
  }
  w.i32(static_cast<std::int32_t>(txn.multi_ops.size()));
  for (const wire::Op op : txn.multi_ops) w.i32(static_cast<std::int32_t>(op));
  put(w, txn.subject);
  w.i8(txn.what);
}

std::optional<Txn> decode(std::string_view bytes) {
  Reader r(bytes);
  if (r.i8() != kTxnVersion) return std::nullopt;
  Txn txn;
  txn.session = SessionId(r.i64());
  txn.xid = r.i32();
  txn.op = static_cast<wire::Op>(r.i32());
  txn.time = r.i64();
  txn.seq = r.i64();
  txn.acked_below = r.i64();
  // Grown one by one: a hostile count costs no more than the bytes behind it.
  for (std::int32_t n = r.vector(); n > 0 && !r.failed(); --n) {
    const auto tag = static_cast<std::uint8_t>(r.i8());
    txn.changes.push_back(read_tagged(r, tag));
  }
  for (std::int32_t n = r.vector(); n > 0 && !r.failed(); --n) txn.multi_ops.push_back(static_cast<wire::Op>(r.i32()));
  txn.subject = get_id(r);
  txn.what = r.i8();
  if (r.failed() || r.remaining() != 0) return std::nullopt;
  return txn;
}

namespace {

// The only change of a transaction of this operation. Looks at the op alone in all others.
template <class Only>
std::optional<Only> only_change(std::string_view bytes, wire::Op wanted) {
  if (bytes.size() < kOpAt + sizeof(std::int32_t)) return std::nullopt;
  if (static_cast<wire::Op>(wire::load_be<std::int32_t>(bytes.data() + kOpAt)) != wanted) return std::nullopt;
  std::optional<Txn> txn = decode(bytes);
  if (!txn || txn->changes.size() != 1) return std::nullopt;
  auto* change = std::get_if<Only>(&txn->changes.front());
  return change == nullptr ? std::nullopt : std::optional<Only>(std::move(*change));
}

}  // namespace

std::optional<ReconfigTxn> reconfig_of(std::string_view bytes) {
  return only_change<ReconfigTxn>(bytes, wire::Op::kReconfig);
}

std::optional<EnrolTxn> enrolment_of(std::string_view bytes) { return only_change<EnrolTxn>(bytes, wire::Op::kEnrol); }

std::optional<FeatureLevelTxn> feature_level_of(std::string_view bytes) {
  return only_change<FeatureLevelTxn>(bytes, wire::Op::kFeatureLevel);
}

}  // namespace coord::tree
