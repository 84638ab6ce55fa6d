#include "replica/store/batch_apply.h"

#include <algorithm>
#include <cstring>

#include "common/base/check.h"

namespace coord::store {

using schema::Key;

const char* follow(State& state, const Batch& batch) {
  schema::Positions& at = state.positions;
  for (const LogEntry& entry : batch.append) {
    if (entry.previous != at.last_logged) return "gap in the log";
    if (entry.zxid <= at.last_logged) return "zxids ascend";
    if (entry.payload == nullptr) return "an entry has a payload";
    if (entry.zxid.epoch() > state.epochs.current) return "entries of an epoch not adopted";
    at.last_logged = entry.zxid;
  }
  if (batch.commit_hint) {
    if (*batch.commit_hint > at.last_logged) return "committed beyond the log";
    at.commit_hint = std::max(at.commit_hint, *batch.commit_hint);
  }
  if (batch.fold) {
    if (batch.fold->tree_durable < at.tree_durable) return "the tree does not go back";
    if (batch.fold->tree_durable > at.last_logged) return "the tree is ahead of the log";
    at.tree_durable = batch.fold->tree_durable;
    at.commit_hint = std::max(at.commit_hint, at.tree_durable);
  }
  return nullptr;
}

// One cursor serves all appends, truncations and purges of a transaction.
Cursor* BatchApply::log_cursor(int& rc) {
  rc = 0;
  if (!log_cursor_) {
    log_cursor_ = std::make_unique<Cursor>();
    rc = log_cursor_->open(txn_, dbs_.log);
  }
  return log_cursor_.get();
}

int BatchApply::apply(Batch& batch) {
  int rc = 0;
  // A cluster that nothing was ever logged in may have failed to come about; its name binds nobody.
  const bool bound = !state_.identity.cluster_id.empty() && state_.positions.last_logged != Zxid{};
  if (batch.install_snapshot) rc = install();
  if (rc == 0 && batch.truncate_after) rc = truncate(*batch.truncate_after);
  for (std::size_t i = 0; rc == 0 && i < batch.append.size(); ++i) rc = append(batch.append[i]);
  if (rc == 0 && batch.epochs) {
    COORD_CHECK_MSG(batch.epochs->accepted >= state_.epochs.accepted, "a promise is not taken back");
    COORD_CHECK_MSG(batch.epochs->current >= state_.epochs.current, "an adopted epoch is not given up");
    COORD_CHECK_MSG(batch.epochs->accepted >= batch.epochs->current, "an epoch is promised before it is adopted");
    state_.epochs = *batch.epochs;
    rc = write_epochs(txn_, dbs_.meta, state_.epochs);
  }
  if (rc == 0 && batch.identity) {
    COORD_CHECK_MSG(!bound || state_.identity.cluster_id == batch.identity->cluster_id,
                    "a directory belongs to one cluster for ever");
    COORD_CHECK_MSG(valid_cluster_id(batch.identity->cluster_id), "a cluster id is 32 hexadecimal digits");
    COORD_CHECK_MSG(batch.identity->secret.size() == schema::kSecretSize, "the secret has 32 bytes");
    state_.identity.cluster_id = batch.identity->cluster_id;
    state_.identity.secret = batch.identity->secret;
    rc = write_identity(txn_, dbs_.meta, state_.identity);
  }
  if (rc == 0 && batch.repaired) rc = write_damaged(txn_, dbs_.meta, false);
  if (rc == 0 && batch.commit_hint) {
    COORD_CHECK_MSG(*batch.commit_hint <= state_.positions.last_logged, "committed beyond the log");
    state_.positions.commit_hint = std::max(state_.positions.commit_hint, *batch.commit_hint);
  }
  if (rc == 0 && batch.fold) rc = fold(*batch.fold);
  return rc;
}

// What was staged is the tree from here on; the log is empty and begins behind it.
int BatchApply::install() {
  COORD_CHECK_MSG(state_.staged != Zxid{}, "a snapshot is installed that was not staged");
  log_cursor_.reset();
  int rc = mdb_drop(txn_, dbs_.log, 0);
  dbs_.swap_slots();
  if (rc == 0) rc = write_slot(txn_, dbs_.meta, dbs_.slot);
  state_.positions = {state_.staged, state_.staged, state_.staged, state_.staged};
  state_.staged = Zxid{};
  installed_ = true;
  return rc;
}

int BatchApply::truncate(Zxid after) {
  schema::Positions& at = state_.positions;
  COORD_CHECK_MSG(after >= std::max(at.tree_durable, at.commit_hint), "refusing to truncate what was committed");
  if (after >= at.last_logged) return 0;
  int rc = 0;
  Cursor* cursor = log_cursor(rc);
  if (rc != 0) return rc;
  MDB_val key{};
  MDB_val value{};
  Zxid last = at.tree_durable;  // if nothing is left
  while ((rc = cursor->get(key, value, MDB_LAST)) == 0) {
    last = Zxid{schema::get_u64(static_cast<const char*>(key.mv_data))};
    if (last <= after) break;
    last = at.tree_durable;
    if ((rc = cursor->del()) != 0) return rc;
  }
  if (rc != 0 && rc != MDB_NOTFOUND) return rc;
  COORD_CHECK_MSG(last == after, "truncating to a position that the log does not have");
  at.last_logged = last;
  return 0;
}

int BatchApply::append(const LogEntry& entry) {
  schema::Positions& at = state_.positions;
  COORD_CHECK_MSG(entry.previous == at.last_logged, "gap in the log");
  COORD_CHECK_MSG(entry.zxid > at.last_logged, "zxids ascend");
  COORD_CHECK_MSG(entry.payload != nullptr, "an entry has a payload");
  int rc = 0;
  Cursor* cursor = log_cursor(rc);
  if (rc != 0) return rc;
  const Key number(entry.zxid);
  MDB_val key = to_val(number.view());
  MDB_val value{schema::kLogHeaderSize + entry.payload->size(), nullptr};
  if ((rc = cursor->put(key, value, MDB_APPEND | MDB_RESERVE)) != 0) return rc;
  auto* record = static_cast<char*>(value.mv_data);
  schema::put_u64(record + schema::kChecksumSize, entry.previous.value);
  if (!entry.payload->empty()) {
    std::memcpy(record + schema::kLogHeaderSize, entry.payload->data(), entry.payload->size());
  }
  schema::seal(number.view(), record, value.mv_size);
  at.last_logged = entry.zxid;
  ++entries_;
  return 0;
}

template <class Id>
int BatchApply::fold_into(MDB_dbi dbi, std::vector<std::pair<Id, std::optional<std::string>>>& changes) {
  if (changes.empty()) return 0;
  // In key order, each leaf is visited once.
  std::sort(changes.begin(), changes.end(), [](const auto& a, const auto& b) {
    return static_cast<std::uint64_t>(a.first.value) < static_cast<std::uint64_t>(b.first.value);
  });
  Cursor cursor;
  if (const int rc = cursor.open(txn_, dbi); rc != 0) return rc;
  for (const auto& [id, body] : changes) {
    const Key number(id);
    MDB_val key = to_val(number.view());
    if (!body) {
      MDB_val unused{};
      int rc = cursor.get(key, unused, MDB_SET);
      if (rc == MDB_NOTFOUND) continue;  // came and went between two folds
      if (rc == 0) rc = cursor.del();
      if (rc != 0) return rc;
      continue;
    }
    MDB_val value{schema::kChecksumSize + body->size(), nullptr};
    if (const int rc = cursor.put(key, value, MDB_RESERVE); rc != 0) return rc;
    auto* record = static_cast<char*>(value.mv_data);
    if (!body->empty()) std::memcpy(record + schema::kChecksumSize, body->data(), body->size());
    schema::seal(number.view(), record, value.mv_size);
  }
  return 0;
}

int BatchApply::fold(FoldRecord& record) {
  schema::Positions& at = state_.positions;
  COORD_CHECK_MSG(record.tree_durable >= at.tree_durable, "the tree does not go back");
  if (record.tree_durable > at.last_logged) {
    // A tree from elsewhere replaces a log that ends before it; only with nothing logged is that the same history.
    MDB_stat stat{};
    mdb_stat(txn_, dbs_.log, &stat);
    COORD_CHECK_MSG(stat.ms_entries == 0, "the tree is ahead of the log");
    at.last_logged = at.log_floor = record.tree_durable;
  }
  at.tree_durable = record.tree_durable;
  at.commit_hint = std::max(at.commit_hint, record.tree_durable);  // the tree holds what was committed, nothing else
  int rc = fold_into(dbs_.node, record.nodes);
  if (rc == 0) rc = fold_into(dbs_.session, record.sessions);
  if (rc == 0) rc = put_record(txn_, dbs_.meta, counters_key(dbs_.slot), record.counters);
  folded_nodes_ += record.nodes.size();
  return rc;
}

int BatchApply::purge(const PurgeLimits& limits) {
  schema::Positions& at = state_.positions;
  // Nor above the tree as others see it until this is committed: a source opened now pins that one.
  Zxid ceiling = std::min({at.commit_hint, at.tree_durable, limits.ceiling, before_.positions.tree_durable});
  std::uint64_t bytes = 0;
  const auto too_much = [&] {
    MDB_stat stat{};
    mdb_stat(txn_, dbs_.log, &stat);
    bytes = (stat.ms_leaf_pages + stat.ms_branch_pages + stat.ms_overflow_pages) * page_size_;
    return stat.ms_entries > limits.keep_entries || bytes > limits.keep_bytes;
  };
  if (!too_much()) return 0;
  if (bytes <= limits.bytes_most) ceiling = std::min(ceiling, limits.old);
  int rc = 0;
  Cursor* cursor = log_cursor(rc);
  if (rc != 0) return rc;
  MDB_val key{};
  MDB_val value{};
  // After a deletion the cursor stands on the next entry, which MDB_NEXT then returns.
  MDB_cursor_op op = MDB_FIRST;
  for (std::uint64_t i = 0; i < limits.slice && too_much(); ++i, op = MDB_NEXT) {
    rc = cursor->get(key, value, op);
    if (rc == MDB_NOTFOUND) return 0;
    if (rc != 0) return rc;
    const Zxid zxid{schema::get_u64(static_cast<const char*>(key.mv_data))};
    if (zxid > ceiling) return 0;
    if ((rc = cursor->del()) != 0) return rc;
    at.log_floor = zxid;
  }
  return 0;
}

int BatchApply::finish() {
  log_cursor_.reset();
  COORD_CHECK_MSG(state_.epochs.current >= state_.positions.last_logged.epoch(), "entries of an epoch not adopted");
  return state_.positions == before_.positions ? 0 : write_positions(txn_, dbs_.meta, state_.positions);
}

}  // namespace coord::store
