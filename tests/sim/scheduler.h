// Simulated time: what is to happen, ordered by time and then by the order in which it was scheduled.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

namespace coord::sim {

inline constexpr std::int64_t kMs = 1000;  // microseconds

class Scheduler {
 public:
  using Work = std::function<void()>;

  std::int64_t now_us() const { return now_; }

  void at(std::int64_t when_us, Work work) {
    heap_.push_back({std::max(when_us, now_), next_++, std::move(work)});
    std::push_heap(heap_.begin(), heap_.end(), later);
  }
  void after(std::int64_t delay_us, Work work) { at(now_ + delay_us, std::move(work)); }

  // Runs the next one unless it lies behind `until_us`; false: time is now `until_us`.
  bool run_one(std::int64_t until_us) {
    if (heap_.empty() || heap_.front().when > until_us) {
      now_ = std::max(now_, until_us);
      return false;
    }
    std::pop_heap(heap_.begin(), heap_.end(), later);
    Item item = std::move(heap_.back());
    heap_.pop_back();
    now_ = item.when;
    ++steps_;
    item.work();
    return true;
  }
  std::uint64_t steps() const { return steps_; }

 private:
  struct Item {
    std::int64_t when;
    std::uint64_t order;
    Work work;
  };
  static bool later(const Item& a, const Item& b) {
    return a.when != b.when ? a.when > b.when : a.order > b.order;
  }
  std::vector<Item> heap_;
  std::int64_t now_ = 0;
  std::uint64_t next_ = 0;
  std::uint64_t steps_ = 0;
};

}  // namespace coord::sim
