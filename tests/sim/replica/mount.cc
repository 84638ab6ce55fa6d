#include "tests/sim/replica/mount.h"

#include <algorithm>

namespace coord::sim {

namespace {

constexpr std::size_t kOutstandingMax = 24;
constexpr std::size_t kKeptMax = 12;
constexpr std::size_t kNodesMax = 24;
constexpr std::int32_t kBlock = 32;
constexpr const char* kBase = "/mnt";
constexpr double kLostBehindRequest = 0.01;
constexpr double kLostBeforeAnswer = 0.01;
constexpr int kExactlyOnce = 20;  // of zab.md section 7.1

}  // namespace

// --- the session

void SimMount::opened(bool fresh) {
  last_event_zxid_ = 0;
  if (fresh) ++ordinal_;
  if (base_ == NodeId{}) return make_base();
  begin();
}

// In a session, and the directory of all mounts is known.
void SimMount::begin() {
  if (begun_ != session()) {
    begun_ = session();
    make_dir(0);
  } else {
    // In their order, and sometimes again what was answered already.
    if (random_.chance(0.3)) repeat_old();
    for (const auto& [seq, mutation] : open_) {
      transmit(seq, mutation);
      if (!ready()) return;
    }
  }
  if (block_next_ == block_end_) reserve();
  if (inspecting_ && model_.ready()) inspect();
}

// By the stock protocol, and in the history: other clients list the root.
void SimMount::make_base() {
  Sent make;
  make.kind = Kind::kMakeBase;
  make.xid = next_xid_++;
  make.id = history_.invoke(ns(), number_, session(), {.op = history::Op::kCreate, .path = kBase});
  const std::int32_t xid = make.xid;
  outstanding_.push_back(std::move(make));
  send(xid, wire::Op::kCreate2, [](wire::Writer& out) {
    out.buffer(std::string_view(kBase));
    out.buffer(std::string_view());
    wire::write(out, open_acl());
    out.i32(static_cast<std::int32_t>(wire::CreateMode::kPersistent));
  });
  Sent look;
  look.kind = Kind::kFindBase;
  wire::LookupRequest r;
  r.parent = kRootNode;
  r.name = std::string(kBase).substr(1);
  ask(std::move(look), wire::Op::kLookup, [&](wire::Writer& out) { wire::write(out, r); });
}

// Nothing of what was asked for can be asked for again: each happened at most once.
void SimMount::ended() {
  model_.clear();
  open_.clear();
  kept_.clear();
  event_zxids_.clear();
  block_next_ = block_end_ = NodeId{};
}

void SimMount::dropped() {
  for (const Sent& sent : outstanding_) {
    if (sent.id != 0) history_.info(ns(), sent.id);
  }
  outstanding_.clear();
}

void SimMount::ping() {
  if (!ready()) return;
  outstanding_.push_back(Sent{wire::xid::kPing, Kind::kPing, 0, 0, 0, {}});
  send(wire::xid::kPing, wire::Op::kPing, [](wire::Writer&) {});
}

void SimMount::ask(Sent sent, wire::Op op, const std::function<void(wire::Writer&)>& body) {
  if (!ready()) return;
  sent.xid = next_xid_++;
  sent.id = history_.invoke(ns(), number_, session(), {.op = history::Op::kOther});
  const std::int32_t xid = sent.xid;
  outstanding_.push_back(std::move(sent));
  send(xid, op, body);
}

// --- mutations

std::int64_t SimMount::acked_below() const {
  std::int64_t below = next_seq_;
  if (!open_.empty()) below = std::min(below, open_.begin()->first);
  if (!kept_.empty()) below = std::min(below, kept_.begin()->first);
  return below;
}

template <class Body>
void SimMount::submit(wire::Op op, Body body, Expected expected, std::optional<std::size_t> makes_dir) {
  const std::int64_t seq = next_seq_;
  body.header.seq = seq;
  body.header.acked_below = acked_below();
  ++next_seq_;
  Mutation& mutation = open_[seq];
  mutation.op = op;
  mutation.expected = std::move(expected);
  mutation.makes_dir = makes_dir;
  wire::Writer out(mutation.body);
  wire::write(out, body);
  transmit(seq, mutation);
}

void SimMount::transmit(std::int64_t seq, const Mutation& mutation) {
  Sent sent;
  sent.kind = Kind::kMutation;
  sent.seq = seq;
  Entry& entry = entries_[{session(), seq}];
  entry.op = mutation.op;
  ++entry.sent;
  ask(std::move(sent), mutation.op, [&](wire::Writer& out) { out.raw(mutation.body); });
  if (random_.chance(kLostBehindRequest)) leave_connection();
}

void SimMount::make_dir(std::size_t which) {
  wire::CreateNodeRequest r;
  r.parent = which == 0 ? base_ : model_.dir(0);
  r.name = which == 0 ? "m" + std::to_string(number_) + "." + std::to_string(ordinal_) : "sub";
  r.attributes.shape = Shape::kDir;
  r.attributes.exec = 0111;
  r.acl = open_acl();
  Expected expected;
  expected.node = true;
  expected.parent = r.parent;
  expected.name = r.name;
  submit(wire::Op::kCreateNode, std::move(r), std::move(expected), which);
}

void SimMount::reserve() {
  Sent sent;
  sent.kind = Kind::kReserve;
  ask(std::move(sent), wire::Op::kCapabilities,
      [](wire::Writer& out) { wire::write(out, wire::CapabilitiesRequest{kBlock}); });
}

NodeId SimMount::next_id() {
  if (block_next_ == block_end_ || random_.chance(0.2)) return NodeId{};
  const NodeId id = block_next_;
  ++block_next_.value;
  return id;
}

void SimMount::create() {
  wire::CreateNodeRequest r;
  const std::size_t dir = random_.below(MountModel::kDirs);
  const MountModel::Node* const there = model_.any(random_);
  const bool again = there != nullptr && random_.chance(0.1);
  const bool sequential = !again && random_.chance(0.3);
  const bool ephemeral = !again && random_.chance(0.15);
  r.parent = model_.dir(again ? there->dir : dir);
  r.name = again ? there->name : sequential ? "s-" : "f" + std::to_string(next_seq_);
  r.id = again ? NodeId{} : next_id();
  r.mode = sequential ? (ephemeral ? wire::CreateMode::kEphemeralSequential : wire::CreateMode::kPersistentSequential)
           : ephemeral ? wire::CreateMode::kEphemeral
                       : wire::CreateMode::kPersistent;
  r.data = token();
  r.acl = open_acl();
  r.hold = random_.chance(0.5);
  Expected expected =
      model_.create(next_seq_, again ? there->dir : dir, r.name, sequential, ephemeral, r.id, *r.data);
  submit(wire::Op::kCreateNode, std::move(r), std::move(expected));
}

void SimMount::set(NodeId node, std::int32_t version) {
  wire::SetNodeDataRequest r;
  r.node = node;
  r.data = token();
  r.version = version;
  Expected expected = model_.set(node, *r.data, version);
  submit(wire::Op::kSetNodeData, std::move(r), std::move(expected));
}

void SimMount::remove(NodeId node) {
  wire::DeleteNodeRequest r;
  r.node = node;
  r.at = model_.place(node);
  Expected expected = model_.remove(node);
  submit(wire::Op::kDeleteNode, r, std::move(expected));
}

void SimMount::rename(NodeId node, std::size_t dir, const std::string& name, std::uint32_t flags) {
  wire::RenameRequest r;
  r.node = node;
  r.new_parent = model_.dir(dir);
  r.new_name = name;
  r.flags = flags;
  r.at = model_.place(node);
  Expected expected = model_.rename(node, dir, name, flags);
  submit(wire::Op::kRename, std::move(r), std::move(expected));
}

// The replica must know them still: nothing was acknowledged that is kept.
void SimMount::repeat_old() {
  for (const auto& [seq, mutation] : kept_) {
    if (!ready()) return;
    if (random_.chance(0.3)) transmit(seq, mutation);
  }
}

// --- what it does by itself

void SimMount::think() {
  if (!model_.ready() || !working_) return;
  if (block_next_ == block_end_ && random_.chance(0.3)) reserve();
  const std::size_t burst = random_.chance(0.15) ? 8 : 1;
  for (std::size_t i = 0; i < burst && ready() && outstanding_.size() < kOutstandingMax; ++i) act();
  if (ready() && random_.chance(0.1)) repeat_old();
  if (ready() && random_.chance(0.2)) read_dir(random_.below(MountModel::kDirs));
  while (kept_.size() > kKeptMax || (!kept_.empty() && random_.chance(0.2))) kept_.erase(kept_.begin());
}

void SimMount::act() {
  const MountModel::Node* const node = model_.any(random_);
  const auto dead = model_.any_dead(random_);
  if (dead && random_.chance(0.05)) return random_.chance(0.5) ? remove(*dead) : set(*dead, -1);
  if (node == nullptr || (model_.size() < kNodesMax && random_.chance(0.35))) {
    if (model_.size() < kNodesMax) create();
    return;
  }
  const MountModel::Node copy = *node;
  act_on(copy);
}

void SimMount::act_on(const MountModel::Node& node) {
  const MountModel::Node other = *model_.any(random_);
  const std::string fresh = "r" + std::to_string(next_seq_);
  const std::size_t dir = random_.below(MountModel::kDirs);
  switch (random_.below(14)) {
    case 0:
    case 1:
    case 2: return set(node.id, -1);
    case 3:
    case 4: return set(node.id, node.version);
    case 5: return set(node.id, node.version + 3);
    case 6:
    case 7: return remove(node.id);
    case 8:
    case 9: return rename(node.id, dir, fresh, 0);
    case 10: return read_node(node);
    default: break;
  }
  if (other.id == node.id) return set(node.id, -1);
  return rename(node.id, other.dir, other.name, static_cast<std::uint32_t>(random_.below(3)));
}

void SimMount::read_dir(std::size_t which) {
  Sent sent;
  sent.kind = Kind::kReadDir;
  sent.dir = which;
  sent.nodes = model_.list(which);
  wire::ReadDirRequest r;
  r.node = model_.dir(which);
  r.hold = random_.chance(0.3);
  ask(std::move(sent), wire::Op::kReadDir, [&](wire::Writer& out) { wire::write(out, r); });
}

void SimMount::read_node(const MountModel::Node& node) {
  Sent sent;
  sent.kind = Kind::kReadNode;
  sent.nodes = {node};
  wire::ReadNodeRequest r;
  r.node = node.id;
  ask(std::move(sent), wire::Op::kReadNode, [&](wire::Writer& out) { wire::write(out, r); });
}

void SimMount::inspect() {
  inspecting_ = true;
  listed_ = 0;
  for (std::size_t which = 0; which < MountModel::kDirs; ++which) read_dir(which);
  for (const auto& [handle, node] : model_.nodes()) read_node(node);
}

// --- answers

void SimMount::frame(const wire::ReplyHeader& header, wire::Reader& in) {
  if (header.xid == wire::xid::kNotification) return;
  if (header.xid == wire::xid::kChangeEvent) return event(in);
  if (outstanding_.empty() || outstanding_.front().xid != header.xid) return on_wrong(18, "a reply out of order");
  const std::string body(in.rest());
  const bool mutation = outstanding_.front().kind == Kind::kMutation;
  if (mutation && random_.chance(kLostBeforeAnswer)) {
    // It did not get here. The observer saw it: what comes in its place must be the same.
    const std::int64_t seq = outstanding_.front().seq;
    const auto at = open_.find(seq);
    if (at != open_.end()) {
      compare(seq, at->second, Told{header.err, body});
      if (!at->second.first) at->second.first = Told{header.err, body};
      entries_[{session(), seq}].zxids.push_back(static_cast<std::uint64_t>(header.zxid));
    }
    return leave_connection();
  }
  const Sent sent = std::move(outstanding_.front());
  outstanding_.pop_front();
  ++answers_;
  if (sent.id != 0) {
    history::Answer told;
    told.error = header.err;
    told.zxid = static_cast<std::uint64_t>(header.zxid);
    if (sent.kind == Kind::kMakeBase && header.err == Err::kOk) {
      wire::Reader made(body);
      told.name = made.string();
      const Stat stat = wire::read_stat(made);
      told.mzxid = static_cast<std::uint64_t>(stat.mzxid);
      told.czxid = static_cast<std::uint64_t>(stat.czxid);
      told.version = stat.version;
    }
    header.err == Err::kOk ? history_.ok(ns(), sent.id, std::move(told))
                           : history_.fail(ns(), sent.id, std::move(told));
  }
  answered(sent, header, body);
}

void SimMount::answered(const Sent& sent, const wire::ReplyHeader& header, const std::string& body) {
  wire::Reader in(body);
  switch (sent.kind) {
    case Kind::kPing:
    case Kind::kMakeBase: return;
    case Kind::kFindBase: return base_found(header, in);
    case Kind::kMutation: return mutation_answered(sent.seq, header, body);
    case Kind::kReadDir:
    case Kind::kReadNode: return listing(sent, header, in);
    case Kind::kReserve: break;
  }
  wire::CapabilitiesReply reply;
  wire::read(in, reply);
  if (header.err != Err::kOk || in.failed() || reply.id_count != kBlock || !reply.trusted) {
    return on_wrong(kExactlyOnce, "no block of node ids: " + std::string(error_name(header.err)));
  }
  blocks_.emplace_back(reply.first_id, reply.id_count);
  block_next_ = reply.first_id;
  block_end_ = NodeId(reply.first_id.value + static_cast<std::uint64_t>(reply.id_count));
}

void SimMount::base_found(const wire::ReplyHeader& header, wire::Reader& in) {
  wire::NodeInfo info;
  wire::read(in, info);
  if (header.err != Err::kOk || in.failed()) return on_wrong(18, "the directory that was just made is not there");
  base_ = info.id;
  begin();
}

std::string SimMount::text(std::int64_t seq, const Mutation& mutation) const {
  return "request " + std::to_string(seq) + " (" + std::to_string(static_cast<int>(mutation.op)) + ") of session " +
         std::to_string(session()) + ", client " + std::to_string(number_);
}

void SimMount::compare(std::int64_t seq, const Mutation& mutation, const Told& told) {
  if (mutation.first) {
    ++repeated_answers_;
    if (mutation.first->err != told.err || mutation.first->body != told.body) {
      on_wrong(kExactlyOnce, text(seq, mutation) + " is answered again, differently: " +
                                 std::string(error_name(told.err)) + " instead of " +
                                 std::string(error_name(mutation.first->err)) +
                                 (told.err == mutation.first->err ? " with another body" : ""));
    }
  }
  const std::string wrong = mutation.expected.differs(told.err, told.body, session());
  if (!wrong.empty()) on_wrong(kExactlyOnce, text(seq, mutation) + ": " + wrong);
}

void SimMount::mutation_answered(std::int64_t seq, const wire::ReplyHeader& header, const std::string& body) {
  Entry& entry = entries_[{session(), seq}];
  entry.zxids.push_back(static_cast<std::uint64_t>(header.zxid));
  const Told told{header.err, body};
  if (const auto old = kept_.find(seq); old != kept_.end()) return compare(seq, old->second, told);
  const auto at = open_.find(seq);
  if (at == open_.end()) return;  // a repeated one, acknowledged since
  compare(seq, at->second, told);
  Mutation& mutation = kept_[seq] = std::move(at->second);
  open_.erase(at);
  mutation.first = told;
  entry.answered = true;
  entry.err = told.err;
  if (told.err != Err::kOk || !mutation.expected.node) return;
  wire::Reader in(body);
  wire::NodeInfo info;
  wire::read(in, info);
  entry.mzxid = static_cast<std::uint64_t>(info.stat.mzxid);
  if (mutation.op == wire::Op::kCreateNode) model_.learn(seq, info.id);
  if (!mutation.makes_dir) return;
  const std::size_t made = *mutation.makes_dir;
  model_.made_dir(made, info.id);
  if (made + 1 < MountModel::kDirs) return make_dir(made + 1);
  if (inspecting_) inspect();
}

// What it must show was known when it was asked for: everything before it in the connection has been carried out.
void SimMount::listing(const Sent& sent, const wire::ReplyHeader& header, wire::Reader& in) {
  std::vector<wire::NodeInfo> shown;
  if (header.err != Err::kOk) {
    return on_wrong(18, "a read of its own node is refused: " + std::string(error_name(header.err)));
  }
  if (sent.kind == Kind::kReadDir) {
    wire::ReadDirReply reply;
    wire::read(in, reply);
    std::erase_if(reply.children, [this](const wire::NodeInfo& child) { return child.id == model_.dir(1); });
    shown = std::move(reply.children);
    ++listed_;
  } else {
    wire::NodeInfo info;
    wire::read(in, info);
    shown.push_back(std::move(info));
  }
  if (in.failed()) return on_wrong(18, "a listing that does not decode");
  bool same = shown.size() == sent.nodes.size();
  for (std::size_t i = 0; same && i < shown.size(); ++i) {
    const MountModel::Node& must = sent.nodes[i];
    same = shown[i].name == must.name && shown[i].stat.version == must.version &&
           (must.id == NodeId{} || shown[i].id == must.id) && (!shown[i].data || *shown[i].data == must.data);
  }
  if (same) return;
  std::string told, must;
  for (const wire::NodeInfo& info : shown) told += " " + info.name + ":" + std::to_string(info.stat.version);
  for (const MountModel::Node& node : sent.nodes) must += " " + node.name + ":" + std::to_string(node.version);
  on_wrong(kExactlyOnce, "client " + std::to_string(number_) + " sees" + told + "; it made" + must);
}

void SimMount::event(wire::Reader& in) {
  wire::ChangeEvent event;
  wire::read(in, event);
  if (in.failed()) return on_wrong(19, "a change event that does not decode");
  if (event.zxid < last_event_zxid_) return on_wrong(19, "change events are not in the order of their transactions");
  last_event_zxid_ = event.zxid;
  if (event.origin.value != session() || event.origin_seq == 0) return;
  const auto [at, is_new] = event_zxids_.try_emplace(event.origin_seq, event.zxid);
  if (!is_new && at->second != event.zxid) {
    on_wrong(kExactlyOnce, "request " + std::to_string(event.origin_seq) + " of client " + std::to_string(number_) +
                               " changed something in two transactions");
  }
}

}  // namespace coord::sim
