#include "replica/runtime/environment.h"

#include <sys/random.h>
#include <sys/statvfs.h>

#include <cstring>
#include <thread>
#include <utility>
#include <vector>

namespace coord::runtime {
namespace {

// One thread for each piece of work: there is hardly ever one.
class Threads final : public Aside {
 public:
  ~Threads() override { join(); }
  void run(std::function<void()> work) override {
    join();
    thread_ = std::thread(std::move(work));
  }

 private:
  void join() {
    if (thread_.joinable()) thread_.join();
  }
  std::thread thread_;
};

std::optional<DiskSize> size_of_disk(const std::string& directory) {
  struct statvfs disk {};
  if (::statvfs(directory.c_str(), &disk) != 0) return std::nullopt;
  const auto unit = static_cast<std::int64_t>(disk.f_frsize);
  return DiskSize{static_cast<std::int64_t>(disk.f_blocks) * unit, static_cast<std::int64_t>(disk.f_bavail) * unit};
}

}  // namespace

Result<Environment, Fault> real_environment() {
  unsigned char random[64];
  std::size_t have = 0;
  while (have < sizeof random) {
    const ssize_t got = ::getrandom(random + have, sizeof random - have, 0);
    if (got <= 0) return fail(Fault{"no random numbers to be had from the system"});
    have += static_cast<std::size_t>(got);
  }
  Environment environment;
  static constexpr char kDigits[] = "0123456789abcdef";
  for (std::size_t n = 0; n < 16; ++n) {
    environment.fresh_cluster_id += kDigits[random[n] >> 4];
    environment.fresh_cluster_id += kDigits[random[n] & 15];
  }
  environment.fresh_secret.assign(reinterpret_cast<const char*>(random) + 16, 32);
  std::memcpy(&environment.seed, random + 48, sizeof environment.seed);
  std::memcpy(&environment.incarnation, random + 56, sizeof environment.incarnation);
  environment.disk_size = size_of_disk;
  environment.aside = std::make_unique<Threads>();
  return environment;
}

}  // namespace coord::runtime
