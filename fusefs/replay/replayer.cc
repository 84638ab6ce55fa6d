#include "fusefs/replay/replayer.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "common/base/log.h"
#include "fusefs/replay/helper.h"
#include "fusefs/replay/queue.h"

namespace coord::fs::replay {

using std::chrono::milliseconds;

namespace {
constexpr const char* kLog = "replay";
constexpr milliseconds kRespawnMin{10};
constexpr milliseconds kRespawnMax{1000};
constexpr milliseconds kBusyPause{2};  // before directories whose locks were held are looked at again

// Not this job's fault: no other will fare better.
bool forbidden(const Job& job, int error) {
  if (error == EROFS) return true;
  return job.read_only && (error == EPERM || error == ENOSYS || error == EINVAL);
}
}  // namespace

// What workers, the adding thread and the counters share.
struct Replayer::State {
  State(ReplayOptions o, Host& h) : options(std::move(o)), host(h) {}

  const ReplayOptions options;
  Host& host;
  std::vector<std::shared_ptr<Worker>> workers;  // fixed after start()
  std::atomic<bool> told{false};                 // the log says already that jobs are forbidden

  std::mutex mutex;  // guards all below; before a worker's
  std::condition_variable work;     // for idle workers
  std::condition_variable stop;     // for workers that wait for a helper
  std::condition_variable settled;  // for stop() and wait_idle()
  EventQueue queue;
  ReplayCounters counters;
  std::uint64_t device = 0;
  bool started = false;
  bool stopping = false;
  int running = 0;  // worker threads that have not ended
};

// One thread, one helper.
class Replayer::Worker {
 public:
  explicit Worker(std::shared_ptr<Pids> pids) : pids_(std::move(pids)) {}

  Result<bool, Fault> spawn(const ReplayOptions& options);
  void work(State& state);  // the thread
  std::thread thread;

  // Is `tid` this worker's present helper? Then `match` is its answer.
  bool match(pid_t tid, FsCall call, std::uint64_t node, std::string_view name, std::uint64_t new_parent,
             std::string_view new_name, std::optional<Match>& match);
  bool overtaken(std::uint64_t parent, std::string_view name);  // true: as Replayer::overtake()
  // From stop(): ends a job that hangs.
  void kill_helper();

 private:
  void process(State& state, const Taken& taken);
  Outcome attempt(State& state, const Taken& taken, int attempts);
  bool install(State& state, const Taken& taken, const Event& seen, const Job& job);
  bool locate(State& state, Event event, Job& job) const;
  bool ensure_helper(State& state);
  void retire();
  void sweep();
  bool enter_pid(pid_t pid);
  void leave_pid(pid_t pid);

  std::shared_ptr<Pids> pids_;
  std::vector<std::unique_ptr<HelperProcess>> dying_;  // killed, perhaps not dead yet: their pids are still ours
  milliseconds backoff_ = kRespawnMin;
  std::uint64_t next_job_ = 1;

  std::mutex mutex_;  // guards the two below; never held across a system call that can block
  std::unique_ptr<HelperProcess> helper_;
  std::optional<JobMatcher> job_;
};

bool Replayer::Worker::enter_pid(pid_t pid) {
  for (auto& slot : pids_->slots) {
    pid_t free = 0;
    if (slot.compare_exchange_strong(free, pid)) return true;
  }
  return false;
}

void Replayer::Worker::leave_pid(pid_t pid) {
  for (auto& slot : pids_->slots) {
    pid_t expected = pid;
    if (slot.compare_exchange_strong(expected, 0)) return;
  }
}

Result<bool, Fault> Replayer::Worker::spawn(const ReplayOptions& options) {
  auto fresh = std::make_unique<HelperProcess>();
  auto started = fresh->start(options.exe, options.mountpoint);
  if (!started) return started;
  if (!enter_pid(fresh->pid())) return fail(Fault{"replay helper: too many that do not end"});
  const std::lock_guard lock(mutex_);
  helper_ = std::move(fresh);
  return true;
}

// The helper gets no further job. Its pid stays known, and its calls refused, until it is dead.
void Replayer::Worker::retire() {
  std::unique_ptr<HelperProcess> old;
  {
    const std::lock_guard lock(mutex_);
    old = std::move(helper_);
    job_.reset();
  }
  if (!old) return;
  old->kill();
  dying_.push_back(std::move(old));
}

void Replayer::Worker::sweep() {
  std::erase_if(dying_, [&](const std::unique_ptr<HelperProcess>& helper) {
    if (!helper->dead()) return false;
    leave_pid(helper->pid());  // first forgotten, then reaped: until then nobody else can have this pid
    helper->reap();
    return true;
  });
}

void Replayer::Worker::kill_helper() {
  const std::lock_guard lock(mutex_);
  if (helper_) helper_->kill();
}

bool Replayer::Worker::match(pid_t tid, FsCall call, std::uint64_t node, std::string_view name,
                             std::uint64_t new_parent, std::string_view new_name, std::optional<Match>& match) {
  const std::lock_guard lock(mutex_);
  if (!helper_ || helper_->pid() != tid || !job_) return false;
  match = job_->match(call, node, name, new_parent, new_name);
  return true;
}

bool Replayer::Worker::overtaken(std::uint64_t parent, std::string_view name) {
  const std::lock_guard lock(mutex_);
  if (!job_) return false;
  job_->overtaken(parent, name);
  return job_->told_gone(parent, name);
}

// False: the replayer stops.
bool Replayer::Worker::ensure_helper(State& state) {
  while (true) {
    sweep();
    bool alive = false;
    {
      const std::lock_guard lock(mutex_);
      alive = helper_ && !helper_->dead();
    }
    if (alive) return true;
    retire();
    sweep();
    auto started = dying_.size() < 2 ? spawn(state.options) : fail(Fault{"replay helper: the old one does not end"});
    std::unique_lock lock(state.mutex);
    if (started) {
      ++state.counters.respawned;
      log::warn(kLog, "helper started again");
      return !state.stopping;
    }
    log::error(kLog, "{}", started.error().message);
    if (state.stop.wait_for(lock, backoff_, [&] { return state.stopping; })) return false;
    backoff_ = std::min(backoff_ * 2, kRespawnMax);
  }
}

// What is to be raised, and where its names are now. A data or attribute event follows its node. False: nothing, or
// nowhere.
bool Replayer::Worker::locate(State& state, Event event, Job& job) const {
  if (event.kind == EventKind::kData || event.kind == EventKind::kAttributes) {
    if (!state.host.place_of(event.ino, event.parent, event.name)) return false;
  }
  auto path = state.host.directory_path(event.parent);
  if (event.kind == EventKind::kRename) {
    auto new_path = state.host.directory_path(event.new_parent);
    event = what_is_reached(event, path.has_value(), new_path.has_value());
    if (event.kind == EventKind::kCreate) path = new_path;
    if (new_path) job.new_path = std::move(*new_path);
  }
  if (!path || !event.raise) return false;
  job.path = std::move(*path);
  job.event = std::move(event);
  return true;
}

// From here on the helper's calls are answered for the job. False: a name was overtaken since the event was `seen`.
bool Replayer::Worker::install(State& state, const Taken& taken, const Event& seen, const Job& job) {
  const std::lock_guard state_lock(state.mutex);  // overtake() finds the event as it is, or the job
  const Event& now = state.queue.current(taken);
  const bool same_names = now.overtaken == seen.overtaken && now.new_overtaken == seen.new_overtaken;
  if (now.raise != seen.raise || !same_names) return false;
  const std::lock_guard lock(mutex_);
  job_.emplace(job.event);
  return true;
}

Outcome Replayer::Worker::attempt(State& state, const Taken& taken, int attempts) {
  Event event;
  {
    const std::lock_guard lock(state.mutex);
    event = state.queue.current(taken);
  }
  const bool names_change = event.kind != EventKind::kData && event.kind != EventKind::kAttributes;
  if (names_change) state.host.invalidate_entry(event.parent, event.name);
  if (event.kind == EventKind::kRename) state.host.invalidate_entry(event.new_parent, event.new_name);
  const Event left = what_is_left(event);
  if (!left.raise || !ensure_helper(state)) return Outcome::kGiveUp;
  Job job;
  if (!locate(state, left, job)) return Outcome::kGiveUp;
  job.id = next_job_++;
  job.device = state.device;
  job.read_only = state.options.read_only;
  // The kernel may have something else under that name: the source of a rename onto the node by this host.
  if (!names_change && attempts > 1) state.host.invalidate_entry(job.event.parent, job.event.name);
  if (!install(state, taken, event, job)) return Outcome::kAgain;
  HelperProcess* const helper = helper_.get();  // only this thread takes it away
  const auto answer = helper->run(job, static_cast<int>(state.options.deadline.count()));
  bool raised = false;
  {
    const std::lock_guard lock(mutex_);
    raised = job_->raised();
    job_.reset();
  }
  if (left.kind == EventKind::kGone) state.host.invalidate_entry(left.parent, left.name);
  if (!answer) {
    log::warn(kLog, "helper pid={} died or did not answer", helper->pid());
    retire();
    return outcome(std::nullopt, raised, attempts);
  }
  backoff_ = kRespawnMin;
  if (forbidden(job, answer->error) && !state.told.exchange(true)) {
    log::warn(kLog,
              "changes raise no inotify events: {} (was all of the mount made read-only, or unbindable, or are "
              "open_tree(2) and mount_setattr(2) not allowed here?)",
              std::strerror(answer->error));
  }
  return outcome(answer->error, raised, attempts);
}

void Replayer::Worker::process(State& state, const Taken& taken) {
  Outcome result = Outcome::kAgain;
  for (int attempts = 1; result == Outcome::kAgain; ++attempts) {
    result = attempt(state, taken, attempts);
    if (result != Outcome::kAgain) break;
    std::unique_lock lock(state.mutex);
    if (state.stop.wait_for(lock, pause_after(attempts), [&] { return state.stopping; })) result = Outcome::kGiveUp;
  }
  const bool raised = result == Outcome::kDone;
  {
    const std::lock_guard lock(state.mutex);
    if (raised) ++state.counters.raised;
    if (!raised && taken.event.raise) ++state.counters.given_up;
  }
  state.host.finished(taken.event, raised);
}

void Replayer::Worker::work(State& state) {
  std::unique_lock lock(state.mutex);
  while (!state.stopping) {
    const auto busy = [&](std::uint64_t directory) { return state.host.directory_busy(directory); };
    const auto taken = state.queue.take(busy);
    if (!taken) {
      // Something waits, but its directory is locked or in another worker's hands: the latter will notify.
      if (state.queue.waiting() > 0) {
        state.work.wait_for(lock, kBusyPause);
      } else {
        state.work.wait(lock);
      }
      continue;
    }
    lock.unlock();
    process(state, *taken);
    lock.lock();
    state.queue.done(*taken);  // no notification: this thread takes what that has set free
    if (state.queue.idle()) state.settled.notify_all();
  }
  lock.unlock();
  retire();
  for (int i = 0; i < 100 && !dying_.empty(); ++i) {
    sweep();
    if (!dying_.empty()) std::this_thread::sleep_for(milliseconds(1));
  }
  lock.lock();
  --state.running;
  state.settled.notify_all();
}

Replayer::Replayer(std::shared_ptr<Pids> pids, std::shared_ptr<State> state)
    : pids_(std::move(pids)), state_(std::move(state)) {}

Result<std::unique_ptr<Replayer>, Fault> Replayer::start(ReplayOptions options, Host& host) {
  COORD_CHECK(options.workers >= 1 && options.workers <= kWorkersMax);
  auto pids = std::make_shared<Pids>();
  auto state = std::make_shared<State>(std::move(options), host);
  for (int i = 0; i < state->options.workers; ++i) {
    auto worker = std::make_shared<Worker>(pids);
    if (auto started = worker->spawn(state->options); !started) return fail(started.error());
    state->workers.push_back(std::move(worker));
  }
  return std::unique_ptr<Replayer>(new Replayer(std::move(pids), std::move(state)));
}

Replayer::~Replayer() { stop(); }

void Replayer::run(std::uint64_t device) {
  const std::lock_guard lock(state_->mutex);
  COORD_CHECK(!state_->started && device != 0);
  state_->started = true;
  state_->device = device;
  if (state_->stopping) return;
  for (const auto& worker : state_->workers) {
    ++state_->running;
    worker->thread = std::thread([worker, state = state_] { worker->work(*state); });
  }
}

bool Replayer::stop(milliseconds limit) {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
    state_->work.notify_all();
    state_->stop.notify_all();
  }
  for (const auto& worker : state_->workers) worker->kill_helper();
  std::unique_lock lock(state_->mutex);
  const bool ended = state_->settled.wait_for(lock, limit, [&] { return state_->running == 0; });
  lock.unlock();
  for (const auto& worker : state_->workers) {
    if (!worker->thread.joinable()) continue;
    if (ended) {
      worker->thread.join();
    } else {
      worker->thread.detach();  // it hangs in a directory's lock and has its share of the state
    }
  }
  if (!ended) log::warn(kLog, "a replay worker hangs; left behind");
  return ended;
}

void Replayer::add(Event event) {
  std::vector<Event> removed;
  bool refused = false;
  {
    const std::lock_guard lock(state_->mutex);
    refused = state_->stopping;
    if (!refused) {
      state_->queue.add(event, [&](const Event& gone) { removed.push_back(gone); });
      state_->work.notify_one();
    }
  }
  if (refused) removed.push_back(std::move(event));
  for (const Event& gone : removed) state_->host.finished(gone, false);
}

bool Replayer::overtake(std::uint64_t parent, std::string_view name) {
  const std::lock_guard lock(state_->mutex);
  state_->queue.overtake(parent, name);
  bool told_gone = false;
  for (const auto& worker : state_->workers) told_gone = worker->overtaken(parent, name) || told_gone;
  return told_gone;
}

std::optional<Match> Replayer::match_helper(pid_t tid, FsCall call, std::uint64_t node, std::string_view name,
                                            std::uint64_t new_parent, std::string_view new_name) {
  std::optional<Match> match;
  for (const auto& worker : state_->workers) {
    if (worker->match(tid, call, node, name, new_parent, new_name, match)) return match;
  }
  // A helper between two jobs, or a dying one: it may look, but change nothing.
  if (call == FsCall::kLookup) return std::nullopt;
  return Match{};
}

ReplayCounters Replayer::counters() const {
  const std::lock_guard lock(state_->mutex);
  ReplayCounters out = state_->counters;
  out.coalesced = state_->queue.coalesced();
  out.dropped = state_->queue.dropped();
  out.waiting = state_->queue.waiting();
  return out;
}

bool Replayer::wait_idle(milliseconds limit) const {
  std::unique_lock lock(state_->mutex);
  return state_->settled.wait_for(lock, limit, [&] { return state_->queue.idle(); });
}

}  // namespace coord::fs::replay
