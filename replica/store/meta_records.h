// Reads, checks and writes the records of the meta database (schema.h).
#pragma once

#include <string>
#include <string_view>

#include "common/base/result.h"
#include "replica/store/lmdb_env.h"
#include "replica/store/schema.h"
#include "replica/store/store.h"

namespace coord::store {

struct Databases {
  MDB_dbi meta = 0;
  MDB_dbi log = 0;
  MDB_dbi node = 0;
  MDB_dbi session = 0;
};

// `flags`: MDB_CREATE or 0. MDB_NOTFOUND: there is no such database yet.
int open_databases(MDB_txn* txn, unsigned flags, Databases& dbs);

// All of it, each record checked, the records against each other and against the ends of the log. The message of a
// Fault names the record; the caller adds the directory.
Result<Meta, Fault> read_meta(MDB_txn* txn, const Databases& dbs);

// A fresh identity: a cluster id if none is given, and the secret.
Result<Meta, Fault> make_meta(Sid sid, const std::string& cluster_id);

// Return LMDB's code.
int write_all_meta(MDB_txn* txn, const Databases& dbs, const Meta& meta);
int write_epochs(MDB_txn* txn, MDB_dbi meta, const Epochs& epochs);
int write_positions(MDB_txn* txn, MDB_dbi meta, const schema::Positions& positions);
// One record of any database, built in place: checksum and body.
int put_record(MDB_txn* txn, MDB_dbi dbi, std::string_view key, std::string_view body);

}  // namespace coord::store
