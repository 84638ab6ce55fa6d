// What a program sees through the mount, beside the same calls on another directory (ext4) in the same run, the two in
// turn so that a drift of the machine's speed hits both. Prints one JSON object a row.
//
//   mount_bench --mount DIR --other DIR [--seconds S]
//   mount_bench --mount DIR --events N --server HOST:PORT --path /znode    remote change -> inotify event
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "common/client/client.h"

namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void die(const std::string& what) {
  std::perror(("mount_bench: " + what).c_str());
  std::exit(1);
}

void write_file(const std::string& path, const std::string& data, int flags) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | flags, 0644);
  if (fd < 0) die("open " + path);
  if (::write(fd, data.data(), data.size()) != static_cast<ssize_t>(data.size())) die("write " + path);
  if (::close(fd) != 0) die("close " + path);
}

void read_file(const std::string& path, char* buffer, std::size_t size) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) die("open " + path);
  if (::read(fd, buffer, size) < 0) die("read " + path);
  ::close(fd);
}

// Calls per second of `work` over `seconds`.
double rate(double seconds, const std::function<void(std::size_t)>& work) {
  const auto end = Clock::now() + std::chrono::microseconds(static_cast<std::int64_t>(seconds * 1e6));
  const auto begin = Clock::now();
  std::size_t n = 0;
  while (Clock::now() < end) {
    for (int k = 0; k < 8; ++k) work(n++);
  }
  return static_cast<double>(n) / std::chrono::duration<double>(Clock::now() - begin).count();
}

struct Row {
  const char* name;
  std::function<void(const std::string& dir, std::size_t n)> work;
};

void compare(const std::string& mount, const std::string& other, double seconds) {
  const std::string data(1024, 'x');
  char buffer[4096];
  for (const std::string& dir : {mount, other}) {
    for (int n = 0; n < 64; ++n) write_file(dir + "/bench" + std::to_string(n), data, O_CREAT | O_TRUNC);
  }
  const Row rows[] = {
      {"stat", [](const std::string& dir, std::size_t n) {
         struct stat info {};
         if (::stat((dir + "/bench" + std::to_string(n % 64)).c_str(), &info) != 0) die("stat");
       }},
      {"open_read_close", [&](const std::string& dir, std::size_t n) {
         read_file(dir + "/bench" + std::to_string(n % 64), buffer, sizeof buffer);
       }},
      {"write_close", [&](const std::string& dir, std::size_t n) {
         write_file(dir + "/bench" + std::to_string(n % 64), data, O_TRUNC);
       }},
      {"create_write_close", [&](const std::string& dir, std::size_t n) {
         write_file(dir + "/new" + std::to_string(n), data, O_CREAT | O_EXCL);
       }},
  };
  for (const Row& row : rows) {
    std::vector<double> here, there, ratio;
    for (int round = 0; round < 3; ++round) {
      std::size_t base = 10'000'000 * static_cast<std::size_t>(round);
      here.push_back(rate(seconds, [&](std::size_t n) { row.work(mount, base + n); }));
      there.push_back(rate(seconds, [&](std::size_t n) { row.work(other, base + n); }));
      ratio.push_back(here.back() / there.back());
    }
    std::sort(here.begin(), here.end());
    std::sort(there.begin(), there.end());
    std::sort(ratio.begin(), ratio.end());
    std::printf("{\"run\":\"%s\",\"mount_per_s\":%.0f,\"other_per_s\":%.0f,\"ratio\":%.3f}\n", row.name, here[1],
                there[1], ratio[1]);
    std::fflush(stdout);
  }
}

void events(const std::string& mount, const std::string& server, const std::string& path, int count) {
  auto target = coord::client::parse_target(server);
  if (!target) {
    std::fprintf(stderr, "mount_bench: %s\n", target.error().message.c_str());
    std::exit(2);
  }
  coord::client::Options options;
  options.target = *target;
  auto client = coord::client::Client::create(options);
  if (!client->wait_connected(std::chrono::seconds(5))) {
    std::fprintf(stderr, "mount_bench: no server: %s\n", client->what_was_tried().c_str());
    std::exit(1);
  }
  coord::client::Blocking calls(*client);
  if (!calls.set(path, "0")) (void)calls.create(path, "0", coord::wire::CreateMode::kPersistent);
  const std::string file = mount + path;
  struct stat info {};
  if (::stat(file.c_str(), &info) != 0) die("stat " + file);
  const int watch = inotify_init1(IN_CLOEXEC);
  if (inotify_add_watch(watch, file.c_str(), IN_CLOSE_WRITE) < 0) die("inotify_add_watch " + file);
  std::vector<double> samples;
  for (int n = 0; n < count; ++n) {
    if (!calls.set(path, std::to_string(n))) die("set");
    const auto applied = Clock::now();  // the answer arrived: it was applied a little earlier
    pollfd ready{watch, POLLIN, 0};
    if (poll(&ready, 1, 5000) <= 0) die("no event for 5 s");
    samples.push_back(std::chrono::duration<double, std::micro>(Clock::now() - applied).count());
    char buffer[4096];
    if (::read(watch, buffer, sizeof buffer) < 0) die("read inotify");
  }
  std::sort(samples.begin(), samples.end());
  const auto at = [&](double q) {
    return samples[static_cast<std::size_t>(q * static_cast<double>(samples.size() - 1))];
  };
  std::printf("{\"run\":\"answer_to_inotify\",\"ops\":%d,\"p50_us\":%.0f,\"p99_us\":%.0f,\"max_us\":%.0f}\n", count,
              at(0.5), at(0.99), samples.back());
  client->close(std::chrono::seconds(1));
}

}  // namespace

int main(int argc, char** argv) {
  std::string mount, other, server, path = "/bench-event";
  double seconds = 2;
  int count = 0;
  CLI::App app("Benchmark of the mount", "mount_bench");
  app.add_option("--mount", mount)->required();
  app.add_option("--other", other);
  app.add_option("--seconds", seconds);
  app.add_option("--events", count);
  app.add_option("--server", server);
  app.add_option("--path", path);
  CLI11_PARSE(app, argc, argv);
  if (!other.empty()) compare(mount, other, seconds);
  if (count > 0) events(mount, server, path, count);
  return 0;
}
