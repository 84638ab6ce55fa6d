#include "tests/sim/node.h"

#include <algorithm>
#include <sstream>
#include <utility>

#include "tests/replica/zab/members.h"
#include "tests/sim/describe.h"

namespace coord::sim {

using zab::testing::members_of;
using zab::testing::members_text;

namespace {
constexpr std::string_view kEnrol = "enrol ";

// One committed transaction; true: the list of enrolled directories, or that of the members, changed.
bool absorb(Tree& tree, const zab::LogEntry& entry) {
  tree.zxid = entry.zxid;
  tree.chain = Ghost::chain(tree.chain, entry.zxid, *entry.payload);
  ++tree.count;
  if (auto members = members_of(*entry.payload)) {
    for (const auto& [sid, directory] : members->joins) tree.enrolled[sid] = directory;
    std::erase_if(tree.enrolled, [&](const auto& one) { return !members->is_member(one.first); });
    tree.members = *std::move(members);
    tree.members.version = entry.zxid;
    tree.members.joins.clear();
    return true;
  }
  if (!entry.payload->starts_with(kEnrol)) return false;
  std::istringstream in(entry.payload->substr(kEnrol.size()));
  std::uint32_t sid = 0;
  std::string directory;
  while (in >> sid >> directory) tree.enrolled.try_emplace(Sid{sid}, directory);
  return true;
}
}  // namespace

Node::Node(Sid sid, NodeOptions options, Scheduler& scheduler, Random& random, Network& network, Ghost& ghost,
           NodeUser& user, Mutant mutant)
    : sid_(sid),
      options_(std::move(options)),
      scheduler_(scheduler),
      random_(random),
      network_(network),
      ghost_(ghost),
      user_(user),
      mutant_(mutant),
      disk_(scheduler, random, mutant, "directory-of-" + std::to_string(sid.value)),
      tick_us_(options_.tick_us) {
  options_.config.membership_of = members_of;
}

Node::~Node() = default;

std::int64_t Node::now_ms() const {
  const auto now = static_cast<double>(scheduler_.now_us()) * clock_rate_;
  return (static_cast<std::int64_t>(now) + clock_offset_us_) / 1000;
}

// --- life and death

void Node::boot() {
  graveyard_.clear();
  process_.reset();
  ++incarnation_;
  disk_.open(*this);
  const Image& image = disk_.visible();
  zab::DurableState durable;
  durable.accepted_epoch = image.accepted_epoch;
  durable.accepted_from = image.accepted_from;
  durable.current_epoch = image.current_epoch;
  durable.log = image.shape();
  durable.commit_hint = image.commit_hint;
  durable.directory_id = image.directory_id;
  durable.cluster_id = image.cluster_id;
  durable.secret = image.secret;
  durable.damaged = image.damaged;
  durable.fresh_cluster_id = std::string(31, 'c') + std::to_string(sid_.value % 10);
  durable.fresh_secret = std::string(31, 's') + std::to_string(sid_.value % 10);
  // The tree as of the commit hint is known before the core starts.
  Tree tree = image.tree;
  std::deque<zab::LogEntry> pending;
  for (const zab::LogEntry& entry : image.log) {
    if (entry.zxid > tree.zxid) pending.push_back(entry);
  }
  ghost_.installed(sid_, tree);
  ghost_.forget_questions(sid_);
  for (; !pending.empty() && pending.front().zxid <= image.commit_hint; pending.pop_front()) {
    ghost_.delivered(sid_, tree.count, pending.front());
    absorb(tree, pending.front());
  }
  durable.enrolled = tree.enrolled;
  durable.memberships = image.memberships();
  auto process = std::make_unique<Process>(options_.config, durable);
  process->tree = tree;
  process->folded = image.tree.zxid;
  process->hinted = image.commit_hint;
  process->pending = std::move(pending);
  for (const zab::LogEntry& entry : process->pending) {
    if (members_of(*entry.payload)) process->changes.push_back(entry.zxid);
  }
  process_ = std::move(process);
  network_.forget_addresses(sid_);
  network_.set_members(sid_, options_.config.voters.voters(), options_.config.observers);
  tell_network();
  user_.note("boot", sid_.value, image.last().value, process_->tree.zxid.value);
  step(zab::Start{now_ms()});
  if (!up()) return;
  network_.started(sid_);
  later(random_.between(0, tick_us_), [this] { tick(); });
}

void Node::set_file(const zab::Membership& members) {
  options_.config.voters = zab::Quorum{members.voters};
  options_.config.observers = members.observers;
  options_.config.observer = members.observers.contains(sid_);
}

zab::Membership Node::view() const {
  const zab::Membership& known = up() ? process_->tree.members : disk_.durable().tree.members;
  if (known.version != Zxid{}) return known;
  zab::Membership file;
  file.voters = options_.config.voters.voters();
  file.observers = options_.config.observers;
  return file;
}

// Who is dialed, as far as the log says.
void Node::tell_network() {
  const zab::Membership& members = process_->tree.members;
  std::set<Sid> voters = members.version == Zxid{} ? options_.config.voters.voters() : members.voters;
  // Those of lists that are logged and not applied may be needed to settle them.
  for (const zab::LogEntry& entry : process_->pending) {
    if (const auto change = members_of(*entry.payload)) voters.insert(change->voters.begin(), change->voters.end());
  }
  process_->told_changes = process_->changes;
  network_.set_members(sid_, voters, members.version == Zxid{} ? options_.config.observers : members.observers);
}

void Node::crash(bool power_cut) {
  if (!up()) return;
  user_.note("crash", sid_.value, power_cut ? 1 : 0, disk_.durable().last().value);
  network_.crashed(sid_, power_cut);
  disk_.crash(power_cut);
  process_->dead = true;
  graveyard_.push_back(std::move(process_));
  process_.reset();
  paused_ = false;
  inbox_.clear();
}

void Node::pause() {
  if (up()) paused_ = true;
}

void Node::resume() {
  if (!paused_) return;
  paused_ = false;
  const std::uint64_t mine = incarnation_;
  while (!inbox_.empty() && up() && incarnation_ == mine && !paused_) {
    auto work = std::move(inbox_.front());
    inbox_.pop_front();
    work();
  }
}

void Node::enter(std::function<void()> work) {
  if (!up()) return;
  if (paused_) {
    inbox_.push_back(std::move(work));
  } else {
    work();
  }
}

void Node::later(std::int64_t delay_us, std::function<void()> work) {
  scheduler_.after(delay_us, [this, mine = incarnation_, work = std::move(work)]() mutable {
    if (up() && incarnation_ == mine) enter(std::move(work));
  });
}

void Node::tick() {
  const zab::Room room = disk_.waiting()  ? zab::Room::kNone
                         : disk_.is_low() ? zab::Room::kLow
                                          : zab::Room::kPlenty;
  if (room != process_->room) {
    process_->room = room;
    step(zab::RoomChanged{room});
    if (!up()) return;
  }
  step(zab::Tick{now_ms()});
  if (!up()) return;
  write_first_list();
  if (!up()) return;
  if (process_->tree.zxid > process_->hinted && disk_.idle() && random_.chance(0.1)) submit(0, {});
  later(tick_us_, [this] { tick(); });
}

// --- the core

void Node::step(zab::Event event) {
  process_->events.push_back(std::move(event));
  run();
}

void Node::run() {
  if (process_->stepping) return;
  process_->stepping = true;
  Process* const mine = process_.get();
  while (!mine->dead && !(mine->events.empty() && mine->wanted.empty())) {
    if (!mine->events.empty()) {
      const zab::Event next = std::move(mine->events.front());
      mine->events.pop_front();
      step_one(next);
    } else {
      Process::Wanted next = std::move(mine->wanted.front());
      mine->wanted.pop_front();
      propose_now(std::move(next));
    }
  }
  mine->stepping = false;
}

void Node::step_one(const zab::Event& event) {
  Process* const mine = process_.get();
  zab::Actions actions;
  mine->peer.step(event, actions);
  carry_out(actions);
  if (!mine->dead) check();
}

void Node::carry_out(const zab::Actions& actions) {
  Process* const mine = process_.get();
  for (const zab::Action& action : actions) {
    if (user_.tracing()) user_.note_text(sid_, describe(action));
    std::visit([this](const auto& one) { act(one); }, action);
    if (mine->dead) return;
    if (user_.crash_in_actions(sid_)) return;
  }
}

void Node::check() {
  Process& p = *process_;
  if (p.told_changes != p.changes) tell_network();
  ghost_.order(sid_, p.peer, p.tree);
  if (!p.reloading) ghost_.members(sid_, p.peer, p.changes.empty() ? p.tree.members.version : p.changes.back(), p.base);
}

void Node::received(zab::LinkId link, zab::Message message) {
  step(zab::Received{link, std::move(message)});
}

// --- storage

void Node::housekeeping(std::vector<Op>& ops) {
  Process& p = *process_;
  if (p.reloading) return;
  Zxid hint = p.tree.zxid;
  if (mutant_ == Mutant::kHintAhead && !p.pending.empty()) hint = p.pending.back().zxid;
  if (hint > p.hinted) {
    ops.emplace_back(HintOp{hint});
    p.hinted = hint;
  }
  const Tree& durable = disk_.visible().tree;
  if (p.tree.count >= durable.count + options_.fold_every && p.tree.zxid > p.folded) {
    ops.emplace_back(FoldOp{p.tree});
    p.folded = p.tree.zxid;
  }
  ops.emplace_back(PurgeOp{options_.log_keep, p.pins.empty() ? Zxid{~0ULL} : *p.pins.begin()});
}

void Node::submit(std::uint64_t id, std::vector<Op> ops) {
  Process& p = *process_;
  housekeeping(ops);
  if (id != 0) p.last_persist = id;
  disk_.submit({p.last_persist, std::move(ops)});
}

void Node::act(const zab::Persist& persist) {
  Process& p = *process_;
  std::vector<Op> ops;
  if (persist.install_snapshot) {
    if (!p.staged) ghost_.violate(23, sid_, "installs a snapshot that is not staged");
    ops.emplace_back(InstallOp{*p.staged});
    p.staged.reset();
    p.reloading = true;
    p.pending.clear();
    p.changes.clear();
  }
  if (persist.truncate_after && mutant_ != Mutant::kTruncationLost)
    ops.emplace_back(TruncateOp{*persist.truncate_after});
  Zxid behind = persist.append.empty() ? Zxid{} : persist.append.front().previous;
  for (const zab::LogEntry& entry : persist.append) {
    ghost_.appended(sid_, entry, behind);
    behind = entry.zxid;
    ops.emplace_back(AppendOp{entry});
  }
  std::vector<Op> epochs;
  if (persist.accepted_epoch && mutant_ != Mutant::kPromiseNotPersisted) {
    epochs.emplace_back(PromiseOp{*persist.accepted_epoch, persist.accepted_from});
  }
  if (persist.current_epoch) epochs.emplace_back(AdoptOp{*persist.current_epoch});
  if (!persist.cluster_id.empty()) epochs.emplace_back(IdentityOp{persist.cluster_id, persist.secret});
  if (persist.repaired) epochs.emplace_back(RepairedOp{});
  const bool apart = persist.current_epoch && !ops.empty();
  if (apart && mutant_ == Mutant::kEpochBeforeData) {
    disk_.submit({p.last_persist, std::move(epochs)});
  } else if (apart && mutant_ == Mutant::kSnapshotInPieces) {
    disk_.submit({p.last_persist, std::move(ops)});
    ops = std::move(epochs);
  } else {
    for (Op& op : epochs) ops.push_back(std::move(op));
  }
  submit(persist.id, std::move(ops));
  if (mutant_ == Mutant::kAckBeforeSync) durable(persist.id);
}

void Node::durable(std::uint64_t batch_id) {
  if (!up()) return;
  enter([this, batch_id, mine = incarnation_] {
    if (!up() || incarnation_ != mine || batch_id <= process_->told) return;
    process_->told = batch_id;
    step(zab::Persisted{batch_id});
  });
}

void Node::act(const zab::ReadLog& read) {
  std::vector<zab::LogEntry> entries;
  const Image& image = disk_.durable();
  std::size_t bytes = 0;
  if (read.after >= image.floor) {
    for (const zab::LogEntry& entry : image.log) {
      if (entry.zxid <= read.after || entry.zxid > read.up_to) continue;
      if (!entries.empty() && (bytes > read.max_bytes || random_.chance(0.02))) break;
      bytes += entry.payload->size();
      entries.push_back(entry);
      entries.back().origin = {};
    }
  }
  if (mutant_ == Mutant::kDiffWithHole && entries.size() > 2) entries.erase(entries.begin() + 1);
  later(random_.between(50, 2000), [this, number = read.number, entries = std::move(entries)] {
    step(zab::LogRead{number, entries});
  });
}

// --- snapshots

void Node::act(const zab::SendSnapshot& send) {
  Tree tree = disk_.durable().tree;
  if (mutant_ == Mutant::kSnapshotOfMemory) tree.zxid = process_->tree.zxid;
  process_->pins.insert(tree.zxid);
  const std::string bytes = encode_tree(tree, 200);
  const std::size_t count = std::max<std::size_t>(1, options_.snapshot_chunks);
  std::vector<std::string> chunks;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t from = bytes.size() * i / count;
    chunks.push_back(bytes.substr(from, bytes.size() * (i + 1) / count - from));
  }
  network_.send(sid_, send.link, zab::SnapshotBegin{tree.zxid, bytes.size(), send.membership});
  send_chunk(send.link, tree, std::move(chunks), 0);
}

void Node::send_chunk(zab::LinkId link, const Tree& tree, std::vector<std::string> chunks, std::size_t next) {
  later(random_.heavy(3000), [this, link, tree, chunks = std::move(chunks), next]() mutable {
    if (!network_.open(link)) {
      process_->pins.erase(process_->pins.find(tree.zxid));
      return;
    }
    if (next < chunks.size()) {
      network_.send(sid_, link, zab::SnapshotChunk{chunks[next]});
      send_chunk(link, tree, std::move(chunks), next + 1);
      return;
    }
    network_.send(sid_, link, zab::SnapshotEnd{chunks.size()});
    process_->pins.erase(process_->pins.find(tree.zxid));
    step(zab::SnapshotSent{link, tree.zxid});
  });
}

void Node::act(const zab::ReceiveSnapshot& part) {
  Process& p = *process_;
  if (std::holds_alternative<zab::SnapshotBegin>(part.part)) {
    p.staging.clear();
    p.staged.reset();
    p.staging[part.link] = {};
    return;
  }
  const auto at = p.staging.find(part.link);
  if (at == p.staging.end()) ghost_.violate(23, sid_, "a piece of a snapshot without its beginning");
  if (const auto* chunk = std::get_if<zab::SnapshotChunk>(&part.part)) {
    at->second.bytes += chunk->bytes;
    return;
  }
  std::optional<Tree> tree = decode_tree(at->second.bytes);
  p.staging.erase(at);
  later(random_.heavy(1000), [this, link = part.link, tree] {
    if (tree) process_->staged = tree;
    step(zab::SnapshotStaged{link, tree ? tree->zxid : Zxid{}});
  });
}

void Node::act(const zab::DropSnapshot&) {
  process_->staging.clear();
  process_->staged.reset();
}

void Node::act(const zab::Reload& reload) {
  Process& p = *process_;
  const Image& image = disk_.visible();
  if (image.tree.zxid != reload.zxid) {
    ghost_.violate(13, sid_, "reloads " + to_string(reload.zxid) + ", the store has " + to_string(image.tree.zxid));
  }
  ghost_.installed(sid_, image.tree);
  p.tree = image.tree;
  p.folded = p.hinted = image.tree.zxid;
  p.reloading = false;
  p.base = {};
  ++installed_;
  tell_network();
  p.events.emplace_back(zab::Enrolled{p.tree.enrolled});
}

// --- the log and the tree

void Node::act(const zab::Appended& appended) {
  for (const zab::LogEntry& entry : appended.entries) {
    Process& p = *process_;
    const Zxid behind = !p.pending.empty() ? p.pending.back().zxid : p.reloading ? entry.previous : p.tree.zxid;
    ghost_.appended(sid_, entry, behind);
    p.pending.push_back(entry);
    if (members_of(*entry.payload)) p.changes.push_back(entry.zxid);
    if (mutant_ == Mutant::kApplyUncommitted) {
      apply(p.pending.front());
      p.pending.pop_front();
    }
  }
}

void Node::act(const zab::Discard& discard) {
  Process& p = *process_;
  if (discard.after < p.tree.zxid && !p.reloading) ghost_.violate(10, sid_, "discards what it applied");
  while (!p.pending.empty() && p.pending.back().zxid > discard.after) p.pending.pop_back();
  while (!p.changes.empty() && p.changes.back() > discard.after) p.changes.pop_back();
}

void Node::act(const zab::Deliver& deliver) {
  Process& p = *process_;
  if (p.reloading) ghost_.violate(23, sid_, "delivers into a tree that is being replaced");
  while (!p.pending.empty() && p.pending.front().zxid <= deliver.up_to) {
    const zab::LogEntry entry = std::move(p.pending.front());
    p.pending.pop_front();
    apply(entry);
  }
  if (p.tree.zxid < deliver.up_to) {
    ghost_.violate(5, sid_,
                   "is to deliver up to " + to_string(deliver.up_to) + " and has only " + to_string(p.tree.zxid));
  }
}

void Node::apply(const zab::LogEntry& entry) {
  Process& p = *process_;
  const std::size_t before = ghost_.history_size();
  ghost_.delivered(sid_, p.tree.count, entry);
  const Zxid members = p.tree.members.version;
  const bool enrolled = absorb(p.tree, entry);
  if (!p.changes.empty() && p.changes.front() <= entry.zxid) p.changes.pop_front();
  if (p.tree.members.version != members) tell_network();
  user_.note("apply", sid_.value, entry.zxid.value, p.tree.chain);
  if (ghost_.history_size() != before) user_.history_grew();
  if (enrolled) p.events.emplace_back(zab::Enrolled{p.tree.enrolled});
  if (entry.origin.sid == sid_) {
    ++answered_;
    ghost_.acknowledged_to_client(entry.zxid);
  }
}

// --- roles, links

void Node::act(const zab::PhaseChanged& change) {
  Process& p = *process_;
  ++phase_changes_;
  user_.note("phase", sid_.value,
             static_cast<std::uint64_t>(change.role) * 8 + static_cast<std::uint64_t>(change.phase), change.epoch);
  p.phase = change.phase;
  p.first_list_wanted = false;
  if (change.phase != zab::Phase::kBroadcast) ghost_.forget_questions(sid_);
  if (change.role == zab::Role::kLeading && change.phase == zab::Phase::kBroadcast) {
    ghost_.established(sid_, change.epoch, p.peer.last_logged(), p.tree.zxid);
  }
}

void Node::act(const zab::Send& send) {
  ghost_.sent(sid_, send.message, disk_.durable());
  network_.send(sid_, send.link, send.message);
}

void Node::act(const zab::DialLearner& dial) { network_.dial_learner(sid_, dial.number, dial.leader); }
void Node::act(const zab::CloseLink& close) { network_.close(sid_, close.link); }
void Node::act(const zab::LearnerChanged&) {}
void Node::act(const zab::Alarm& alarm) {
  if (!alarm.over) user_.alarm(sid_, alarm.text);
}

void Node::act(const zab::PassedUp& passed) { process_->wanted.push_back({passed.bytes, {passed.from, 1}}); }

void Node::act(const zab::LeadershipConfirmed& confirmed) {
  ++confirmed_;
  ghost_.confirmed(sid_, confirmed.number, confirmed.committed);
}

void Node::act(const zab::Enrol& enrol) {
  std::string bytes(kEnrol);
  for (const auto& [sid, directory] : enrol.directories) bytes += std::to_string(sid.value) + " " + directory + " ";
  process_->wanted.push_back({std::move(bytes), {}});
}

// --- clients

void Node::propose_now(Process::Wanted wanted) {
  Process& p = *process_;
  if (!p.peer.accepts_proposals()) return;
  const bool change = members_of(wanted.bytes).has_value();
  if (change && (p.peer.pending_membership() != nullptr || !p.changes.empty())) return;
  const Zxid zxid = p.peer.next_zxid();
  zab::LogEntry entry{zxid, p.peer.last_logged(), std::make_shared<const std::string>(std::move(wanted.bytes)),
                      wanted.origin};
  ghost_.proposed(sid_, p.peer.epoch(), entry, p.tree);
  if (mutant_ == Mutant::kReplyAtProposal) ghost_.acknowledged_to_client(zxid);
  if (mutant_ == Mutant::kApplyUncommitted) {
    apply(entry);
  } else {
    p.pending.push_back(entry);
    if (change) p.changes.push_back(zxid);
  }
  step_one(zab::Propose{zxid, entry.payload, wanted.origin});
}

bool Node::propose(std::size_t payload_bytes) {
  if (!up() || paused_) return false;
  std::string bytes = "w" + std::to_string(sid_.value) + "." + std::to_string(next_payload_++) + " ";
  bytes.resize(std::max(bytes.size(), payload_bytes), '.');
  if (process_->peer.role() == zab::Role::kLeading) {
    if (!process_->peer.accepts_proposals()) return false;
    process_->wanted.push_back({std::move(bytes), {sid_, next_payload_}});
    run();
    return true;
  }
  const zab::LinkId leader = process_->peer.leader_link();
  if (leader == zab::LinkId{}) return false;
  network_.send(sid_, leader, zab::Passed{std::move(bytes)});
  return true;
}

void Node::confirm() {
  if (!leads() || paused_) return;
  const std::uint64_t number = next_question_++;
  ghost_.asked(sid_, number);
  step(zab::ConfirmLeadership{number});
}

// --- the members

// As an ensemble does that is at a feature level with reconfig.
void Node::write_first_list() {
  Process& p = *process_;
  const bool due = options_.writes_list && leads() && p.tree.members.version == Zxid{} && !p.tree.enrolled.empty();
  if (!due || p.first_list_wanted || !p.peer.accepts_proposals()) return;
  p.first_list_wanted = true;
  p.wanted.push_back({members_text(view()), {}});
  run();
}

// Of its voters, a majority has this leader's history, under the directory that counts.
bool Node::would_be_led(const zab::Membership& next, const std::map<Sid, std::string>& synced) const {
  std::size_t count = 0;
  for (const Sid voter : next.voters) {
    const auto here = synced.find(voter);
    if (here == synced.end()) continue;
    const auto joins = next.joins.find(voter);
    const auto enrolled = process_->tree.enrolled.find(voter);
    const bool counts = joins != next.joins.end() ||
                        (enrolled != process_->tree.enrolled.end() && enrolled->second == here->second);
    count += counts ? 1U : 0U;
  }
  return 2 * count > next.voters.size();
}

bool Node::reconfig(Sid sid, std::optional<Part> part) {
  if (!leads() || paused_) return false;
  Process& p = *process_;
  const zab::Membership& now = p.tree.members;
  if (now.version == Zxid{} || !p.peer.accepts_proposals() || !p.peer.acknowledges()) return false;
  if (p.peer.pending_membership() != nullptr || !p.changes.empty()) return false;
  std::map<Sid, std::string> synced{{sid_, disk_.visible().directory_id}};
  for (const zab::Peer::LearnerView& learner : p.peer.learners()) {
    if (learner.synced) synced[learner.sid] = learner.directory_id;
  }
  zab::Membership next = now;
  next.version = {};
  next.voters.erase(sid);
  next.observers.erase(sid);
  if (part == Part::kVoter) next.voters.insert(sid);
  if (part == Part::kObserver) next.observers.insert(sid);
  if (next.voters.empty() || (next.voters == now.voters && next.observers == now.observers)) return false;
  const auto here = synced.find(sid);
  if (part == Part::kVoter && here == synced.end()) return false;
  const auto enrolled = p.tree.enrolled.find(sid);
  const bool known = here != synced.end() && enrolled != p.tree.enrolled.end() && enrolled->second == here->second;
  if (part == Part::kVoter && !known) next.joins[sid] = here->second;
  if (!would_be_led(next, synced)) return false;
  p.wanted.push_back({members_text(next), {sid_, next_payload_++}});
  run();
  return true;
}

void Node::resign() {
  if (leads() && !paused_) step(zab::Resign{});
}

}  // namespace coord::sim
