// Frames: what the bytes of a connection are cut into. Pure.
//
//   u32 length of the payload; the top bit says that the message goes on in the next frame
//   u32 CRC32C over the length and the payload
//   16 bytes, when the connection has keys: HMAC-SHA256 over the frame's number in its direction (u64, from 0 at the
//      key), the length and the payload, truncated. So a frame that was injected, changed, left out, repeated or moved
//      does not pass.
//   the payload; empty: "I am alive", no message
//
// A message longer than a frame may be is cut into several; the reader puts it together again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "replica/peers/mac.h"

namespace coord::peers {

inline constexpr std::size_t kFramePayloadMax = 8u << 20;
// jute.maxbuffer is 32 MiB at most, and a message holds at most one request that large besides a chunk of log; what a
// transaction adds to its request is far less than the rest.
inline constexpr std::size_t kMessageMax = 384u << 20;
inline constexpr std::size_t kFrameHeaderBytes = 8;

class FrameWriter {
 public:
  // Frames from now on carry a MAC.
  void set_key(std::string_view key);
  std::size_t header_bytes() const { return mac_ ? kFrameHeaderBytes + kTagBytes : kFrameHeaderBytes; }

  // For a payload that is made in place: begin, append at most kFramePayloadMax to `out`, end with begin's result.
  std::size_t begin(std::string& out) const;
  void end(std::string& out, std::size_t begun, bool more = false);
  // Appends the frame, or frames, that a payload of any size needs.
  void put(std::string_view payload, std::string& out);

 private:
  std::optional<FrameMac> mac_;
  std::uint64_t sequence_ = 0;
};

class FrameReader {
 public:
  // `payload_max`: of a message, in one frame or several.
  explicit FrameReader(std::size_t payload_max) : payload_max_(payload_max) {}

  // Frames not yet returned by next() must carry a MAC.
  void set_key(std::string_view key);
  void set_payload_max(std::size_t payload_max) { payload_max_ = payload_max; }

  // Where to put bytes that arrive: at least `least`, and what an incomplete frame still needs (but never more than
  // kGrowthMax beyond what has arrived). Then wrote() says how many there are. Views given by next() end with the next
  // next() or room().
  struct Room {
    char* data;
    std::size_t size;
  };
  Room room(std::size_t least);
  void wrote(std::size_t count);

  enum class Status { kNothing, kMessage, kBad };
  // The next whole message, empty payloads included. kBad: the stream is of no use any more, error() says why.
  Status next(std::string_view& payload);
  const std::string& error() const { return error_; }
  // After next() said kNothing: a message has begun.
  bool within_message() const { return joining_ || begin_ != end_; }
  // What has arrived and was not taken, for a look at a stranger's first bytes.
  std::string_view rest() const { return {buffer_.get() + begin_, end_ - begin_}; }
  std::size_t capacity() const { return capacity_; }

  static constexpr std::size_t kGrowthMax = 1u << 20;
  static constexpr std::size_t kKeptMax = 256u << 10;  // of buffer, when it is empty

 private:
  Status bad(std::string why);
  void reserve(std::size_t more);

  std::unique_ptr<char[]> buffer_;
  std::size_t capacity_ = 0, begin_ = 0, end_ = 0;
  std::size_t missing_ = 0;  // of the frame that begins at begin_
  std::size_t payload_max_;
  std::optional<FrameMac> mac_;
  std::uint64_t sequence_ = 0;
  std::string joined_;
  bool joining_ = false;
  bool joined_given_ = false;
  std::string error_;
};

}  // namespace coord::peers
