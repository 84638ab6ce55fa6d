// HMAC-SHA256 for handshake and frames, and what goes with it. OpenSSL stays behind the implementation. Pure but for
// random_bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>

struct evp_mac_ctx_st;

namespace coord::peers {

inline constexpr std::size_t kMacBytes = 32;
inline constexpr std::size_t kTagBytes = 16;  // of a frame: truncated

// Over the parts as if they were one string; the key may have any length, none included.
std::string hmac(std::string_view key, std::initializer_list<std::string_view> parts);

// In a time that does not tell where they differ.
bool equal_secrets(std::string_view a, std::string_view b);

// From the system's generator; without one the process ends.
std::string random_bytes(std::size_t count);

// The same key many times, without setting it up anew. Not to be copied; one thread.
class FrameMac {
 public:
  explicit FrameMac(std::string_view key);
  // Writes kTagBytes to `out`.
  void tag(std::uint64_t sequence, std::string_view header, std::string_view payload, char* out);

 private:
  struct Free {
    void operator()(evp_mac_ctx_st* context) const;
  };
  std::unique_ptr<evp_mac_ctx_st, Free> context_;
};

}  // namespace coord::peers
