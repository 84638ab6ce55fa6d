// After a reconnect: what is held is sent to the replica in bounded frames and compared with its answers. Every
// difference goes through the same door as a change event, so that kernel, inotify and write side learn of it in the
// same way. Everything here runs on the client's I/O thread, ahead of all other requests (Submit::first).
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <unordered_set>
#include <utility>

#include "common/base/log.h"
#include "fusefs/kernel/coherence.h"
#include "fusefs/kernel/mount.h"

namespace coord::fs {

namespace {
constexpr std::size_t kResumeFrame = 10'000;  // ids in one request
constexpr Millis kResumeDeadline{30'000};
}  // namespace

class Resume : public std::enable_shared_from_this<Resume> {
 public:
  Resume(Coherence& coherence, std::function<void()> done)
      : c_(coherence), cache_(coherence.mount_.cache()), done_(std::move(done)), seen_(coherence.last_zxid()) {}

  void start() {
    {
      SharedLock lock(c_.lock());
      ids_ = cache_.held();
    }
    log::info("fuse", "resuming nodes={} last_zxid={:x}", ids_.size(), static_cast<std::uint64_t>(seen_));
    frames_ = (ids_.size() + kResumeFrame - 1) / kResumeFrame;
    if (frames_ == 0) {
      finish();
      return;
    }
    const std::size_t frames = frames_;  // all on the wire at once; they are answered in order
    for (std::size_t i = 0; i < frames; ++i) {
      const auto from = ids_.begin() + static_cast<std::ptrdiff_t>(i * kResumeFrame);
      const auto to = ids_.begin() + static_cast<std::ptrdiff_t>(std::min(ids_.size(), (i + 1) * kResumeFrame));
      wire::ResumeRequest request;
      request.nodes.assign(from, to);
      auto self = shared_from_this();
      const auto asked = std::make_shared<std::vector<NodeId>>(request.nodes);
      c_.mount_.replica().resume_async(std::move(request), [self, asked](const Answer<wire::ResumeReply>& answer) {
        self->frame_answered(*asked, answer);
      });
    }
  }

 private:
  void frame_answered(const std::vector<NodeId>& asked, const Answer<wire::ResumeReply>& answer) {
    if (given_up_) return;
    if (!answer.ok() || answer.value.nodes.size() != asked.size()) {
      give_up(answer.err);
      return;
    }
    {
      ExclusiveLock lock(c_.lock());
      for (std::size_t i = 0; i < asked.size(); ++i) {
        const auto& now = answer.value.nodes[i];
        now ? compare(*now) : deleted(asked[i]);
      }
    }
    if (--frames_ == 0) read_directories();
  }

  // The connection broke again: the next one resumes anew. Anything else: nothing is known to be current.
  void give_up(Err err) {
    given_up_ = true;
    log::warn("fuse", "resume failed error={}", error_name(err));
    if (err == Err::kConnectionLoss || err == Err::kSessionExpired) return;
    {
      ExclusiveLock lock(c_.lock());
      Effects effects;
      cache_.drop_all(effects);
      c_.perform(effects);
    }
    done_();
  }

  Stat cached_stat(NodeId id) const {
    const CachedNode* node = cache_.find(id);
    return node == nullptr ? Stat{} : node->info.stat;
  }

  void happened(wire::ChangeKind kind, const wire::NodeInfo& info, const wire::NodeInfo* old = nullptr) {
    wire::ChangeEvent event;
    event.kind = kind;
    event.zxid = std::max({info.stat.mzxid, info.stat.czxid, seen_});
    event.node = info;
    event.parent_stat = cached_stat(info.parent);
    if (old != nullptr) {
      event.old_parent = old->parent;
      event.old_name = old->name;
      event.old_parent_stat = cached_stat(old->parent);
    }
    c_.apply_locked(event, false);
    c_.mount_.writes().on_change(event);
    ++changes_;
  }

  void deleted(NodeId id) {
    const CachedNode* node = cache_.find(id);
    if (node == nullptr || node->gone()) return;
    const wire::NodeInfo was = node->info;
    happened(wire::ChangeKind::kDeleted, was);
  }

  void compare(const wire::NodeInfo& now) {
    const CachedNode* node = cache_.find(now.id);
    if (node != nullptr && node->info.id == now.id && !node->gone()) {
      const wire::NodeInfo was = node->info;
      const bool knows_dir = node->complete || node->lookups_of(View::kDir) != 0;
      if (was.parent != now.parent || was.name != now.name) happened(wire::ChangeKind::kRenamed, now, &was);
      if (was.stat.mzxid != now.stat.mzxid || was.null_data != now.null_data) happened(wire::ChangeKind::kData, now);
      if (!(was.acl == now.acl) || !(was.attributes == now.attributes)) happened(wire::ChangeKind::kAttributes, now);
      if (knows_dir && (was.stat.pzxid != now.stat.pzxid || was.stat.cversion != now.stat.cversion)) {
        directories_.push_back(now.id);
      }
    }
    Effects effects;
    cache_.absorb(now, true, effects);
    c_.perform(effects);
  }

  void read_directories() {
    if (directories_.empty()) {
      finish();
      return;
    }
    outstanding_ = directories_.size();
    for (const NodeId id : directories_) {
      wire::ReadDirRequest request;
      request.who = Credentials{geteuid(), getegid(), {}};
      request.node = id;
      request.hold = true;
      std::string body;
      wire::Writer out(body);
      wire::write(out, request);
      client::Submit how;
      how.deadline = kResumeDeadline;
      how.first = true;
      auto self = shared_from_this();
      c_.mount_.replica().client().submit(
          wire::Op::kReadDir, std::move(body), std::move(how),
          [self, id](const client::Reply& reply) { self->directory_answered(id, reply); });
    }
  }

  void directory_answered(NodeId id, const client::Reply& reply) {
    if (given_up_) return;
    wire::ReadDirReply listing;
    if (reply.err == Err::kOk) {
      wire::Reader in(reply.body);
      wire::read(in, listing);
      if (in.failed()) {
        give_up(Err::kMarshallingError);
        return;
      }
      listed(std::move(listing));
    } else if (reply.err == Err::kConnectionLoss || reply.err == Err::kSessionExpired) {
      give_up(reply.err);
      return;
    } else {
      // Not readable for this daemon's user, or gone by now: it is listed anew when somebody asks.
      ExclusiveLock lock(c_.lock());
      Effects effects;
      if (reply.err == Err::kStaleNode) cache_.absorb_gone(id, effects);
      if (reply.err != Err::kStaleNode) cache_.listing_unknown(id, effects);
      c_.perform(effects);
    }
    if (--outstanding_ == 0) finish();
  }

  void listed(wire::ReadDirReply listing) {
    std::vector<NodeId> children;
    for (const auto& child : listing.children) children.push_back(child.id);
    {
      ExclusiveLock lock(c_.lock());
      for (const auto& child : listing.children) {
        if (cache_.find(child.id) == nullptr && child.stat.czxid > seen_) happened(wire::ChangeKind::kCreated, child);
      }
      Effects effects;
      cache_.absorb_directory(std::move(listing), effects);
      c_.perform(effects);
    }
    for (const NodeId child : children) c_.candidate(child);
  }

  void finish() {
    log::info("fuse", "resumed nodes={} changes={}", ids_.size(), changes_);
    done_();
  }

  Coherence& c_;
  NodeCache& cache_;
  std::function<void()> done_;
  std::int64_t seen_;
  std::vector<NodeId> ids_;
  std::vector<NodeId> directories_;
  std::size_t frames_ = 0;
  std::size_t outstanding_ = 0;
  std::size_t changes_ = 0;
  bool given_up_ = false;
};

void Coherence::resume(std::function<void()> done) {
  first_part_.clear();  // its second part was lost with the connection; the comparison finds both
  std::make_shared<Resume>(*this, std::move(done))->start();
}

}  // namespace coord::fs
