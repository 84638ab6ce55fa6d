// Reads, checks and writes the records of the meta database (schema.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "common/base/result.h"
#include "replica/store/journal.h"
#include "replica/store/lmdb_env.h"
#include "replica/store/schema.h"
#include "replica/store/store.h"

namespace coord::store {

struct Databases {
  MDB_dbi meta = 0;
  MDB_dbi log = 0;
  MDB_dbi node = 0;     // of the tree
  MDB_dbi session = 0;
  MDB_dbi other_node = 0;     // where a snapshot is staged
  MDB_dbi other_session = 0;
  std::uint8_t slot = 0;      // which is which

  void swap_slots() {
    std::swap(node, other_node);
    std::swap(session, other_session);
    slot ^= 1;
  }
};

inline std::string_view counters_key(std::uint8_t slot) {
  return slot == 0 ? schema::kCounters : schema::kCounters1;
}


// `flags`: MDB_CREATE or 0. MDB_NOTFOUND: there is no such database yet.
int open_databases(MDB_txn* txn, unsigned flags, Databases& dbs);

// All of it, each record checked, the records against each other and against the ends of the log. The message of a
// Fault names the record; the caller adds the directory.
// `broken_log`, if given, takes what is wrong with the log's ends, which is then no Fault: for who will empty the log.
Result<Meta, Fault> read_meta(MDB_txn* txn, const Databases& dbs, std::optional<std::string>* broken_log = nullptr);

// A fresh directory: virgin.
Result<Meta, Fault> make_meta(Sid sid);
// Version 1 becomes the present one. Returns LMDB's code, or 0; anything but version 1 is left alone.
bool is_version_1(MDB_txn* txn, const Databases& dbs);
int upgrade_meta(MDB_txn* txn, const Databases& dbs);
bool valid_cluster_id(std::string_view id);
// Where the database stands with the journal. Its checksum is wrong, or it contradicts the format version: a Fault.
Result<JournalMark, Fault> read_mark(MDB_txn* txn, MDB_dbi meta);
std::optional<std::string> fresh_journal_id();  // nullopt: no random numbers to be had

// Return LMDB's code.
int write_all_meta(MDB_txn* txn, const Databases& dbs, const Meta& meta);
int write_identity(MDB_txn* txn, MDB_dbi meta, const Meta& identity);
// MDB_CORRUPTED: its checksum is wrong; which of the two is the tree cannot be told then.
int read_slot(MDB_txn* txn, MDB_dbi meta, std::uint8_t& slot);
int write_slot(MDB_txn* txn, MDB_dbi meta, std::uint8_t slot);
int write_damaged(MDB_txn* txn, MDB_dbi meta, bool damaged);
int write_mark(MDB_txn* txn, MDB_dbi meta, const JournalMark& mark);  // and the format version that goes with it
int write_epochs(MDB_txn* txn, MDB_dbi meta, const Epochs& epochs);
// MDB_CORRUPTED: its checksum is wrong.
int read_positions(MDB_txn* txn, MDB_dbi meta, schema::Positions& positions);
int write_positions(MDB_txn* txn, MDB_dbi meta, const schema::Positions& positions);
// One record of any database, built in place: checksum and body.
int put_record(MDB_txn* txn, MDB_dbi dbi, std::string_view key, std::string_view body, unsigned flags = 0);

}  // namespace coord::store
