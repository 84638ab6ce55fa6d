#include "tests/replica/store/power_cut_life.h"

#include <algorithm>
#include <chrono>
#include <future>
#include <utility>

#include "replica/store/snapshot_pieces.h"

namespace coord::store::power_cut {

namespace {

constexpr auto kPatience = std::chrono::seconds(60);
constexpr std::size_t kPiece = 20'000;

Zxid next_of(Zxid last, std::uint32_t epoch) {
  return last.epoch() == epoch ? Zxid{epoch, last.counter() + 1} : Zxid{epoch, 1};
}

std::vector<std::string> pieces_of(const Tree& tree) {
  std::vector<std::string> pieces(1);
  SnapshotTotals totals;
  const auto put = [&](RecordKind kind, std::uint64_t key, const std::string& body) {
    if (pieces.back().size() > kPiece) pieces.emplace_back();
    put_record(kind, key, body, pieces.back(), totals);
  };
  for (const auto& [id, body] : tree.nodes) put(RecordKind::kNode, id, body);
  for (const auto& [id, body] : tree.sessions) put(RecordKind::kSession, static_cast<std::uint64_t>(id), body);
  put(RecordKind::kCounters, 0, tree.counters);
  put_end(totals, pieces.back());
  return pieces;
}

}  // namespace

Life::Life(Store& store, History& history, Recorder& recorder, Random& random, const Plan& plan)
    : store_(store), history_(history), recorder_(recorder), random_(random), plan_(plan) {
  store_.set_on_durable([this](std::uint64_t id) {
    recorder_.note(Note::kDurable, id);
    const std::lock_guard lock(mutex_);
    durable_ = id;
    changed_.notify_all();
  });
}

void Life::live(std::size_t steps) {
  for (std::size_t i = 0; i < steps && !stuck_; ++i) step();
  source_.reset();
  wait(history_.size());
}

void Life::step() {
  const Step& now = history_.last();
  const auto what = dice(100);
  if (now.epochs.current == 0) {
    newleader();
  } else if (!chance(plan_.other)) {
    entries();
  } else if (chance(plan_.snapshots)) {
    snapshot();
  } else if (what < 25) {
    newleader();
  } else if (what < 40) {
    Batch promise = batch();
    promise.epochs = now.epochs;
    promise.epochs->accepted += 1 + dice(2);
    promise.epochs->accepted_from = Sid{1 + dice(5)};
    submit(std::move(promise));
  } else if (what < 50) {
    Batch cut = batch();
    Zxid last = now.last;
    if (truncate(cut, last)) submit(std::move(cut));
  } else if (what < 60) {
    submit(batch());
  } else if (what < 80) {
    Batch settled = batch();
    if (chance(50)) fold(settled, now.last);
    if (!settled.fold || chance(50)) settled.commit_hint = now.last;
    submit(std::move(settled));
  } else {
    read();
  }
}

Batch Life::batch() const {
  Batch b;
  b.id = history_.size() + 1;
  return b;
}

// No two alike.
std::string Life::text() {
  std::string text = "entry " + std::to_string(random_()) + " ";
  const bool large = chance(plan_.large);
  text.resize(text.size() + dice(large ? 40'000 : 400), static_cast<char>('a' + dice(26)));
  return text;
}

void Life::append(Batch& to, Zxid last, std::uint32_t epoch) {
  const std::size_t count = 1 + dice(4);
  for (std::size_t i = 0; i < count; ++i) {
    const Zxid next = next_of(last, epoch);
    to.append.push_back({next, last, payload(text())});
    last = next;
  }
}

// `last` is where the log ends then. False: there is nothing that may go.
bool Life::truncate(Batch& to, Zxid& last) {
  const Step& now = history_.last();
  const std::vector<LogEntry>& log = *now.log;
  const Zxid settled = std::max(now.hint, now.tree->at);
  std::size_t kept = log.size();
  while (kept > 0 && (kept > 1 ? log[kept - 2].zxid : now.floor) >= settled && (kept == log.size() || chance(60))) {
    --kept;
  }
  if (kept == log.size()) return false;
  last = kept == 0 ? now.floor : log[kept - 1].zxid;
  to.truncate_after = last;
  return true;
}

void Life::fold(Batch& to, Zxid at) {
  to.fold = FoldRecord{};
  to.fold->tree_durable = at;
  to.fold->counters = "counters at " + to_string(at) + " " + std::to_string(random_());
  std::map<std::uint64_t, std::optional<std::string>> nodes;
  for (std::size_t n = 1 + dice(6); n > 0; --n) {
    nodes[1 + dice(60)] = chance(25) ? std::nullopt : std::optional(text());
  }
  for (auto& [id, body] : nodes) to.fold->nodes.emplace_back(NodeId{id}, std::move(body));
  if (chance(30)) to.fold->sessions.emplace_back(SessionId{1 + dice(5)}, text());
  if (chance(10)) to.fold->sessions.emplace_back(SessionId{6 + dice(5)}, std::nullopt);
}

// What a synchronization ends with: one step out of several.
void Life::newleader() {
  const Step& now = history_.last();
  Batch b = batch();
  Zxid last = now.last;
  if (chance(50)) truncate(b, last);
  const std::uint32_t epoch = now.epochs.accepted + 1;
  b.epochs = Epochs{epoch, epoch, Sid{1 + dice(5)}};
  if (now.identity.cluster_id.empty()) b.identity = Identity{std::string(32, 'c'), std::string(32, 's')};
  if (chance(50)) append(b, last, epoch);
  if (!b.append.empty() && chance(50)) b.commit_hint = b.append.back().zxid;
  submit(std::move(b));
}

void Life::entries() {
  const Step& now = history_.last();
  Batch b = batch();
  append(b, now.last, now.epochs.current);
  const Zxid last = b.append.back().zxid;
  if (chance(25)) b.commit_hint = chance(50) ? last : now.last;
  if (chance(20)) fold(b, chance(70) ? last : now.last);
  submit(std::move(b));
}

std::shared_ptr<const Tree> Life::stage(Zxid at) {
  auto tree = std::make_shared<Tree>();
  tree->at = at;
  tree->counters = "counters of a snapshot " + std::to_string(random_());
  const std::size_t nodes = 1 + dice(chance(20) ? 3000 : 300);
  for (std::size_t n = 0; n < nodes; ++n) {
    tree->nodes[1 + dice(5000)] = std::to_string(random_()) + std::string(60, 'n');
  }
  for (std::size_t n = dice(5); n > 0; --n) tree->sessions[1 + dice(10)] = std::to_string(random_());
  std::promise<Zxid> staged;
  store_.snapshot_begin(at);
  for (std::string& piece : pieces_of(*tree)) {
    store_.snapshot_piece(std::move(piece));
    if (chance(30)) entries();
  }
  store_.snapshot_end([&](Zxid zxid) { staged.set_value(zxid); });
  auto future = staged.get_future();
  if (future.wait_for(kPatience) != std::future_status::ready || future.get() != at) stuck_ = true;
  return tree;
}

void Life::snapshot() {
  const Zxid at{history_.last().epochs.current, history_.last().last.counter() + 1000};
  staged_ = stage(at);
  const bool dropped = chance(15);
  if (dropped) store_.snapshot_drop();
  if (stuck_ || chance(30)) return;  // it lies there, or does not
  if (dropped || chance(50)) staged_ = stage(at);
  if (chance(50)) entries();
  Batch b = batch();
  const Step& now = history_.last();
  if (stuck_ || now.last >= at) return;
  b.install_snapshot = true;
  if (chance(50)) {
    const std::uint32_t epoch = now.epochs.accepted + 1;
    b.epochs = Epochs{epoch, epoch, Sid{1 + dice(5)}};
    append(b, at, epoch);
  }
  submit(std::move(b));
}

void Life::read() {
  if (source_) {
    source_.reset();
  } else if (chance(50)) {
    source_ = store_.open_snapshot();
    if (!source_->next(1000)) stuck_ = true;
  } else {
    const Zxid last = history_.last().last;
    store_.read_log_later(Zxid{last.value - std::min<std::uint64_t>(last.value, 2)}, last, 10'000, [](const auto&) {});
  }
}

void Life::submit(Batch b) {
  const std::uint64_t id = b.id;
  history_.add(b, staged_);
  recorder_.note(Note::kSubmitted, id);
  store_.submit(std::move(b));
  if (chance(plan_.waits)) wait(id);
}

void Life::wait(std::uint64_t id) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, kPatience, [&] { return durable_ >= id; })) stuck_ = true;
}

}  // namespace coord::store::power_cut
