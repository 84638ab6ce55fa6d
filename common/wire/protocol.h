// The ZooKeeper client protocol: operation numbers, headers and the records of section 3 of client-protocol.md, as
// both ends need them. Decoders take a Reader and say `failed()` there; encoders append.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/error.h"
#include "common/model/records.h"
#include "common/wire/codec.h"

namespace coord::wire {

// jute.maxbuffer: the largest payload of a request frame, in bytes, inclusive.
inline constexpr std::int32_t kFrameSizeMax = 0xfffff;
inline constexpr std::size_t kPasswordSize = 16;

enum class Op : std::int32_t {
  kNotification = 0,
  kCreate = 1,
  kDelete = 2,
  kExists = 3,
  kGetData = 4,
  kSetData = 5,
  kGetAcl = 6,
  kSetAcl = 7,
  kGetChildren = 8,
  kSync = 9,
  kPing = 11,
  kGetChildren2 = 12,
  kCheck = 13,
  kMulti = 14,
  kCreate2 = 15,
  kReconfig = 16,
  kCheckWatches = 17,
  kRemoveWatches = 18,
  kCreateContainer = 19,
  kDeleteContainer = 20,
  kCreateTtl = 21,
  kMultiRead = 22,
  kAuth = 100,
  kSetWatches = 101,
  kSasl = 102,
  kGetEphemerals = 103,
  kGetAllChildrenNumber = 104,
  kSetWatches2 = 105,
  kAddWatch = 106,
  kWhoAmI = 107,
  kCreateSession = -10,  // internal: made by the server from a ConnectRequest
  kCloseSession = -11,
  kError = -1,

  // Extensions (common/wire/extension.h).
  kCapabilities = 1000,
  kLookup = 1001,
  kReadDir = 1002,
  kReadNode = 1003,
  kCreateNode = 1010,
  kSetNodeData = 1011,
  kDeleteNode = 1012,
  kSetAttributes = 1013,
  kRename = 1014,
  kInterest = 1030,
  kForget = 1031,
  kResume = 1032,
  kEnrol = 1090,  // internal: made by a leader, never taken from a client
  kFeatureLevel = 1091,  // i32 level (0 asks), answered by i32: the level then. By root on the socket, or super
};

namespace xid {
inline constexpr std::int32_t kNotification = -1, kPing = -2, kAuth = -4, kSetWatches = -8;
inline constexpr std::int32_t kChangeEvent = -1000;  // extension: a ChangeEvent for a mount
}  // namespace xid

// Flags of create (section 3): 0..6.
enum class CreateMode : std::int32_t {
  kPersistent = 0,
  kEphemeral = 1,
  kPersistentSequential = 2,
  kEphemeralSequential = 3,
  kContainer = 4,
  kTtl = 5,
  kTtlSequential = 6,
};

struct ConnectRequest {
  std::int32_t protocol_version = 0;
  std::int64_t last_zxid_seen = 0;
  std::int32_t timeout_ms = 0;
  std::int64_t session = 0;
  std::string password;
  bool read_only = false;
  bool has_read_only = false;  // go-zk and clients before 3.4 leave the byte out
};

struct ConnectResponse {
  std::int32_t timeout_ms = 0;  // 0: the session is not valid
  std::int64_t session = 0;
  std::string password = std::string(kPasswordSize, '\0');
  bool read_only = false;
  bool has_read_only = true;
};

struct ReplyHeader {
  std::int32_t xid = 0;
  std::int64_t zxid = 0;
  Err err = Err::kOk;
};
inline constexpr std::size_t kReplyHeaderSize = 16;

void write(Writer&, const ConnectRequest&);
void write(Writer&, const ConnectResponse&);
ConnectRequest read_connect_request(Reader&);
ConnectResponse read_connect_response(Reader&);

void write(Writer&, const ReplyHeader&);
ReplyHeader read_reply_header(Reader&);

void write(Writer&, const Stat&);  // 68 bytes
Stat read_stat(Reader&);

void write(Writer&, const Acl&);
// `is_null` (optional) tells a null vector from an empty one.
Acl read_acl(Reader&, bool* is_null = nullptr);

void write_strings(Writer&, const std::vector<std::string>&);
std::vector<std::string> read_strings(Reader&);

struct MultiHeader {
  std::int32_t type = -1;
  bool done = true;
  std::int32_t err = -1;
};
void write(Writer&, const MultiHeader&);
MultiHeader read_multi_header(Reader&);

struct WatcherEvent {
  WatchType type = WatchType::kNone;
  std::int32_t state = kStateSyncConnected;
  std::string path;
};
void write(Writer&, const WatcherEvent&);
WatcherEvent read_watcher_event(Reader&);

// A whole frame in a growing output buffer: begin() leaves room for the length, end() fills it in.
inline std::size_t begin_frame(std::string& out) {
  const std::size_t at = out.size();
  out.append(4, '\0');
  return at;
}
inline void end_frame(std::string& out, std::size_t at) {
  store_be(out.data() + at, static_cast<std::int32_t>(out.size() - at - 4));
}

}  // namespace coord::wire
