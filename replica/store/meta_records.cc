#include "replica/store/meta_records.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

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
    auto body = read_record(txn, meta, keys[i], 8);
    if (!body) return fail(std::move(body.error()));
    copies[i] = {get_u32(body->data()), get_u32(body->data() + 4)};
  }
  if (copies[0].accepted != copies[1].accepted || copies[0].current != copies[1].current) {
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
  return rc;
}

Result<Meta, Fault> read_meta(MDB_txn* txn, const Databases& dbs) {
  const auto format = read_record(txn, dbs.meta, schema::kFormat, 4);
  if (!format) return fail(format.error());
  if (const auto version = get_u32(format->data()); version != schema::kFormatVersion) {
    return fail(Fault{"has format version " + std::to_string(version) + ", this program knows " +
                      std::to_string(schema::kFormatVersion) + "; use the program that wrote it"});
  }
  const auto identity = read_record(txn, dbs.meta, schema::kIdentity, 4 + schema::kClusterIdSize);
  if (!identity) return fail(identity.error());
  const auto secret = read_record(txn, dbs.meta, schema::kSecret, schema::kSecretSize);
  if (!secret) return fail(secret.error());
  const auto epochs = read_epochs(txn, dbs.meta);
  if (!epochs) return fail(epochs.error());
  const auto positions = read_record(txn, dbs.meta, schema::kPositions, schema::kPositionsSize);
  if (!positions) return fail(positions.error());

  Meta meta;
  meta.sid = Sid{get_u32(identity->data())};
  meta.cluster_id = identity->substr(4);
  meta.secret = *secret;
  meta.epochs = *epochs;
  meta.tree_durable = Zxid{get_u64(positions->data())};
  meta.commit_hint = Zxid{get_u64(positions->data() + 8)};
  meta.log_floor = Zxid{get_u64(positions->data() + 16)};
  meta.last_logged = Zxid{get_u64(positions->data() + 24)};
  if (auto checked = check_relations(meta); !checked) return fail(std::move(checked.error()));
  if (auto checked = check_log_ends(txn, dbs.log, meta); !checked) return fail(std::move(checked.error()));
  return meta;
}

Result<Meta, Fault> make_meta(Sid sid, const std::string& cluster_id) {
  Meta meta;
  meta.sid = sid;
  meta.cluster_id = cluster_id;
  meta.secret.resize(schema::kSecretSize);
  std::array<char, schema::kClusterIdSize / 2> random{};
  if (!random_bytes(meta.secret.data(), meta.secret.size()) || !random_bytes(random.data(), random.size())) {
    return fail(Fault{"no random numbers to be had from the system"});
  }
  if (meta.cluster_id.empty()) {
    for (const char c : random) {
      meta.cluster_id += "0123456789abcdef"[(static_cast<unsigned char>(c) >> 4) & 15];
      meta.cluster_id += "0123456789abcdef"[static_cast<unsigned char>(c) & 15];
    }
  }
  const auto hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  if (meta.cluster_id.size() != schema::kClusterIdSize ||
      !std::all_of(meta.cluster_id.begin(), meta.cluster_id.end(), hex)) {
    return fail(Fault{"a cluster id is 32 hexadecimal digits in lower case, not \"" + meta.cluster_id + "\""});
  }
  return meta;
}

int put_record(MDB_txn* txn, MDB_dbi dbi, std::string_view key, std::string_view body) {
  MDB_val k = to_val(key);
  MDB_val v{schema::kChecksumSize + body.size(), nullptr};
  if (const int rc = mdb_put(txn, dbi, &k, &v, MDB_RESERVE); rc != 0) return rc;
  auto* record = static_cast<char*>(v.mv_data);
  if (!body.empty()) std::memcpy(record + schema::kChecksumSize, body.data(), body.size());
  schema::put_u32(record, schema::checksum(key, body));
  return 0;
}

int write_epochs(MDB_txn* txn, MDB_dbi meta, const Epochs& epochs) {
  std::array<char, 8> body{};
  put_u32(body.data(), epochs.accepted);
  put_u32(body.data() + 4, epochs.current);
  const int rc = put_record(txn, meta, schema::kEpochs1, {body.data(), body.size()});
  return rc != 0 ? rc : put_record(txn, meta, schema::kEpochs2, {body.data(), body.size()});
}

int write_positions(MDB_txn* txn, MDB_dbi meta, const schema::Positions& positions) {
  std::array<char, schema::kPositionsSize> body{};
  put_u64(body.data(), positions.tree_durable.value);
  put_u64(body.data() + 8, positions.commit_hint.value);
  put_u64(body.data() + 16, positions.log_floor.value);
  put_u64(body.data() + 24, positions.last_logged.value);
  return put_record(txn, meta, schema::kPositions, {body.data(), body.size()});
}

int write_all_meta(MDB_txn* txn, const Databases& dbs, const Meta& meta) {
  std::array<char, 4> version{};
  put_u32(version.data(), schema::kFormatVersion);
  std::string identity(4, '\0');
  put_u32(identity.data(), meta.sid.value);
  identity += meta.cluster_id;
  int rc = put_record(txn, dbs.meta, schema::kFormat, {version.data(), version.size()});
  if (rc == 0) rc = put_record(txn, dbs.meta, schema::kIdentity, identity);
  if (rc == 0) rc = put_record(txn, dbs.meta, schema::kSecret, meta.secret);
  if (rc == 0) rc = write_epochs(txn, dbs.meta, meta.epochs);
  if (rc == 0) {
    rc = write_positions(txn, dbs.meta, {meta.tree_durable, meta.commit_hint, meta.log_floor, meta.last_logged});
  }
  return rc;
}

}  // namespace coord::store
