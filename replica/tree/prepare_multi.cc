// multi: client-protocol.md section 9. Decoded as a whole before anything is tried, each operation sees the effects of
// those before it, and a failure rolls all of them back.
#include "replica/tree/prepare_step.h"

namespace coord::tree {

using wire::Op;

namespace {

bool allowed_in_multi(Op op) { return is_create(op) || op == Op::kDelete || op == Op::kSetData || op == Op::kCheck; }

// False: something in it does not decode, or is not allowed in a multi, or has flags that no create knows. The
// reference refuses all of these while decoding, so that nothing of the multi is answered on its own.
bool decode_multi(std::string_view body, std::vector<StockOp>& out) {
  wire::Reader reader(body);
  for (;;) {
    const wire::MultiHeader header = wire::read_multi_header(reader);
    if (reader.failed()) return false;
    if (header.done) return true;
    const Op op = static_cast<Op>(header.type);
    if (!allowed_in_multi(op)) return false;
    if (!decode_stock(op, reader, out.emplace_back())) return false;
    if (is_create(op) && (out.back().flags < 0 || out.back().flags > 6)) return false;
  }
}

}  // namespace

Err Step::multi() {
  std::vector<StockOp> ops;
  if (!decode_multi(request_.body, ops)) return Err::kMarshallingError;
  txn_.multi_ops.reserve(ops.size());
  for (const StockOp& op : ops) txn_.multi_ops.push_back(op.op);
  txn_.changes.reserve(ops.size());

  overlay_.begin_multi();
  for (std::size_t i = 0; i < ops.size(); ++i) {
    const Err err = stock(ops[i]);
    if (err == Err::kOk) continue;
    overlay_.rollback_multi();
    txn_.changes.assign(ops.size(), ErrorTxn{Err::kRuntimeInconsistency});
    for (std::size_t before = 0; before < i; ++before) txn_.changes[before] = ErrorTxn{Err::kOk};
    txn_.changes[i] = ErrorTxn{err};
    return Err::kOk;
  }
  overlay_.commit_multi();
  return Err::kOk;
}

}  // namespace coord::tree
