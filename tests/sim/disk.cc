#include "tests/sim/disk.h"

#include <algorithm>
#include <sstream>
#include <utility>

#include "common/base/overloaded.h"
#include "tests/replica/zab/members.h"

namespace coord::sim {

namespace {

constexpr std::int64_t kRoomRetry = 100'000;

std::uint64_t checksum(const std::string& bytes) {
  std::uint64_t hash = 1469598103934665603ULL;
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return hash;
}

bool below(const zab::LogEntry& entry, Zxid zxid) { return entry.zxid < zxid; }

std::string truncate(Image& image, Zxid after) {
  if (after < std::max(image.tree.zxid, image.commit_hint)) return "truncation below what was committed";
  while (!image.log.empty() && image.log.back().zxid > after) image.log.pop_back();
  return image.last() == after || after > image.last() ? "" : "truncation to a position that the log does not have";
}

std::string append(Image& image, const zab::LogEntry& entry) {
  if (entry.previous != image.last()) {
    return "gap in the log: " + to_string(entry.zxid) + " names " + to_string(entry.previous) + " behind " +
           to_string(image.last());
  }
  if (entry.zxid <= image.last()) return "the log does not ascend";
  image.log.push_back(entry);
  return "";
}

std::string fold(Image& image, const Tree& tree) {
  if (tree.zxid < image.tree.zxid) return "the tree goes back";
  if (tree.zxid > image.last()) return "the tree is ahead of the log";
  image.tree = tree;
  image.commit_hint = std::max(image.commit_hint, tree.zxid);
  return "";
}

void purge(Image& image, const PurgeOp& op, bool unapplied) {
  Zxid ceiling = std::min(image.commit_hint, image.tree.zxid);
  if (unapplied) ceiling = image.last();
  ceiling = std::min(ceiling, op.pin);
  while (image.log.size() > op.keep && image.log.front().zxid <= ceiling) {
    image.floor = image.log.front().zxid;
    image.log.pop_front();
  }
}

}  // namespace

std::string encode_tree(const Tree& tree, std::size_t filler) {
  std::ostringstream out;
  out << tree.zxid.value << ' ' << tree.count << ' ' << tree.chain << ' ' << tree.enrolled.size();
  for (const auto& [sid, directory] : tree.enrolled) out << ' ' << sid.value << ' ' << directory;
  out << ' ' << tree.members.version.value << ' ' << zab::testing::members_text(tree.members);
  out << ' ' << std::string(filler, 'x');
  const std::string body = out.str();
  return body + ' ' + std::to_string(checksum(body));
}

std::optional<Tree> decode_tree(const std::string& bytes) {
  const std::size_t cut = bytes.rfind(' ');
  if (cut == std::string::npos) return std::nullopt;
  const std::string body = bytes.substr(0, cut);
  if (std::to_string(checksum(body)) != bytes.substr(cut + 1)) return std::nullopt;
  std::istringstream in(body);
  Tree tree;
  std::size_t enrolled = 0;
  in >> tree.zxid.value >> tree.count >> tree.chain >> enrolled;
  for (; enrolled > 0; --enrolled) {
    std::uint32_t sid = 0;
    std::string directory;
    in >> sid >> directory;
    tree.enrolled[Sid{sid}] = directory;
  }
  Zxid version;
  std::string members;
  in >> version.value >> members;
  if (version != Zxid{}) tree.members = zab::testing::members_of(members).value_or(zab::Membership{});
  tree.members.version = version;
  return tree;
}

bool Image::holds(Zxid zxid) const {
  if (zxid <= floor) return zxid <= tree.zxid;
  const auto at = std::lower_bound(log.begin(), log.end(), zxid, below);
  return at != log.end() && at->zxid == zxid;
}

zab::LogShape Image::shape() const {
  zab::LogShape shape;
  shape.floor = floor;
  for (const zab::LogEntry& entry : log) {
    if (!shape.epoch_ends.empty() && shape.epoch_ends.back().epoch() == entry.zxid.epoch()) {
      shape.epoch_ends.back() = entry.zxid;
    } else {
      shape.epoch_ends.push_back(entry.zxid);
    }
  }
  return shape;
}

std::vector<zab::Membership> Image::memberships() const {
  std::vector<zab::Membership> found;
  if (tree.members.version != Zxid{}) found.push_back(tree.members);
  for (const zab::LogEntry& entry : log) {
    if (entry.zxid <= tree.zxid) continue;
    auto members = zab::testing::members_of(*entry.payload);
    if (!members) continue;
    members->version = entry.zxid;
    found.push_back(*std::move(members));
  }
  return found;
}

std::string apply_op(Image& image, const Op& op, bool purge_unapplied) {
  return std::visit(
      Overloaded{[&](const InstallOp& install) -> std::string {
                   image.tree = install.tree;
                   image.log.clear();
                   image.floor = image.commit_hint = install.tree.zxid;
                   return "";
                 },
                 [&](const TruncateOp& cut) { return truncate(image, cut.after); },
                 [&](const AppendOp& one) { return append(image, one.entry); },
                 [&](const PromiseOp& promise) -> std::string {
                   if (promise.epoch < image.accepted_epoch) return "a promise goes back";
                   image.accepted_epoch = promise.epoch;
                   image.accepted_from = promise.from;
                   return "";
                 },
                 [&](const AdoptOp& adopt) -> std::string {
                   if (adopt.epoch < image.current_epoch) return "the current epoch goes back";
                   image.current_epoch = adopt.epoch;
                   return "";
                 },
                 [&](const IdentityOp& identity) -> std::string {
                   image.cluster_id = identity.cluster_id;
                   image.secret = identity.secret;
                   return "";
                 },
                 [&](const RepairedOp&) -> std::string {
                   image.damaged = false;
                   return "";
                 },
                 [&](const HintOp& hint) -> std::string {
                   if (hint.zxid > image.last()) return "committed beyond the log";
                   image.commit_hint = std::max(image.commit_hint, hint.zxid);
                   return "";
                 },
                 [&](const FoldOp& record) { return fold(image, record.tree); },
                 [&](const PurgeOp& record) -> std::string {
                   purge(image, record, purge_unapplied);
                   return "";
                 }},
      op);
}

Disk::Disk(Scheduler& scheduler, Random& random, Mutant mutant, std::string directory_id)
    : scheduler_(scheduler), random_(random), mutant_(mutant) {
  visible_.directory_id = durable_.directory_id = std::move(directory_id);
}

void Disk::open(User& user) {
  ++generation_;
  user_ = &user;
  if (flipped_) salvage(durable_);
  flipped_ = false;
  // What a killed process left in the page cache is read again, so it has to be flushed first.
  if (mutant_ != Mutant::kFsyncSkipped && mutant_ != Mutant::kRootBeforePages) settle(0);
  visible_ = durable_;
  for (const Commit& commit : unsynced_) write(commit, visible_, false);
}

bool Disk::write(const Commit& commit, Image& image, bool lossy) {
  bool good = true;
  for (const auto& page : commit.pages) {
    if (lossy && !commit.pages_synced && random_.chance(0.4)) continue;  // the page has its old content
    for (const Op& op : page) good = apply_op(image, op, mutant_ == Mutant::kPurgeUnapplied).empty() && good;
  }
  return good;
}

void Disk::submit(DiskBatch batch) {
  queue_.push_back(std::move(batch));
  if (!busy_) begin();
}

std::int64_t Disk::delay() {
  constexpr std::int64_t kLongest = 5'000'000;
  const std::int64_t wait = std::min(kLongest, (fixed_ ? latency_us_ : random_.heavy(latency_us_)) * slow_);
  return std::max<std::int64_t>(wait, stalled_until_ - scheduler_.now_us());
}

void Disk::begin() {
  busy_ = true;
  next(Stage::kBeforeWrite, 0);
}

void Disk::next(Stage stage, std::int64_t delay_us) {
  scheduler_.after(delay_us, [this, stage, generation = generation_] { run(stage, generation); });
}

// Truncation of what was committed is told before it happens.
void Disk::look(const Commit& commit) {
  for (const auto& page : commit.pages) {
    for (const Op& op : page) {
      const auto* cut = std::get_if<TruncateOp>(&op);
      if (cut == nullptr) continue;
      std::vector<zab::LogEntry> lost;
      for (const zab::LogEntry& entry : visible_.log) {
        if (entry.zxid > cut->after) lost.push_back(entry);
      }
      user_->truncated(lost);
    }
  }
}

void Disk::run(Stage stage, std::uint64_t generation) {
  if (generation != generation_ || user_ == nullptr) return;
  if (user_->stage(stage)) return;
  switch (stage) {
    case Stage::kBeforeWrite: {
      Commit commit;
      const std::size_t take = fixed_ ? queue_.size() : 1 + random_.below(queue_.size());
      for (std::size_t i = 0; i < take; ++i) {
        DiskBatch batch = std::move(queue_.front());
        queue_.pop_front();
        for (Op& op : batch.ops) {
          if (commit.pages.empty() || commit.pages.back().size() >= 3) commit.pages.emplace_back();
          commit.pages.back().push_back(std::move(op));
        }
        commit.last_id = batch.id;
      }
      look(commit);
      unsynced_.push_back(std::move(commit));
      return next(Stage::kPagesWritten, delay() / 4);
    }
    case Stage::kPagesWritten:
      waiting_ = starved_;
      if (waiting_) return next(Stage::kPagesWritten, kRoomRetry);
      if (full_ || fail_next_) {
        fail_next_ = false;
        return user_->storage_error();
      }
      return next(Stage::kPagesSynced, delay());
    case Stage::kPagesSynced:
      if (mutant_ != Mutant::kFsyncSkipped && mutant_ != Mutant::kRootBeforePages) unsynced_.back().pages_synced = true;
      if (mutant_ == Mutant::kRootNotAwaited) user_->durable(unsynced_.back().last_id);
      if (generation != generation_) return;
      return next(Stage::kRootWritten, delay() / 4);
    case Stage::kRootWritten:
      unsynced_.back().root_written = true;
      return next(Stage::kDurable, delay());
    case Stage::kDurable: break;
  }
  Commit& commit = unsynced_.back();
  if (mutant_ != Mutant::kFsyncSkipped) commit.root_synced = true;
  const std::uint64_t id = commit.last_id;
  for (const auto& page : commit.pages) {
    for (const Op& op : page) {
      const std::string wrong = apply_op(visible_, op, mutant_ == Mutant::kPurgeUnapplied);
      if (!wrong.empty()) user_->wrong(wrong);
    }
  }
  settle(commit.pages_synced && commit.root_synced ? 0 : 8);  // the kernel's write-back, in the end
  busy_ = false;
  if (!queue_.empty()) begin();
  user_->durable(id);
}

void Disk::settle(std::size_t leave) {
  while (unsynced_.size() > leave) {
    write(unsynced_.front(), durable_, false);
    unsynced_.pop_front();
  }
}

void Disk::crash(bool power_cut) {
  ++generation_;
  user_ = nullptr;
  queue_.clear();
  busy_ = waiting_ = false;
  // Pages without a root are nothing: the old root holds.
  const auto survives = [&](const Commit& commit) {
    if (!commit.root_written) return false;
    return commit.root_synced || !power_cut || random_.chance(0.5);
  };
  std::size_t end = unsynced_.size();
  while (end > 0 && !survives(unsynced_[end - 1])) --end;
  unsynced_.resize(end);
  if (!power_cut) return;  // the page cache stays
  bool broken = false;
  for (const Commit& commit : unsynced_) broken = !write(commit, durable_, true) || broken;
  unsynced_.clear();
  if (broken) salvage(durable_);
}

void Disk::salvage(Image& image) {
  image.log.clear();
  image.floor = image.commit_hint = Zxid{};
  image.tree = Tree{};
  image.damaged = mutant_ != Mutant::kDamageForgotten;
  if (mutant_ == Mutant::kDamageForgotten) image.current_epoch = 0;
  unsynced_.clear();
}

void Disk::calm() {
  full_ = starved_ = low_ = fail_next_ = false;
  slow_ = 1;
  stalled_until_ = 0;
}

void Disk::flip_bit() { flipped_ = true; }

void Disk::wipe(std::string new_directory_id) {
  const std::string old = durable_.directory_id;
  durable_ = Image{};
  durable_.directory_id = mutant_ == Mutant::kDirectoryIdKept ? old : std::move(new_directory_id);
  visible_ = durable_;
  unsynced_.clear();
  flipped_ = false;
}

void Disk::restore(Image image) {
  durable_ = visible_ = std::move(image);
  unsynced_.clear();
}

}  // namespace coord::sim
