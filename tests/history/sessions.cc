// Rules on sessions: nothing is served after the end, no ephemeral outlives its owner, nobody expires early.
#include "tests/history/index.h"

namespace coord::history {
namespace {

std::string session_text(std::int64_t id) {
  static const char* digits = "0123456789abcdef";
  std::string text;
  for (auto v = static_cast<std::uint64_t>(id); v != 0 || text.empty(); v >>= 4U) text.insert(0, 1, digits[v & 15U]);
  return "session 0x" + text;
}

bool nothing_after_the_end(Index& x) {
  for (const Session& s : x.sessions) {
    if (s.end_zxid != 0 && s.replied >= s.end_zxid) {
      return x.fail("served-after-end", session_text(s.id) + " ended at " + zxid_text(s.end_zxid) +
                    " and was answered at " + zxid_text(s.replied), {s.end_record, s.replied_record});
    }
    if (s.end_zxid == 0 && s.end_max < s.replied) {
      return x.fail("served-after-end", session_text(s.id) + " had ended by " + zxid_text(s.end_max) +
                    " and was answered at " + zxid_text(s.replied), {s.end_record, s.replied_record});
    }
  }
  return true;
}

bool expiry_in_time(Index& x) {
  for (const Session& s : x.sessions) {
    if (s.end_record == kNone || s.timeout_ns == 0 || s.touched_ns == kAlways) continue;
    const Record& end = x.records[s.end_record];
    if (end.kind != Kind::kSession || end.change != SessionChange::kExpired || s.close_tried) continue;
    if (end.ns - s.touched_ns >= s.timeout_ns - x.options.expiry_slack_ns) continue;
    const Operation& touch = x.operations[x.operation_of[s.touched_record]];
    return x.fail("early-expiry", session_text(s.id) + " expired " + std::to_string((end.ns - s.touched_ns) / 1000) +
                  " us after a request that was answered was sent; its timeout is " +
                  std::to_string(s.timeout_ns / 1000) + " us", {touch.inv, touch.end, s.end_record});
  }
  return true;
}

bool owners(Index& x) {
  for (const Effect& e : x.effects) {
    const Operation& op = x.operations[e.op];
    if (op.status != Status::kOk || !is_create(e.kind)) continue;
    if (e.answer != nullptr && e.answer->mzxid != 0 && e.answer->owner != e.owner) {
      return x.fail("owner", "a create by " + session_text(op.session) + " made a node of " +
                    (e.answer->owner == 0 ? "nobody" : session_text(e.answer->owner)), {op.inv, op.end});
    }
    if (e.owner == 0 || op.txn == 0) continue;
    const Session* s = x.session(e.owner);
    if (s != nullptr && op.txn > s->end_max) {
      return x.fail("create-after-end", "an ephemeral was created at " + zxid_text(op.txn) + ", after " +
                    session_text(s->id) + " had ended", {s->end_record, op.inv, op.end});
    }
  }
  for (const Operation& op : x.operations) {
    if (op.status != Status::kOk || !is_node_read(op.request->op) || op.zxid == 0) continue;
    if (op.answer->mzxid == 0 || op.answer->owner == 0) continue;
    const Session* s = x.session(op.answer->owner);
    if (s != nullptr && op.zxid >= s->end_max) {
      return x.fail("ephemeral-survived", "a read at " + zxid_text(op.zxid) + " shows an ephemeral of " +
                    session_text(s->id) + ", which had ended by " + zxid_text(s->end_max),
                    {s->end_record, op.inv, op.end});
    }
  }
  return true;
}

}  // namespace

bool check_sessions(Index& x) { return nothing_after_the_end(x) && owners(x) && expiry_in_time(x); }

}  // namespace coord::history
