#include "fusefs/kernel/session.h"

#include <signal.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <thread>

#include "common/base/log.h"
#include "common/client/client.h"
#include "fusefs/kernel/fuse_mount.h"
#include "fusefs/kernel/fuse_ops.h"
#include "fusefs/kernel/mount.h"
#include "fusefs/kernel/mountpoint.h"
#include "fusefs/kernel/session_file.h"
#include "fusefs/kernel/workers.h"
#include "fusefs/names/names.h"
#include "fusefs/replay/helper.h"

namespace coord::fs {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kTick{50};
constexpr milliseconds kFirstAnswerMin{1000};     // -o wait=0 still tries once
constexpr milliseconds kPredecessorLimit{2000};   // for closing a dead predecessor's session
constexpr milliseconds kDrainLimit{3000};         // for commits at unmount
constexpr milliseconds kCloseLimit{2000};
constexpr milliseconds kStuckMargin{15'000};      // above the longest deadline of a request
constexpr milliseconds kTickLate{5000};           // the background thread has not come round for so long: hung

std::int64_t boottime_ms() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<std::int64_t>(now.tv_sec) * 1000 + now.tv_nsec / 1'000'000;
}

}  // namespace

class MountRunner final : public replay::Host {
 public:
  MountRunner(const MountOptions& options, const std::string& mountpoint, std::optional<Heartbeat> heartbeat)
      : options_(options), mountpoint_(mountpoint), heartbeat_(std::move(heartbeat)), file_(mountpoint) {
    mount_.options_ = options;
  }
  ~MountRunner() override { stop_threads(); }

  int run();
  // False: the process must end at once, because workers may still use what belongs to this object.
  bool clean() const { return mount_.session() == nullptr; }
  // Files were still open: the kernel will never tell us to release their handles.
  bool aborted() const { return aborted_; }

  // --- replay::Host
  void invalidate_entry(std::uint64_t parent, const std::string& name) override {
    if (mount_.session_ != nullptr) {
      fuse_lowlevel_notify_inval_entry(mount_.session_, parent, name.data(), name.size());
    }
  }
  bool directory_busy(std::uint64_t directory) override { return mount_.directory_busy(directory); }
  std::optional<std::string> directory_path(std::uint64_t directory) override {
    SharedLock lock(mount_.lock());
    return mount_.cache().path_of(directory);
  }
  bool place_of(std::uint64_t ino, std::uint64_t& parent, std::string& name) override {
    SharedLock lock(mount_.lock());
    const CachedNode* node = mount_.cache().find(node_of(ino));
    // Forgotten by the kernel, or never looked up, but somebody watches its directory: the event knows best.
    if (node == nullptr || (!node->current() && !node->gone())) return true;
    return node->current() && shows_name(node->info, view_of(ino)) && mount_.cache().place_of(ino, parent, name);
  }
  void finished(const replay::Event& event, bool raised) override { mount_.coherence().event_finished(event, raised); }

 private:
  int fail(const std::string& message, int status = kExitFailed);
  bool start_replayer(std::string& why);
  bool connect(std::string& why);
  void close_predecessor();
  bool fetch_root(std::string& why);
  bool mount_kernel(std::string& why);
  int serve();
  void unmount();
  void shut_down();

  void on_session(client::SessionEvent event);  // I/O thread
  void first_answer(const Answer<wire::CapabilitiesReply>& answer);
  void save_session();

  void beat_loop();
  void tick_loop();
  void check_link();
  bool healthy();
  void stop_threads();

  const MountOptions options_;
  const std::string mountpoint_;
  std::optional<Heartbeat> heartbeat_;
  const SessionFile file_;
  std::optional<SavedSession> predecessor_;

  // Everything the client's callbacks use lives longer than the client.
  Mount mount_;
  Workers workers_;
  std::unique_ptr<client::Client> client_;
  bool aborted_ = false;
  unsigned major_ = 0;
  unsigned minor_ = 0;

  std::mutex state_mutex_;
  std::condition_variable state_changed_;
  bool answered_ = false;           // the replica has answered the first request
  std::string refused_;             // it answered, but not as one of ours
  std::atomic<bool> connected_once_{false};

  std::atomic<std::int64_t> away_since_ms_{0};  // CLOCK_BOOTTIME; 0: connected
  std::atomic<bool> suspect_{false};
  std::atomic<bool> stop_requested_{false};  // the guardian has gone
  std::atomic<bool> threads_stop_{false};
  std::atomic<std::int64_t> ticked_ms_{0};
  std::thread beat_thread_;
  std::thread tick_thread_;
};

// --- start

int MountRunner::fail(const std::string& message, int status) {
  if (!heartbeat_ || !options_.log_file.empty()) log::error("fuse", "{}", message);  // else the guardian prints it
  if (heartbeat_) {
    heartbeat_->failed(message);
  } else {
    std::fprintf(stderr, "coordfs: %s\n", message.c_str());
  }
  shut_down();
  return status;
}

int MountRunner::run() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int s : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, s);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);

  std::string why;
  ticked_ms_ = boottime_ms();
  if (!start_replayer(why)) return fail(why);  // forks: before any thread of ours
  beat_thread_ = std::thread([this] { beat_loop(); });
  if (!connect(why)) return fail(why);
  close_predecessor();
  if (!fetch_root(why)) return fail(why);
  if (!mount_kernel(why)) return fail(why);
  tick_thread_ = std::thread([this] { tick_loop(); });
  return serve();
}

bool MountRunner::start_replayer(std::string& why) {
  replay::ReplayOptions replay_options;
  replay_options.mountpoint = mountpoint_;
  replay_options.read_only = options_.read_only;
  auto replayer = replay::Replayer::start(replay_options, *this);
  if (!replayer) {
    why = replayer.error().message;
    return false;
  }
  mount_.replayer_ = std::move(*replayer);
  return true;
}

bool MountRunner::connect(std::string& why) {
  auto target = client::parse_target(options_.source);
  if (!target) {
    why = target.error().message;
    return false;
  }
  predecessor_ = file_.load();
  mount_.writes_ = make_write_side(mount_);
  client::Options how;
  how.target = *target;
  how.session_timeout_ms = options_.session_timeout_ms;
  how.rearm_watches = false;
  how.hold_after_connect = true;
  how.on_session = [this](client::SessionEvent event) { on_session(event); };
  how.on_change = [this](const wire::ChangeEvent& event) { mount_.coherence().on_change(event); };
  // The callbacks wait for this lock, so they see the client attached.
  std::unique_lock lock(state_mutex_);
  client_ = client::Client::create(std::move(how));
  mount_.link_.attach(*client_);
  const auto limit = std::max<milliseconds>(options_.wait, kFirstAnswerMin);
  const auto deadline = steady_clock::now() + limit;
  while (!answered_ && refused_.empty() && steady_clock::now() < deadline && !stop_requested_) {
    state_changed_.wait_for(lock, milliseconds(100));
    timespec none{};
    sigset_t stop;
    sigemptyset(&stop);
    for (const int s : {SIGTERM, SIGINT}) sigaddset(&stop, s);
    if (sigtimedwait(&stop, nullptr, &none) > 0) {
      why = "told to stop while waiting for a replica";
      return false;
    }
  }
  if (answered_) return true;
  if (!refused_.empty()) {
    why = refused_;
  } else if (connected_once_) {
    why = "the server at " + options_.source +
          " accepts connections but does not answer coord's extension operations: it is not a coordd; tried: " +
          client_->what_was_tried();
  } else {
    why = "no replica answers at " + options_.source + "; tried: " + client_->what_was_tried();
  }
  return false;
}

void MountRunner::close_predecessor() {
  if (!predecessor_ || predecessor_->session == client_->session() || predecessor_->source != options_.source) return;
  auto target = client::parse_target(predecessor_->source);
  if (!target) return;
  client::Options how;
  how.target = *target;
  how.session = predecessor_->session;
  how.password = predecessor_->password;
  how.renew = false;
  const auto outcome = std::make_shared<std::promise<bool>>();  // true: the session is ours to close
  const auto told = std::make_shared<std::atomic<bool>>(false);
  how.on_session = [outcome, told](client::SessionEvent event) {
    if (event == client::SessionEvent::kDisconnected || told->exchange(true)) return;
    outcome->set_value(event != client::SessionEvent::kExpired);
  };
  auto future = outcome->get_future();
  auto old = client::Client::create(std::move(how));
  // Not ours to close: it has expired, or will.
  if (future.wait_for(kPredecessorLimit) != std::future_status::ready || !future.get()) return;
  old->close(kPredecessorLimit);
  log::info("fuse", "closed the session of a dead predecessor session=0x{:x}", predecessor_->session);
}

bool MountRunner::fetch_root(std::string& why) {
  const Credentials who{geteuid(), getegid(), {}};
  const auto target = client::parse_target(options_.source);
  const std::string path = target ? target->chroot : "";
  NodeId at = kRootNode;
  for (std::size_t begin = 1; begin < path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const auto answer = mount_.link_.lookup({who, at, path.substr(begin, end - begin), false, 0}, kCallDeadline);
    if (!answer.ok()) {
      why = fmt::format("cannot mount {} of the tree: {}: {}", path, path.substr(0, end), error_text(answer.err));
      return false;
    }
    at = answer.value.id;
    begin = end + 1;
  }
  set_mount_root(at);
  mount_.cache_.set_root_path(path);
  const Err err = mount_.coherence().fetch_node(at, who, within(kCallDeadline));
  if (err != Err::kOk) {
    why = fmt::format("the replica does not give the root: {}", error_text(err));
    return false;
  }
  // The kernel knows the root without ever looking it up, and somebody may watch it.
  SharedLock lock(mount_.lock());
  mount_.cache().add_lookup(kRootIno);
  return true;
}

bool MountRunner::mount_kernel(std::string& why) {
  std::string opts = "fsname=coord,subtype=coordfs,default_permissions,nosuid,nodev";
  if (options_.allow_other) opts += ",allow_other";
  if (options_.read_only) opts += ",ro";
  std::string name = "coordfs", flag = "-o";
  char* argv[] = {name.data(), flag.data(), opts.data(), nullptr};
  fuse_args args = FUSE_ARGS_INIT(3, argv);
  const fuse_lowlevel_ops ops = fuse_ops(options_.locks == LockScope::kLocal);
  fuse_session* session = fuse_session_new(&args, &ops, sizeof ops, &mount_);
  fuse_opt_free_args(&args);
  if (session == nullptr) {
    why = "libfuse refuses the session";
    return false;
  }
  const auto connection = mount_fuse(mountpoint_, {"coord", options_.allow_other, options_.read_only});
  if (!connection) {
    fuse_session_destroy(session);
    why = connection.error().message;
    return false;
  }
  // An ordinary user's fusermount3 cannot mount over a dead mount.
  if (!*connection) (void)clear_dead_mounts(mountpoint_);
  const std::string target = *connection ? fmt::format("/dev/fd/{}", **connection) : mountpoint_;
  if (fuse_session_mount(session, target.c_str()) != 0) {
    fuse_session_destroy(session);
    why = "cannot mount at " + mountpoint_ + " (see the line above, if any; is fuse3 installed, /dev/fuse there, " +
          "and, for an ordinary user, user_allow_other set in /etc/fuse.conf where allow_other is asked for?)";
    return false;
  }
  mount_.session_ = session;
  // Found by path in mountinfo, which asks nobody: not even this daemon, that does not answer yet.
  const auto entry = mount_at(mountpoint_);
  if (!entry || entry->type != kMountType) {
    why = "the mount at " + mountpoint_ + " has vanished";
    return false;
  }
  major_ = entry->major;
  minor_ = entry->minor;
  if (options_.read_only && (entry->read_only_below || !replay::can_raise_on_read_only(mountpoint_))) {
    mount_.raise_events_ = false;
    log::warn("fuse", "changes raise no inotify events: {}", entry->read_only_below
                          ? "the file system is read-only, not this mount of it alone"
                          : "open_tree(2) and mount_setattr(2) are not allowed here");
  }
  if (heartbeat_) heartbeat_->mounted(major_, minor_);
  return true;
}

// --- life

int MountRunner::serve() {
  workers_.start(mount_.session_);
  mount_.replayer_->run(makedev(major_, minor_));
  log::info("fuse", "mounted at={} source={} session=0x{:x} device={}:{}", mountpoint_, options_.source,
            client_->session(), major_, minor_);
  if (heartbeat_) heartbeat_->ready();
  if (!options_.debug) log::set_level(log::Level::kInfo);
  sigset_t signals;
  sigemptyset(&signals);
  for (const int s : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, s);
  while (!workers_.ended() && fuse_session_exited(mount_.session_) == 0 && !stop_requested_) {
    const timespec slice{0, 100'000'000};
    const int got = sigtimedwait(&signals, nullptr, &slice);
    if (got == SIGHUP) log::reopen();
    if (got == SIGTERM || got == SIGINT) {
      log::info("fuse", "stopping signal={}", got);
      break;
    }
  }
  unmount();
  shut_down();
  return kExitUnmounted;
}

void MountRunner::unmount() {
  // Requests go on being answered meanwhile: replays, and the last closes of open files, need them.
  mount_.replayer_->stop();
  if (!workers_.ended()) {
    if (auto gone = unmount_lazily(mountpoint_, minor_); !gone) {
      log::warn("fuse", "unmount failed reason={}", gone.error().message);
    }
    (void)clear_dead_mounts(mountpoint_);  // an older kernel has left a dead predecessor below
    if (!workers_.wait(milliseconds(500))) {
      mount_.writes().drain(kDrainLimit);
      if (!workers_.wait(milliseconds(500))) {
        log::warn("fuse", "files are still open: aborting the connection");
        aborted_ = true;
        if (auto done = abort_connection(minor_); !done) {
          log::warn("fuse", "abort failed reason={}", done.error().message);
        }
        fuse_session_exit(mount_.session_);
        workers_.wait(milliseconds(1000));
      }
    }
  }
  mount_.writes().drain(kDrainLimit);
}

void MountRunner::shut_down() {
  stop_threads();
  if (mount_.replayer_) mount_.replayer_->stop();
  if (client_) {
    const bool away = away_since_ms_.load() != 0;  // then nobody hears the close: the next start sees to it
    client_->close(kCloseLimit);
    if (answered_ && !away) file_.remove();
  }
  if (mount_.session_ != nullptr && (workers_.ended() || workers_.requests() == 0)) {
    fuse_session* session = mount_.session_;
    mount_.session_ = nullptr;
    fuse_session_unmount(session);
    fuse_session_destroy(session);
  }
  if (mount_.session_ == nullptr) {  // else workers that hang may still use all of it: run_mount() ends the process
    mount_.writes_.reset();
    client_.reset();
  }
}

// --- the replica's side

void MountRunner::on_session(client::SessionEvent event) {
  { const std::lock_guard wait_for_attach(state_mutex_); }
  mount_.link_.on_session(event);
  switch (event) {
    case client::SessionEvent::kDisconnected:
      if (away_since_ms_.load() == 0) away_since_ms_ = boottime_ms();
      log::warn("fuse", "replica away");
      mount_.writes().on_link(Link::kAway);
      return;
    case client::SessionEvent::kExpired:
      log::warn("fuse", "session expired");
      return;  // a new one follows, or the next event
    case client::SessionEvent::kConnected:
    case client::SessionEvent::kReconnected:
      break;
  }
  connected_once_ = true;
  save_session();
  const bool is_new = event == client::SessionEvent::kConnected;
  bool first = false;
  {
    const std::lock_guard guard(state_mutex_);
    first = !answered_;
  }
  if (first) {
    mount_.link_.capabilities_async({}, true, [this](const Answer<wire::CapabilitiesReply>& a) { first_answer(a); });
    return;
  }
  log::info("fuse", "replica back session=0x{:x} new={}", client_->session(), is_new);
  mount_.coherence().resume([this, is_new] {
    client_->release();
    away_since_ms_ = 0;
    suspect_ = false;
    mount_.reads_allowed_ = true;
    mount_.writes().on_link(is_new ? Link::kNew : Link::kBack);
  });
}

void MountRunner::first_answer(const Answer<wire::CapabilitiesReply>& answer) {
  const std::lock_guard guard(state_mutex_);
  if (answer.err == Err::kConnectionLoss || answer.err == Err::kSessionExpired) return;  // the next one asks again
  if (!answer.ok()) {
    refused_ = fmt::format("the server at {} refuses coord's extension operations ({}): it is not a coordd",
                           options_.source, error_name(answer.err));
  } else if (answer.value.feature_level < wire::kFeatureLevel) {
    refused_ = fmt::format("the replica has feature level {}, this coordfs needs {}", answer.value.feature_level,
                           wire::kFeatureLevel);
  } else {
    answered_ = true;
    mount_.data_max_ = static_cast<std::size_t>(std::max(answer.value.frame_size_max - 4096, 4096));
    log::info("fuse", "replica answers feature_level={} trusted={} uid={}", answer.value.feature_level,
              answer.value.trusted, answer.value.peer_uid);
    away_since_ms_ = 0;
    client_->release();
  }
  state_changed_.notify_all();
}

void MountRunner::save_session() {
  if (!file_.usable()) return;
  const SavedSession now{options_.source, client_->session(), client_->password()};
  if (!file_.save(now)) log::warn("fuse", "cannot write {}", file_.path());
}

// --- background

bool MountRunner::healthy() {
  if (boottime_ms() - ticked_ms_.load() > kTickLate.count() && tick_thread_.joinable()) return false;
  return !workers_.stuck(kCallDeadline + kStuckMargin);
}

void MountRunner::beat_loop() {
  while (!threads_stop_) {
    if (heartbeat_ && healthy() && !heartbeat_->beat()) {
      log::warn("fuse", "the guardian has gone: unmounting");
      stop_requested_ = true;
    }
    std::this_thread::sleep_for(kBeatInterval);
  }
}

void MountRunner::tick_loop() {
  int round = 0;
  while (!threads_stop_) {
    std::this_thread::sleep_for(kTick);
    mount_.coherence().tick();
    // A hung I/O thread, or a lock that never comes free, stops this stamp and with it the heartbeat.
    { SharedLock lock(mount_.lock()); }
    ticked_ms_ = boottime_ms();
    if (++round % static_cast<int>(kProbeInterval / kTick) == 0) mount_.link_.tick();
    check_link();
  }
}

void MountRunner::check_link() {
  const std::int64_t since = away_since_ms_.load();
  if (since == 0) return;
  const std::int64_t away = boottime_ms() - since;
  // The connection was found dead at most two thirds of the time-out after the last sign of life (common/client), so
  // the leader cannot expire the session before another third has passed.
  if (away > client_->negotiated_timeout_ms() / 3 && !suspect_.exchange(true)) {
    mount_.writes().on_link(Link::kSuspect);
  }
  if (options_.stale_fail_after && away > milliseconds(*options_.stale_fail_after).count() &&
      mount_.reads_allowed_.exchange(false)) {
    log::warn("fuse", "reads fail from now on: replica away for {} ms (stale=fail)", away);
    // What the kernel has cached must be asked about again.
    std::vector<NodeId> known;
    {
      SharedLock lock(mount_.lock());
      mount_.cache().for_each([&known](NodeId id, const CachedNode& node) {
        if (node.kernel_knows()) known.push_back(id);
      });
    }
    for (const NodeId id : known) mount_.coherence().invalidate_attributes(id);
  }
}

void MountRunner::stop_threads() {
  threads_stop_ = true;
  if (tick_thread_.joinable()) tick_thread_.join();
  if (beat_thread_.joinable()) beat_thread_.join();
}

int run_mount(const MountOptions& options, const std::string& mountpoint, std::optional<Heartbeat> heartbeat) {
  auto runner = std::make_unique<MountRunner>(options, mountpoint, std::move(heartbeat));
  const int status = runner->run();
  if (!runner->clean()) log::warn("fuse", "requests are still being answered: ending the process as it is");
  if (!runner->clean() || runner->aborted()) std::_Exit(status);
  return status;
}

}  // namespace coord::fs
