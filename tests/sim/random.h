// Randomness of the simulator: one small generator, so that a seed means the same on every machine and library.
#pragma once

#include <cstdint>

namespace coord::sim {

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ULL + 0x1234567) {}

  std::uint64_t next() {  // splitmix64
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  // [0, n)
  std::uint64_t below(std::uint64_t n) { return n == 0 ? 0 : next() % n; }
  // [low, high]
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(below(static_cast<std::uint64_t>(high - low + 1)));
  }
  bool chance(double p) { return static_cast<double>(next() >> 11) * 0x1.0p-53 < p; }
  // Mostly near `typical`, sometimes ten or a hundred times as much.
  std::int64_t heavy(std::int64_t typical) {
    const std::uint64_t kind = below(1000);
    const std::int64_t base = between(typical / 2, typical * 3 / 2);
    if (kind < 2) return base * between(50, 100);
    return kind < 30 ? base * between(5, 15) : base;
  }

 private:
  std::uint64_t state_;
};

inline std::uint64_t mix(std::uint64_t hash,
                         std::uint64_t value) {  // FNV-1a over the eight bytes at once, then stirred
  hash = (hash ^ value) * 0x100000001b3ULL;
  return hash ^ (hash >> 29);
}

}  // namespace coord::sim
