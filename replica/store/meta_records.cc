#include "replica/store/meta_records.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

namespace coord::store {

namespace {

using schema::get_u32;
using schema::get_u64;
using schema::put_u32;
using schema::put_u64;

constexpr const char* kRestore = "; restore the directory from a backup, or remove it and join anew";

Fault damaged(std::string_view key, const std::string& what) {
  return {"record meta/" + std::string(key) + " " + what + kRestore};
}

// The body of a meta record of exactly `size` bytes (0: any).
Result<std::string, Fault> read_record(MDB_txn* txn, MDB_dbi meta, std::string_view key, std::size_t size) {
  MDB_val k = to_val(key);
  MDB_val v{};
  const int rc = mdb_get(txn, meta, &k, &v);
  if (rc == MDB_NOTFOUND) return fail(damaged(key, "is missing"));
  if (rc != 0) return fail(damaged(key, "cannot be read: " + lmdb_text(rc)));
  std::string_view body;
  if (!schema::unseal(key, to_view(v), body)) return fail(damaged(key, "is damaged: its checksum is wrong"));
  if (size != 0 && body.size() != size) return fail(damaged(key, "is damaged: its length is wrong"));
  return std::string(body);
}

Result<Epochs, Fault> read_epochs(MDB_txn* txn, MDB_dbi meta) {
  std::array<Epochs, 2> copies;
  const std::array<std::string_view, 2> keys = {schema::kEpochs1, schema::kEpochs2};
  for (std::size_t i = 0; i < copies.size(); ++i) {
    auto body = read_record(txn, meta, keys[i], schema::kEpochsSize);
    if (!body) return fail(std::move(body.error()));
    copies[i] = {get_u32(body->data()), get_u32(body->data() + 4), Sid{get_u32(body->data() + 8)}};
  }
  if (copies[0].accepted != copies[1].accepted || copies[0].current != copies[1].current ||
      copies[0].accepted_from != copies[1].accepted_from) {
    return fail(damaged(schema::kEpochs1, "and its copy differ: a promise may have been forgotten"));
  }
  return copies[0];
}

// The first and last key of the log against the positions; empty: nothing logged that was not purged.
Result<bool, Fault> check_log_ends(MDB_txn* txn, MDB_dbi log, const Meta& meta) {
  Cursor cursor;
  if (const int rc = cursor.open(txn, log); rc != 0) return fail(Fault{"cannot read the log: " + lmdb_text(rc)});
  MDB_val key{};
  MDB_val value{};
  int rc = cursor.get(key, value, MDB_LAST);
  if (rc == MDB_NOTFOUND) {
    if (meta.last_logged == meta.tree_durable) return true;
    return fail(Fault{"the log is empty, but should end at " + to_string(meta.last_logged) + kRestore});
  }
  if (rc != 0) return fail(Fault{"cannot read the log: " + lmdb_text(rc)});
  if (key.mv_size != schema::kKeySize) return fail(Fault{std::string("the log holds a foreign key") + kRestore});
  const Zxid last{get_u64(static_cast<const char*>(key.mv_data))};
  if (last != meta.last_logged) {
    return fail(
        Fault{"the log ends at " + to_string(last) + ", but should end at " + to_string(meta.last_logged) + kRestore});
  }
  rc = cursor.get(key, value, MDB_FIRST);
  if (rc != 0) return fail(Fault{"cannot read the log: " + lmdb_text(rc)});
  const Zxid first{get_u64(static_cast<const char*>(key.mv_data))};
  if (first <= meta.log_floor) {
    return fail(
        Fault{"the log begins at " + to_string(first) + ", below its floor " + to_string(meta.log_floor) + kRestore});
  }
  return true;
}

// The last key of each epoch, by looking for the first of the next one.
Result<std::vector<Zxid>, Fault> read_epoch_ends(MDB_txn* txn, MDB_dbi log) {
  std::vector<Zxid> ends;
  Cursor cursor;
  MDB_val key{};
  MDB_val value{};
  int rc = cursor.open(txn, log);
  if (rc == 0) rc = cursor.get(key, value, MDB_FIRST);
  while (rc == 0) {
    const Zxid here{get_u64(static_cast<const char*>(key.mv_data))};
    const schema::Key next(Zxid{here.epoch() + 1, 0});
    key = to_val(next.view());
    rc = here.epoch() == 0xffffffff ? MDB_NOTFOUND : cursor.get(key, value, MDB_SET_RANGE);
    const bool at_end = rc == MDB_NOTFOUND;
    if (at_end || rc == 0) rc = cursor.get(key, value, at_end ? MDB_LAST : MDB_PREV);
    if (rc != 0) break;
    ends.push_back(Zxid{get_u64(static_cast<const char*>(key.mv_data))});
    if (at_end) return ends;
    rc = cursor.get(key, value, MDB_NEXT);
  }
  if (rc != MDB_NOTFOUND) return fail(Fault{"cannot read the log: " + lmdb_text(rc)});
  return ends;
}

Result<bool, Fault> check_relations(const Meta& meta) {
  const bool positions = meta.log_floor <= meta.tree_durable && meta.tree_durable <= meta.commit_hint &&
                         meta.commit_hint <= meta.last_logged;
  if (!positions) return fail(damaged(schema::kPositions, "contradicts itself"));
  if (meta.epochs.accepted < meta.epochs.current || meta.epochs.current < meta.last_logged.epoch()) {
    return fail(damaged(schema::kEpochs1, "contradicts the log"));
  }
  return true;
}

bool random_bytes(char* to, std::size_t size) {
  while (size > 0) {
    const ssize_t got = ::getrandom(to, size, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    to += got;
    size -= static_cast<std::size_t>(got);
  }
  return true;
}

}  // namespace

int open_databases(MDB_txn* txn, unsigned flags, Databases& dbs) {
  int rc = mdb_dbi_open(txn, schema::kMetaDb, flags, &dbs.meta);
  if (rc == 0) rc = mdb_dbi_open(txn, schema::kLogDb, flags, &dbs.log);
  if (rc == 0) rc = mdb_dbi_open(txn, schema::kNodeDb, flags, &dbs.node);
  if (rc == 0) rc = mdb_dbi_open(txn, schema::kSessionDb, flags, &dbs.session);
  if (rc == 0) rc = mdb_dbi_open(txn, schema::kNodeDb1, flags, &dbs.other_node);
  if (rc == 0) rc = mdb_dbi_open(txn, schema::kSessionDb1, flags, &dbs.other_session);
  if (rc == MDB_NOTFOUND && dbs.session != 0) rc = 0;  // of version 1; an upgrade makes them
  dbs.slot = 0;
  if (rc != 0) return rc;
  std::uint8_t slot = 0;
  static_cast<void>(read_slot(txn, dbs.meta, slot));  // read_meta names the damage
  if (slot == 1) dbs.swap_slots();
  return 0;
}

Result<Meta, Fault> read_meta(MDB_txn* txn, const Databases& dbs, std::optional<std::string>* broken_log) {
  const auto format = read_record(txn, dbs.meta, schema::kFormat, 4);
  if (!format) return fail(format.error());
  const auto version = get_u32(format->data());
  if (version != schema::kFormatVersion && version != schema::kFormatWithJournal) {
    return fail(Fault{"has format version " + std::to_string(version) + ", this program knows " +
                      std::to_string(schema::kFormatWithJournal) + "; use the program that wrote it"});
  }
  const auto identity = read_record(txn, dbs.meta, schema::kIdentity, 0);
  if (!identity) return fail(identity.error());
  const auto secret = read_record(txn, dbs.meta, schema::kSecret, 0);
  if (!secret) return fail(secret.error());
  constexpr std::size_t kVirginSize = 4 + schema::kDirectoryIdSize;
  const bool virgin = identity->size() == kVirginSize && secret->empty();
  const bool member = identity->size() == kVirginSize + schema::kClusterIdSize &&
                      secret->size() == schema::kSecretSize;
  if (!virgin && !member) return fail(damaged(schema::kIdentity, "is damaged: its length is wrong"));
  const auto epochs = read_epochs(txn, dbs.meta);
  if (!epochs) return fail(epochs.error());
  const auto positions = read_record(txn, dbs.meta, schema::kPositions, schema::kPositionsSize);
  if (!positions) return fail(positions.error());
  std::uint8_t slot = 0;
  if (const int rc = read_slot(txn, dbs.meta, slot); rc != 0) {
    return fail(damaged(schema::kSlot, "is damaged: its checksum is wrong"));
  }

  Meta meta;
  meta.sid = Sid{get_u32(identity->data())};
  meta.directory_id = identity->substr(4, schema::kDirectoryIdSize);
  meta.cluster_id = identity->substr(kVirginSize);
  meta.secret = *secret;
  meta.epochs = *epochs;
  schema::Positions at;
  static_cast<void>(read_positions(txn, dbs.meta, at));  // it was read already
  meta.tree_durable = at.tree_durable;
  meta.commit_hint = at.commit_hint;
  meta.log_floor = at.log_floor;
  meta.last_logged = at.last_logged;
  if (auto checked = check_relations(meta); !checked) return fail(std::move(checked.error()));
  auto checked = check_log_ends(txn, dbs.log, meta);
  auto ends = checked ? read_epoch_ends(txn, dbs.log) : fail(checked.error());
  if (!ends && broken_log == nullptr) return fail(std::move(ends.error()));
  if (ends) {
    meta.epoch_ends = std::move(*ends);
  } else {
    *broken_log = ends.error().message;
  }
  MDB_val key = to_val(schema::kDamaged);
  MDB_val value{};
  meta.damaged = mdb_get(txn, dbs.meta, &key, &value) == 0;
  return meta;
}

Result<Meta, Fault> make_meta(Sid sid) {
  Meta meta;
  meta.sid = sid;
  meta.directory_id.resize(schema::kDirectoryIdSize);
  if (!random_bytes(meta.directory_id.data(), meta.directory_id.size())) {
    return fail(Fault{"no random numbers to be had from the system"});
  }
  return meta;
}

bool valid_cluster_id(std::string_view id) {
  const auto hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  return id.size() == schema::kClusterIdSize && std::all_of(id.begin(), id.end(), hex);
}

bool is_version_1(MDB_txn* txn, const Databases& dbs) {
  const auto format = read_record(txn, dbs.meta, schema::kFormat, 4);
  return format && get_u32(format->data()) == 1;
}

int upgrade_meta(MDB_txn* txn, const Databases& dbs) {
  if (!is_version_1(txn, dbs)) return 0;
  const auto identity = read_record(txn, dbs.meta, schema::kIdentity, 4 + schema::kClusterIdSize);
  const auto secret = read_record(txn, dbs.meta, schema::kSecret, schema::kSecretSize);
  const auto first = read_record(txn, dbs.meta, schema::kEpochs1, 8);
  const auto second = read_record(txn, dbs.meta, schema::kEpochs2, 8);
  // Something is damaged: what reads it next says what.
  if (!identity || !secret || !first || !second || *first != *second) return 0;
  auto meta = make_meta(Sid{get_u32(identity->data())});
  if (!meta) return EIO;
  meta->cluster_id = identity->substr(4);
  meta->secret = *secret;
  meta->epochs = {get_u32(first->data()), get_u32(first->data() + 4), Sid{}};
  std::array<char, 4> version{};
  put_u32(version.data(), schema::kFormatVersion);
  int rc = put_record(txn, dbs.meta, schema::kFormat, {version.data(), version.size()});
  if (rc == 0) rc = write_identity(txn, dbs.meta, *meta);
  if (rc == 0) rc = write_epochs(txn, dbs.meta, meta->epochs);
  return rc;
}

Result<JournalMark, Fault> read_mark(MDB_txn* txn, MDB_dbi meta) {
  const auto format = read_record(txn, meta, schema::kFormat, 4);
  if (!format) return fail(format.error());
  JournalMark mark;
  MDB_val key = to_val(schema::kJournal);
  MDB_val value{};
  if (mdb_get(txn, meta, &key, &value) != MDB_NOTFOUND) {
    const auto body = read_record(txn, meta, schema::kJournal, schema::kMarkSize);
    if (!body) return fail(body.error());
    mark.open = (*body)[0] != 0;
    mark.id = body->substr(1, schema::kJournalIdSize);
    mark.sequence = get_u64(body->data() + 1 + schema::kJournalIdSize);
  }
  if (mark.open != (get_u32(format->data()) == schema::kFormatWithJournal)) {
    return fail(damaged(schema::kJournal, "contradicts the format version"));
  }
  return mark;
}

std::optional<std::string> fresh_journal_id() {
  std::string id(schema::kJournalIdSize, '\0');
  if (!random_bytes(id.data(), id.size())) return std::nullopt;
  return id;
}

int put_record(MDB_txn* txn, MDB_dbi dbi, std::string_view key, std::string_view body, unsigned flags) {
  MDB_val k = to_val(key);
  MDB_val v{schema::kChecksumSize + body.size(), nullptr};
  if (const int rc = mdb_put(txn, dbi, &k, &v, flags | MDB_RESERVE); rc != 0) return rc;
  auto* record = static_cast<char*>(v.mv_data);
  if (!body.empty()) std::memcpy(record + schema::kChecksumSize, body.data(), body.size());
  schema::put_u32(record, schema::checksum(key, body));
  return 0;
}

int write_epochs(MDB_txn* txn, MDB_dbi meta, const Epochs& epochs) {
  std::array<char, schema::kEpochsSize> body{};
  put_u32(body.data(), epochs.accepted);
  put_u32(body.data() + 4, epochs.current);
  put_u32(body.data() + 8, epochs.accepted_from.value);
  const int rc = put_record(txn, meta, schema::kEpochs1, {body.data(), body.size()});
  return rc != 0 ? rc : put_record(txn, meta, schema::kEpochs2, {body.data(), body.size()});
}

int read_positions(MDB_txn* txn, MDB_dbi meta, schema::Positions& positions) {
  const auto body = read_record(txn, meta, schema::kPositions, schema::kPositionsSize);
  if (!body) return MDB_CORRUPTED;
  positions = {Zxid{get_u64(body->data())}, Zxid{get_u64(body->data() + 8)}, Zxid{get_u64(body->data() + 16)},
               Zxid{get_u64(body->data() + 24)}};
  return 0;
}

int write_positions(MDB_txn* txn, MDB_dbi meta, const schema::Positions& positions) {
  std::array<char, schema::kPositionsSize> body{};
  put_u64(body.data(), positions.tree_durable.value);
  put_u64(body.data() + 8, positions.commit_hint.value);
  put_u64(body.data() + 16, positions.log_floor.value);
  put_u64(body.data() + 24, positions.last_logged.value);
  return put_record(txn, meta, schema::kPositions, {body.data(), body.size()});
}

int write_identity(MDB_txn* txn, MDB_dbi meta, const Meta& identity) {
  std::string body(4, '\0');
  put_u32(body.data(), identity.sid.value);
  body += identity.directory_id + identity.cluster_id;
  const int rc = put_record(txn, meta, schema::kIdentity, body);
  return rc != 0 ? rc : put_record(txn, meta, schema::kSecret, identity.secret);
}

int read_slot(MDB_txn* txn, MDB_dbi meta, std::uint8_t& slot) {
  MDB_val key = to_val(schema::kSlot);
  MDB_val value{};
  slot = 0;
  const int rc = mdb_get(txn, meta, &key, &value);
  if (rc == MDB_NOTFOUND) return 0;
  std::string_view body;
  if (rc != 0 || !schema::unseal(schema::kSlot, to_view(value), body) || body.size() != 1) return MDB_CORRUPTED;
  if (body[0] != 0 && body[0] != 1) return MDB_CORRUPTED;
  slot = static_cast<std::uint8_t>(body[0]);
  return 0;
}

int write_slot(MDB_txn* txn, MDB_dbi meta, std::uint8_t slot) {
  const char body = static_cast<char>(slot);
  return put_record(txn, meta, schema::kSlot, {&body, 1});
}

int write_damaged(MDB_txn* txn, MDB_dbi meta, bool is_damaged) {
  if (is_damaged) return put_record(txn, meta, schema::kDamaged, {});
  MDB_val key = to_val(schema::kDamaged);
  const int rc = mdb_del(txn, meta, &key, nullptr);
  return rc == MDB_NOTFOUND ? 0 : rc;
}

int write_mark(MDB_txn* txn, MDB_dbi meta, const JournalMark& mark) {
  static_assert(schema::kJournalIdSize == journal::kIdSize);
  std::array<char, 4> version{};
  put_u32(version.data(), mark.open ? schema::kFormatWithJournal : schema::kFormatVersion);
  std::string body(schema::kMarkSize, '\0');
  body[0] = mark.open ? 1 : 0;
  std::memcpy(body.data() + 1, mark.id.data(), std::min(mark.id.size(), schema::kJournalIdSize));
  put_u64(body.data() + 1 + schema::kJournalIdSize, mark.sequence);
  const int rc = put_record(txn, meta, schema::kJournal, body);
  return rc != 0 ? rc : put_record(txn, meta, schema::kFormat, {version.data(), version.size()});
}

int write_all_meta(MDB_txn* txn, const Databases& dbs, const Meta& meta) {
  std::array<char, 4> version{};
  put_u32(version.data(), schema::kFormatVersion);
  int rc = put_record(txn, dbs.meta, schema::kFormat, {version.data(), version.size()});
  if (rc == 0) rc = write_identity(txn, dbs.meta, meta);
  if (rc == 0) rc = write_epochs(txn, dbs.meta, meta.epochs);
  if (rc == 0) {
    rc = write_positions(txn, dbs.meta, {meta.tree_durable, meta.commit_hint, meta.log_floor, meta.last_logged});
  }
  return rc;
}

}  // namespace coord::store
