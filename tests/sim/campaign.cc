#include "tests/sim/campaign.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <sstream>

namespace coord::sim {

namespace {

struct Worker {
  pid_t pid = -1;
  int pipe = -1;
  std::string input;
  std::uint64_t next = 0;      // seed to start with
  std::uint64_t running = 0;   // being run; 0: none
};

void say(int fd, const std::string& line) {
  std::size_t done = 0;
  while (done < line.size()) {
    const ssize_t n = ::write(fd, line.data() + done, line.size() - done);
    if (n <= 0) ::_exit(3);
    done += static_cast<std::size_t>(n);
  }
}

[[noreturn]] void work(const CampaignOptions& options, std::uint64_t first, int stride, int fd) {
  ::signal(SIGABRT, SIG_DFL);
  for (std::uint64_t seed = first; seed <= options.last; seed += static_cast<std::uint64_t>(stride)) {
    say(fd, "S " + std::to_string(seed) + "\n");
    ::alarm(static_cast<unsigned>(options.seconds_per_seed));
    const Outcome outcome = options.run(seed);
    std::ostringstream line;
    line << (outcome.good ? "G " : "V ") << seed << ' ' << outcome.simulated_ms << ' ' << outcome.steps << ' '
         << outcome.transactions << ' ' << outcome.leaders << ' ' << outcome.snapshots << ' ' << outcome.answers << ' '
         << outcome.confirmations << ' ' << outcome.changes << ' ' << outcome.violation << '\n';
    say(fd, line.str());
    if (!outcome.good && !options.keep_going) break;
  }
  ::_exit(0);
}

void start(Worker& worker, const CampaignOptions& options, int stride) {
  int ends[2];
  if (::pipe(ends) != 0) std::abort();
  std::fflush(nullptr);
  worker.pid = ::fork();
  if (worker.pid == 0) {
    ::close(ends[0]);
    work(options, worker.next, stride, ends[1]);
  }
  ::close(ends[1]);
  worker.pipe = ends[0];
}

void take(Worker& worker, const std::string& line, Summary& summary, int stride) {
  std::istringstream in(line);
  char kind = 0;
  std::uint64_t seed = 0;
  in >> kind >> seed;
  if (kind == 'S') {
    worker.running = seed;
    worker.next = seed + static_cast<std::uint64_t>(stride);
    return;
  }
  worker.running = 0;
  std::uint64_t ms = 0, steps = 0, transactions = 0, leaders = 0, snapshots = 0, answers = 0, confirmations = 0;
  std::uint64_t changes = 0;
  in >> ms >> steps >> transactions >> leaders >> snapshots >> answers >> confirmations >> changes;
  ++summary.seeds;
  summary.simulated_ms += ms;
  summary.steps += steps;
  summary.transactions += transactions;
  summary.leaders += leaders;
  summary.snapshots += snapshots;
  summary.answers += answers;
  summary.confirmations += confirmations;
  summary.changes += changes;
  if (kind == 'V') {
    std::string what;
    std::getline(in, what);
    summary.failures.push_back({seed, what.empty() ? what : what.substr(1)});
  }
}

// False: it has ended.
bool read_some(Worker& worker, Summary& summary, int stride) {
  char buffer[4096];
  const ssize_t n = ::read(worker.pipe, buffer, sizeof buffer);
  if (n <= 0) return false;
  worker.input.append(buffer, static_cast<std::size_t>(n));
  for (std::size_t end = worker.input.find('\n'); end != std::string::npos; end = worker.input.find('\n')) {
    take(worker, worker.input.substr(0, end), summary, stride);
    worker.input.erase(0, end + 1);
  }
  return true;
}

void finish(Worker& worker, Summary& summary) {
  ::close(worker.pipe);
  worker.pipe = -1;
  int status = 0;
  ::waitpid(worker.pid, &status, 0);
  if (worker.running == 0) return;
  ++summary.seeds;
  std::string what = "the process ended";
  if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    what = signal == SIGABRT   ? "a check failed (see above)"
           : signal == SIGALRM ? "hangs"
                               : "signal " + std::to_string(signal);
  }
  summary.failures.push_back({worker.running, what});
  worker.running = 0;
}

}  // namespace

Summary run_campaign(const CampaignOptions& options) {
  Summary summary;
  const auto began = std::chrono::steady_clock::now();
  std::vector<Worker> workers(static_cast<std::size_t>(options.jobs));
  for (std::size_t i = 0; i < workers.size(); ++i) {
    workers[i].next = options.first + i;
    if (workers[i].next <= options.last) start(workers[i], options, options.jobs);
  }
  while (true) {
    std::vector<pollfd> polls;
    std::vector<Worker*> owners;
    for (Worker& worker : workers) {
      if (worker.pipe < 0) continue;
      polls.push_back({worker.pipe, POLLIN, 0});
      owners.push_back(&worker);
    }
    if (polls.empty()) break;
    if (::poll(polls.data(), polls.size(), -1) < 0) continue;
    for (std::size_t i = 0; i < polls.size(); ++i) {
      if (polls[i].revents == 0 || read_some(*owners[i], summary, options.jobs)) continue;
      finish(*owners[i], summary);
      const bool more = options.keep_going && owners[i]->next <= options.last;
      if (more) start(*owners[i], options, options.jobs);
    }
    if (!summary.failures.empty() && !options.keep_going) {
      for (Worker& worker : workers) {
        if (worker.pipe < 0) continue;
        ::kill(worker.pid, SIGKILL);
        ::waitpid(worker.pid, nullptr, 0);
        ::close(worker.pipe);
        worker.pipe = -1;
      }
    }
  }
  summary.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  return summary;
}

}  // namespace coord::sim
