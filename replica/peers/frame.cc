#include "replica/peers/frame.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/base/check.h"
#include "common/base/crc32c.h"
#include "common/wire/codec.h"

namespace coord::peers {
namespace {

constexpr std::uint32_t kMore = 0x80000000;

std::uint32_t checksum(std::string_view length, std::string_view payload) { return crc32c(payload, crc32c(length)); }

}  // namespace

void FrameWriter::set_key(std::string_view key) {
  mac_.emplace(key);
  sequence_ = 0;
}

std::size_t FrameWriter::begin(std::string& out) const {
  const std::size_t at = out.size();
  out.append(header_bytes(), '\0');
  return at;
}

void FrameWriter::end(std::string& out, std::size_t begun, bool more) {
  const std::size_t start = begun + header_bytes();
  COORD_CHECK(out.size() >= start && out.size() - start <= kFramePayloadMax);
  const std::string_view payload = std::string_view(out).substr(start);
  char* header = out.data() + begun;
  wire::store_be(header, static_cast<std::uint32_t>(payload.size()) | (more ? kMore : 0));
  const std::string_view length(header, 4);
  wire::store_be(header + 4, checksum(length, payload));
  if (mac_) mac_->tag(sequence_++, length, payload, header + kFrameHeaderBytes);
}

void FrameWriter::put(std::string_view payload, std::string& out) {
  do {
    const std::string_view piece = payload.substr(0, kFramePayloadMax);
    payload.remove_prefix(piece.size());
    const std::size_t begun = begin(out);
    out.append(piece);
    end(out, begun, !payload.empty());
  } while (!payload.empty());
}

void FrameReader::set_key(std::string_view key) {
  mac_.emplace(key);
  sequence_ = 0;
}

void FrameReader::reserve(std::size_t more) {
  if (capacity_ - end_ >= more) return;
  const std::size_t held = end_ - begin_;
  if (capacity_ - held >= more && begin_ >= held) {  // moving costs less than what was taken from the front
    std::memmove(buffer_.get(), buffer_.get() + begin_, held);
  } else {
    capacity_ = std::max(held + more, std::min(capacity_ * 2, capacity_ + kGrowthMax));
    auto grown = std::make_unique_for_overwrite<char[]>(capacity_);
    if (held > 0) std::memcpy(grown.get(), buffer_.get() + begin_, held);
    buffer_ = std::move(grown);
  }
  begin_ = 0;
  end_ = held;
}

FrameReader::Room FrameReader::room(std::size_t least) {
  if (joined_given_) {
    std::string().swap(joined_);
    joined_given_ = false;
  }
  if (begin_ == end_) {
    begin_ = end_ = 0;
    if (capacity_ > std::max(kKeptMax, least)) {
      buffer_.reset();
      capacity_ = 0;
    }
  }
  reserve(std::max(least, std::min(missing_, kGrowthMax)));
  return {buffer_.get() + end_, capacity_ - end_};
}

void FrameReader::wrote(std::size_t count) {
  COORD_CHECK(count <= capacity_ - end_);
  end_ += count;
}

FrameReader::Status FrameReader::bad(std::string why) {
  error_ = std::move(why);
  return Status::kBad;
}

FrameReader::Status FrameReader::next(std::string_view& payload) {
  if (!error_.empty()) return Status::kBad;
  if (joined_given_) {
    std::string().swap(joined_);
    joined_given_ = false;
  }
  while (true) {
    missing_ = 0;
    const std::size_t header_bytes = mac_ ? kFrameHeaderBytes + kTagBytes : kFrameHeaderBytes;
    const std::string_view held = rest();
    if (held.size() < 4) return Status::kNothing;
    const auto word = wire::load_be<std::uint32_t>(held.data());
    const std::size_t size = word & ~kMore;
    if (size > kFramePayloadMax || joined_.size() + size > payload_max_) {
      return bad("a frame of " + std::to_string(size) + " bytes, or a message of too many of them");
    }
    if (held.size() < header_bytes + size) {
      missing_ = header_bytes + size - held.size();
      return Status::kNothing;
    }
    const std::string_view length = held.substr(0, 4);
    const std::string_view body = held.substr(header_bytes, size);
    if (wire::load_be<std::uint32_t>(held.data() + 4) != checksum(length, body)) {
      return bad("a frame whose checksum is wrong");
    }
    if (mac_) {
      char tag[kTagBytes];
      mac_->tag(sequence_++, length, body, tag);
      if (!equal_secrets({tag, kTagBytes}, held.substr(kFrameHeaderBytes, kTagBytes))) {
        return bad("a frame that the peer did not make");
      }
    }
    begin_ += header_bytes + size;
    const bool more = (word & kMore) != 0;
    if (more && size == 0) return bad("an empty piece of a message");
    if (!more && !joining_) {
      payload = body;
      return Status::kMessage;
    }
    joined_.append(body);
    joining_ = more;
    if (more) continue;
    joined_given_ = true;
    payload = joined_;
    return Status::kMessage;
  }
}

}  // namespace coord::peers
