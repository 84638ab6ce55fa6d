#include "replica/peers/codec.h"

#include <algorithm>
#include <memory>
#include <set>
#include <type_traits>
#include <utility>

#include "common/base/check.h"
#include "common/wire/codec.h"

namespace coord::peers {
namespace {

using namespace zab;
using wire::Reader;

// On the wire: never renumbered, never reused.
enum class Tag : std::int8_t {
  kNotification = 1,
  kFollowerInfo = 2,
  kAckEpoch = 3,
  kAckNewLeader = 4,
  kAck = 5,
  kPong = 6,
  kLeaderInfo = 7,
  kSyncFrom = 8,
  kSnapshotBegin = 9,
  kSnapshotChunk = 10,
  kSnapshotEnd = 11,
  kProposal = 12,
  kNewLeader = 13,
  kUpToDate = 14,
  kCommit = 15,
  kPing = 16,
  kPassed = 17,
  kBye = 18,
};

constexpr std::size_t kMembersMax = 1024;      // of each list in a membership
constexpr std::size_t kDirectoryIdMax = 64;    // a store's are 16 bytes
constexpr std::size_t kEntryBytesMin = 8 + 8 + 4 + 4 + 8;  // zxid, previous, payload's length, origin

// What tells the size is what writes: the same put functions on a counter.
class Counter {
 public:
  void i8(std::int8_t) { size_ += 1; }
  void i32(std::int32_t) { size_ += 4; }
  void i64(std::int64_t) { size_ += 8; }
  void boolean(bool) { size_ += 1; }
  void buffer(std::string_view v) { size_ += 4 + v.size(); }
  std::size_t size() const { return size_; }

 private:
  std::size_t size_ = 0;
};

template <class Out>
void put(Out& w, std::uint64_t v) {
  w.i64(static_cast<std::int64_t>(v));
}
template <class Out>
void put(Out& w, std::uint32_t v) {
  w.i32(static_cast<std::int32_t>(v));
}
template <class Out>
void put(Out& w, Zxid v) {
  put(w, v.value);
}
template <class Out>
void put(Out& w, Sid v) {
  put(w, v.value);
}
template <class Out>
void put_count(Out& w, std::size_t count) {
  COORD_CHECK(count <= 0x7fffffff);
  w.i32(static_cast<std::int32_t>(count));
}

template <class Out>
void put(Out& w, const Notification& m) {
  w.i8(static_cast<std::int8_t>(m.state));
  put(w, m.round);
  put(w, m.vote.leader);
  put(w, m.vote.zxid);
  put(w, m.vote.epoch);
  put(w, m.accepted_epoch);
  w.boolean(m.wants_answer);
  put(w, m.members);
}
template <class Out>
void put(Out& w, const FollowerInfo& m) {
  w.boolean(m.voter);
  put(w, m.accepted_epoch);
  put(w, m.accepted_from);
  w.buffer(std::string_view(m.directory_id));
  w.boolean(m.virgin);
  w.boolean(m.damaged);
}
template <class Out>
void put(Out& w, const AckEpoch& m) {
  put(w, m.epoch);
  w.boolean(m.counts);
  put(w, m.current_epoch);
  put(w, m.log.floor);
  put_count(w, m.log.epoch_ends.size());
  for (const Zxid end : m.log.epoch_ends) put(w, end);
  put(w, m.last_applied);
}
template <class Out>
void put(Out& w, const Pong& m) {
  put(w, m.number);
  put(w, m.last_durable);
}
template <class Out>
void put(Out& w, const std::set<Sid>& sids) {
  COORD_CHECK_MSG(sids.size() <= kMembersMax, "more members than there can be");
  put_count(w, sids.size());
  for (const Sid sid : sids) put(w, sid);
}
template <class Out>
void put(Out& w, const Membership& m) {
  put(w, m.version);
  put(w, m.voters);
  put(w, m.observers);
  COORD_CHECK_MSG(m.joins.size() <= kMembersMax, "more members than there can be");
  put_count(w, m.joins.size());
  for (const auto& [sid, directory] : m.joins) {
    put(w, sid);
    w.buffer(std::string_view(directory));
  }
}
template <class Out>
void put(Out& w, const SnapshotBegin& m) {
  put(w, m.zxid);
  put(w, m.bytes);
  put(w, m.membership);
}
template <class Out>
void put(Out& w, const Proposal& m) {
  put_count(w, m.entries.size());
  for (const LogEntry& entry : m.entries) {
    COORD_CHECK_MSG(entry.payload != nullptr, "an entry without payload");
    put(w, entry.zxid);
    put(w, entry.previous);
    w.buffer(std::string_view(*entry.payload));
    put(w, entry.origin.sid);
    put(w, entry.origin.id);
  }
  put(w, m.committed);
}
template <class Out>
void put(Out& w, const NewLeader& m) {
  put(w, m.epoch);
  put(w, m.last);
  w.buffer(std::string_view(m.cluster_id));
  w.buffer(std::string_view(m.secret));
}
template <class Out>
void put(Out& w, const AckNewLeader& m) {
  put(w, m.epoch);
}
template <class Out>
void put(Out& w, const Ack& m) {
  put(w, m.up_to);
}
template <class Out>
void put(Out& w, const LeaderInfo& m) {
  put(w, m.epoch);
}
template <class Out>
void put(Out& w, const SyncFrom& m) {
  put(w, m.point);
}
template <class Out>
void put(Out& w, const SnapshotChunk& m) {
  w.buffer(std::string_view(m.bytes));
}
template <class Out>
void put(Out& w, const SnapshotEnd& m) {
  put(w, m.chunks);
}
template <class Out>
void put(Out& w, const UpToDate& m) {
  put(w, m.committed);
}
template <class Out>
void put(Out& w, const Commit& m) {
  put(w, m.up_to);
}
template <class Out>
void put(Out& w, const Ping& m) {
  put(w, m.number);
}
template <class Out>
void put(Out& w, const Passed& m) {
  w.buffer(std::string_view(m.bytes));
}
template <class Out>
void put(Out& w, const Bye& m) {
  w.buffer(std::string_view(m.reason));
}

template <class T, class Variant>
struct IndexOf;
template <class T, class... Rest>
struct IndexOf<T, std::variant<T, Rest...>> : std::integral_constant<std::size_t, 0> {};
template <class T, class First, class... Rest>
struct IndexOf<T, std::variant<First, Rest...>>
    : std::integral_constant<std::size_t, 1 + IndexOf<T, std::variant<Rest...>>::value> {};

// The tags are the order of the variant, from 1; a message put in the middle of it fails here.
template <class T>
constexpr Tag tag_of() {
  return static_cast<Tag>(IndexOf<T, Message>::value + 1);
}
static_assert(tag_of<Notification>() == Tag::kNotification && tag_of<FollowerInfo>() == Tag::kFollowerInfo &&
              tag_of<AckEpoch>() == Tag::kAckEpoch && tag_of<AckNewLeader>() == Tag::kAckNewLeader &&
              tag_of<Ack>() == Tag::kAck && tag_of<Pong>() == Tag::kPong && tag_of<LeaderInfo>() == Tag::kLeaderInfo &&
              tag_of<SyncFrom>() == Tag::kSyncFrom && tag_of<SnapshotBegin>() == Tag::kSnapshotBegin &&
              tag_of<SnapshotChunk>() == Tag::kSnapshotChunk && tag_of<SnapshotEnd>() == Tag::kSnapshotEnd &&
              tag_of<Proposal>() == Tag::kProposal && tag_of<NewLeader>() == Tag::kNewLeader &&
              tag_of<UpToDate>() == Tag::kUpToDate && tag_of<Commit>() == Tag::kCommit &&
              tag_of<Ping>() == Tag::kPing && tag_of<Passed>() == Tag::kPassed && tag_of<Bye>() == Tag::kBye);
static_assert(std::variant_size_v<Message> == static_cast<std::size_t>(Tag::kBye));

template <class Out>
void put_message(Out& w, const Message& message) {
  std::visit(
      [&w](const auto& m) {
        w.i8(static_cast<std::int8_t>(tag_of<std::decay_t<decltype(m)>>()));
        put(w, m);
      },
      message);
}

// --- reading; braces keep the order of the fields

std::uint64_t u64(Reader& r) { return static_cast<std::uint64_t>(r.i64()); }
std::uint32_t u32(Reader& r) { return static_cast<std::uint32_t>(r.i32()); }
Zxid zxid(Reader& r) { return Zxid{u64(r)}; }
Sid sid(Reader& r) { return Sid{u32(r)}; }

bool boolean(Reader& r) {
  const std::int8_t v = r.i8();
  if (v != 0 && v != 1) r.fail();
  return v == 1;
}

std::string_view view(Reader& r) {
  const auto v = r.buffer();
  if (!v) r.fail();
  return v.value_or(std::string_view());
}
std::string text(Reader& r) { return std::string(view(r)); }

std::string directory_id(Reader& r) {
  const std::string_view id = view(r);
  if (id.size() > kDirectoryIdMax) r.fail();
  return r.failed() ? std::string() : std::string(id);
}

// How many elements of at least `each` bytes follow.
std::size_t count(Reader& r, std::size_t each) {
  const std::int32_t n = r.i32();
  if (n < 0 || static_cast<std::size_t>(n) > r.remaining() / each) {
    r.fail();
    return 0;
  }
  return static_cast<std::size_t>(n);
}

Notification notification(Reader& r) {
  Notification m;
  const std::int8_t state = r.i8();
  if (state < 0 || state > static_cast<std::int8_t>(Role::kObserving)) r.fail();
  m.state = r.failed() ? Role::kLooking : static_cast<Role>(state);
  m.round = u64(r);
  m.vote.leader = sid(r);
  m.vote.zxid = zxid(r);
  m.vote.epoch = u32(r);
  m.accepted_epoch = u32(r);
  m.wants_answer = boolean(r);
  m.members = zxid(r);
  return m;
}

FollowerInfo follower_info(Reader& r) {
  FollowerInfo m;
  m.voter = boolean(r);
  m.accepted_epoch = u32(r);
  m.accepted_from = sid(r);
  m.directory_id = directory_id(r);
  m.virgin = boolean(r);
  m.damaged = boolean(r);
  return m;
}

AckEpoch ack_epoch(Reader& r) {
  AckEpoch m;
  m.epoch = u32(r);
  m.counts = boolean(r);
  m.current_epoch = u32(r);
  m.log.floor = zxid(r);
  const std::size_t ends = count(r, sizeof(std::uint64_t));
  m.log.epoch_ends.reserve(ends);
  for (std::size_t n = 0; n < ends; ++n) m.log.epoch_ends.push_back(zxid(r));
  m.last_applied = zxid(r);
  if (!well_formed(m.log)) r.fail();
  return m;
}

std::size_t member_count(Reader& r, std::size_t each) {
  const std::size_t n = count(r, each);
  if (n <= kMembersMax) return n;
  r.fail();
  return 0;
}

// Ascending, and none of them 0.
Sid sid_above(Reader& r, Sid previous) {
  const Sid next = sid(r);
  if (next <= previous) r.fail();
  return next;
}

std::set<Sid> sids(Reader& r) {
  std::set<Sid> out;
  Sid last;
  for (std::size_t n = member_count(r, sizeof(std::uint32_t)); n > 0 && !r.failed(); --n) {
    last = sid_above(r, last);
    out.insert(out.end(), last);
  }
  return out;
}

// No server is both a voter and an observer.
SnapshotBegin snapshot_begin(Reader& r) {
  SnapshotBegin m;
  m.zxid = zxid(r);
  m.bytes = u64(r);
  m.membership.version = zxid(r);
  m.membership.voters = sids(r);
  m.membership.observers = sids(r);
  for (const Sid observer : m.membership.observers) {
    if (m.membership.voters.contains(observer)) r.fail();
  }
  Sid last;
  for (std::size_t n = member_count(r, 2 * sizeof(std::uint32_t)); n > 0 && !r.failed(); --n) {
    last = sid_above(r, last);
    m.membership.joins[last] = directory_id(r);
  }
  return m;
}

Proposal proposal(Reader& r) {
  Proposal m;
  const std::size_t entries = count(r, kEntryBytesMin);
  m.entries.reserve(entries);
  for (std::size_t n = 0; n < entries && !r.failed(); ++n) {
    LogEntry& entry = m.entries.emplace_back();
    entry.zxid = zxid(r);
    entry.previous = zxid(r);
    entry.payload = std::make_shared<const std::string>(view(r));
    entry.origin.sid = sid(r);
    entry.origin.id = u64(r);
  }
  m.committed = zxid(r);
  return m;
}

NewLeader new_leader(Reader& r) {
  NewLeader m;
  m.epoch = u32(r);
  m.last = zxid(r);
  m.cluster_id = text(r);
  m.secret = text(r);
  return m;
}

std::optional<Message> read_fields(Tag tag, Reader& r) {
  switch (tag) {
    case Tag::kNotification:
      return notification(r);
    case Tag::kFollowerInfo:
      return follower_info(r);
    case Tag::kAckEpoch:
      return ack_epoch(r);
    case Tag::kAckNewLeader:
      return AckNewLeader{u32(r)};
    case Tag::kAck:
      return Ack{zxid(r)};
    case Tag::kPong:
      return Pong{u64(r), zxid(r)};
    case Tag::kLeaderInfo:
      return LeaderInfo{u32(r)};
    case Tag::kSyncFrom:
      return SyncFrom{zxid(r)};
    case Tag::kSnapshotBegin:
      return snapshot_begin(r);
    case Tag::kSnapshotChunk:
      return SnapshotChunk{text(r)};
    case Tag::kSnapshotEnd:
      return SnapshotEnd{u64(r)};
    case Tag::kProposal:
      return proposal(r);
    case Tag::kNewLeader:
      return new_leader(r);
    case Tag::kUpToDate:
      return UpToDate{zxid(r)};
    case Tag::kCommit:
      return Commit{zxid(r)};
    case Tag::kPing:
      return Ping{u64(r)};
    case Tag::kPassed:
      return Passed{text(r)};
    case Tag::kBye:
      return Bye{text(r)};
  }
  return std::nullopt;
}

}  // namespace

void encode(const Message& message, std::string& out) {
  wire::Writer writer(out);
  put_message(writer, message);
}

std::size_t encoded_size(const Message& message) {
  Counter counter;
  put_message(counter, message);
  return counter.size();
}

std::optional<Message> decode(std::string_view bytes) {
  Reader reader(bytes);
  const auto tag = static_cast<Tag>(reader.i8());
  if (reader.failed()) return std::nullopt;
  auto message = read_fields(tag, reader);
  if (reader.failed() || reader.remaining() != 0) return std::nullopt;
  return message;
}

}  // namespace coord::peers
