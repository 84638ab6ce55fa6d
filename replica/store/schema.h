// The on-disk specification: one LMDB environment (data.mdb, lock.mdb) in the data directory, six named databases.
//
//   meta     key: a word (below)          value: record
//   log      key: zxid, 8 bytes           value: record of { previous zxid (8), payload }
//   node     key: node id, 8 bytes        value: record of { encoded node }
//   session  key: session id, 8 bytes     value: record of { encoded session }
//   node.1, session.1    as node and session: of the two slots, meta/slot says which one is the tree; a snapshot from
//                        another replica is staged in the other, and installed by changing meta/slot
//
// A record is { CRC32C over key and body (4) , body }. All integers are big-endian, so that keys sort by number
// (session ids by their unsigned image, which nothing relies on). Anything that changes a byte of this changes
// kFormatVersion.
//
//   meta key     body
//   format       version (4)
//   identity     sid (4), directory id (16), cluster id (32 hex digits, or nothing: virgin)
//   secret       32 bytes, or nothing
//   epochs.1     accepted epoch (4), current epoch (4), sid that was promised the accepted epoch (4)
//   epochs.2     the same again: a promise that is forgotten or altered costs an acknowledged write
//   positions    tree_durable (8), commit_hint (8), log_floor (8), last_logged (8)
//   counters     what the tree handed out with the last fold; absent before the first. counters.1: of the other slot
//   slot         0 or 1 (1 byte); absent: 0
//   damaged      nothing; there: log and tree were emptied as something in them was broken, and not yet repaired
//   journal      0 or 1 (1), id of the journal's life (16), sequence of the last record held (8); absent: 0, never used
//
// Version 1 had an identity without directory id, epochs without the promised sid, and one slot; upgraded at open.
// Version 3 is version 2 while a journal (journal.h) holds what the database does not have yet: from the first write of
// a process until it ends in an orderly way. A program from before there were journals refuses it, and takes version 2.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "common/base/crc32c.h"
#include "common/model/ids.h"

namespace coord::store::schema {

inline constexpr std::uint32_t kFormatVersion = 2;
inline constexpr std::uint32_t kFormatWithJournal = 3;
inline constexpr const char* kDataFile = "data.mdb";
inline constexpr const char* kNewDataFile = "data.mdb.new";  // in the making
inline constexpr const char* kLmdbLockFile = "lock.mdb";
inline constexpr const char* kLockFile = "coord.lock";

inline constexpr const char* kMetaDb = "meta";
inline constexpr const char* kLogDb = "log";
inline constexpr const char* kNodeDb = "node";
inline constexpr const char* kSessionDb = "session";
inline constexpr const char* kNodeDb1 = "node.1";
inline constexpr const char* kSessionDb1 = "session.1";
inline constexpr unsigned kDatabases = 6;

inline constexpr std::string_view kFormat = "format";
inline constexpr std::string_view kIdentity = "identity";
inline constexpr std::string_view kSecret = "secret";
inline constexpr std::string_view kEpochs1 = "epochs.1";
inline constexpr std::string_view kEpochs2 = "epochs.2";
inline constexpr std::string_view kPositions = "positions";
inline constexpr std::string_view kCounters = "counters";
inline constexpr std::string_view kCounters1 = "counters.1";
inline constexpr std::string_view kSlot = "slot";
inline constexpr std::string_view kDamaged = "damaged";
inline constexpr std::string_view kJournal = "journal";

inline constexpr std::size_t kChecksumSize = 4;
inline constexpr std::size_t kKeySize = 8;
inline constexpr std::size_t kLogHeaderSize = kChecksumSize + 8;  // checksum, previous zxid
inline constexpr std::size_t kClusterIdSize = 32;
inline constexpr std::size_t kDirectoryIdSize = 16;
inline constexpr std::size_t kSecretSize = 32;
inline constexpr std::size_t kEpochsSize = 12;
inline constexpr std::size_t kJournalIdSize = 16;
inline constexpr std::size_t kMarkSize = 1 + kJournalIdSize + 8;

inline void put_u32(char* to, std::uint32_t v) {
  v = __builtin_bswap32(v);
  std::memcpy(to, &v, sizeof v);
}
inline void put_u64(char* to, std::uint64_t v) {
  v = __builtin_bswap64(v);
  std::memcpy(to, &v, sizeof v);
}
inline std::uint32_t get_u32(const char* from) {
  std::uint32_t v = 0;
  std::memcpy(&v, from, sizeof v);
  return __builtin_bswap32(v);
}
inline std::uint64_t get_u64(const char* from) {
  std::uint64_t v = 0;
  std::memcpy(&v, from, sizeof v);
  return __builtin_bswap64(v);
}
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "put_ and get_ swap always");

// A fixed key on the stack.
struct Key {
  char bytes[kKeySize];
  explicit Key(std::uint64_t number) { put_u64(bytes, number); }
  explicit Key(Zxid zxid) : Key(zxid.value) {}
  explicit Key(NodeId id) : Key(id.value) {}
  explicit Key(SessionId id) : Key(static_cast<std::uint64_t>(id.value)) {}
  std::string_view view() const { return {bytes, kKeySize}; }
};

// Where log and tree stand; one record, changed in the same transaction as what it describes.
struct Positions {
  Zxid tree_durable;
  Zxid commit_hint;
  Zxid log_floor;
  Zxid last_logged;
  friend bool operator==(const Positions&, const Positions&) = default;
};
inline constexpr std::size_t kPositionsSize = 32;

inline std::uint32_t checksum(std::string_view key, std::string_view body) { return crc32c(body, crc32c(key)); }

// Completes a record whose body is in place behind the checksum.
inline void seal(std::string_view key, char* record, std::size_t size) {
  put_u32(record, checksum(key, {record + kChecksumSize, size - kChecksumSize}));
}

// The body of a record, or false when its checksum or length is wrong.
inline bool unseal(std::string_view key, std::string_view record, std::string_view& body) {
  if (record.size() < kChecksumSize) return false;
  body = record.substr(kChecksumSize);
  return get_u32(record.data()) == checksum(key, body);
}

}  // namespace coord::store::schema
