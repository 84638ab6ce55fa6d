#include "tests/history/record.h"

#include "common/base/check.h"

namespace coord::history {

Record session_record(std::int64_t ns, std::uint32_t client, std::int64_t session, SessionChange change,
                      std::uint32_t replica, std::int64_t timeout_ns, std::uint64_t zxid) {
  Record r;
  r.kind = Kind::kSession;
  r.ns = ns;
  r.client = client;
  r.session = session;
  r.change = change;
  r.replica = replica;
  r.timeout_ns = timeout_ns;
  r.answer.zxid = zxid;
  return r;
}

void History::add(Record record) {
  if (record.kind == Kind::kInv) {
    invoked_.emplace(record.id, records_.size());
    if (record.id > last_id_) last_id_ = record.id;
  }
  records_.push_back(std::move(record));
}

std::uint64_t History::invoke(std::int64_t ns, std::uint32_t client, std::int64_t session, Request request) {
  Record r;
  r.kind = Kind::kInv;
  r.ns = ns;
  r.client = client;
  r.session = session;
  r.id = last_id_ + 1;
  r.request = std::move(request);
  add(std::move(r));
  return last_id_;
}

void History::answer(Kind kind, std::int64_t ns, std::uint64_t id, Answer answer) {
  const auto found = invoked_.find(id);
  COORD_CHECK_MSG(found != invoked_.end(), "an answer to an operation that was not invoked");
  Record r;
  r.kind = kind;
  r.ns = ns;
  r.client = records_[found->second].client;
  r.session = records_[found->second].session;
  r.id = id;
  r.answer = std::move(answer);
  records_.push_back(std::move(r));
}

void History::ok(std::int64_t ns, std::uint64_t id, Answer told) { answer(Kind::kOk, ns, id, std::move(told)); }
void History::fail(std::int64_t ns, std::uint64_t id, Answer told) { answer(Kind::kFail, ns, id, std::move(told)); }
void History::info(std::int64_t ns, std::uint64_t id) { answer(Kind::kInfo, ns, id, {}); }

void History::event(std::int64_t ns, std::uint32_t client, std::int64_t session, WatchType type, std::string path,
                    std::uint64_t zxid) {
  Record r;
  r.kind = Kind::kEvent;
  r.ns = ns;
  r.client = client;
  r.session = session;
  r.event = type;
  r.request.path = std::move(path);
  r.answer.zxid = zxid;
  add(std::move(r));
}

void History::fault(std::int64_t ns, std::string note) {
  Record r;
  r.kind = Kind::kFault;
  r.ns = ns;
  r.note = std::move(note);
  add(std::move(r));
}

void History::clear() {
  records_.clear();
  invoked_.clear();
  last_id_ = 0;
}

}  // namespace coord::history
