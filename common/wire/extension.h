// Extension operations (design.md section 5): what coordfs and coordctl may ask beyond ZooKeeper's protocol. They
// travel
// in the same frames, with the same headers; a stock client never sends one and never gets one.
//
// Nodes are named by node id or by (parent id, name); `name` is the last component of the znode's path, never the
// mount's spelling of it.
//
// Identity: every request carries the Credentials of the process behind it. The replica believes them only from a
// trusted peer (Unix socket, uid 0 or listed in coord.mountUsers) and otherwise puts the peer's own in their place
// (filesystem.md section 7).
//
// Exactly once: every mutating request begins with a MutationHeader. The replicated session record keeps the answer of
// each sequence number from `acked_below` on, so that a request that is sent again after a reconnect, in the same
// session, gets its first answer and nothing happens twice. A number below the window: Err::kOutOfWindow.
//
// Order: a ChangeEvent of transaction z is on the wire before any reply that could reveal z, and events come in zxid
// order. A mount gets events of the nodes it holds and of their direct children; and when a direct child that is not a
// directory gets its first child or loses its last one, the event of that grandchild: the listing shows NAME@ by it. It
// holds a node from the reply of a Lookup, ReadDir, CreateNode or Resume that says so until Forget, or until the
// connection ends.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/model/records.h"
#include "common/wire/codec.h"
#include "common/wire/protocol.h"

namespace coord::wire {

inline constexpr std::int32_t kFeatureLevel = 1;
inline constexpr std::size_t kAnswerWindowMax = 4096;   // answers kept per session; more outstanding: kBadArguments
inline constexpr std::size_t kInterestMax = 1'000'000;  // held nodes per connection; above it: ChangeKind::kDropAll
inline constexpr std::int32_t kRenameNodesMax = 10'000;  // nodes in a renamed subtree; above it: kSubtreeTooLarge
inline constexpr std::int32_t kNameBytesMax = 255;       // of one component, for nodes made by a mount

struct MutationHeader {
  std::int64_t seq = 0;          // 1, 2, 3, ... per session, in any order of arrival
  std::int64_t acked_below = 0;  // the mount has the answers of all numbers below this one
  Credentials who;
};

// 1000: the probe. No Credentials. A request with `reserve_ids` > 0 (at most 65536) is a write: it reserves a block of
// node ids for CreateNode, which are never given to anybody else.
struct CapabilitiesRequest {
  std::int32_t reserve_ids = 0;
};
struct CapabilitiesReply {
  std::int32_t feature_level = kFeatureLevel;
  std::int32_t frame_size_max = kFrameSizeMax;
  std::int32_t rename_nodes_max = kRenameNodesMax;
  NodeId first_id;  // 0 when none was asked for
  std::int32_t id_count = 0;
  bool trusted = false;        // this connection may speak for other users
  std::uint32_t peer_uid = 0;  // who the replica takes an untrusted caller for
  std::uint32_t peer_gid = 0;
  // For statfs: the replica's disk in bytes, what is free of it for everybody, and nodes. Zero in the answer to a
  // request that reserves ids.
  std::int64_t disk_bytes = 0;
  std::int64_t disk_free_bytes = 0;
  std::int64_t node_count = 0;
};

struct NodeInfo {
  NodeId id;
  NodeId parent;     // of the root: the root
  std::string name;  // of the root: empty
  Attributes attributes;
  Stat stat;
  Acl acl;
  bool null_data = false;           // data is null, not merely empty
  std::int64_t ttl_ms = 0;          // of a TTL node; else 0
  std::optional<std::string> data;  // present when asked for, permitted and within the limit; empty for null data
};

// 1001: one node, by (parent, name), or by `parent` itself when `name` is empty. kNoNode, kStaleNode (the parent has
// gone), kNoAuth (no search permission on the parent). Reply: NodeInfo.
struct LookupRequest {
  Credentials who;
  NodeId parent;
  std::string name;
  bool hold = false;
  std::int32_t data_max = 0;  // include the data if it is at most so long and `who` may read it
};

// 1002: a directory and its children at one zxid, without data, in byte order of the names. kStaleNode, kNoAuth.
struct ReadDirRequest {
  Credentials who;
  NodeId node;
  bool hold = false;  // holds the node and all its children
};
struct ReadDirReply {
  NodeInfo node;
  std::vector<NodeInfo> children;
};

// 1003: one node with its data, whatever the size. kStaleNode, kNoAuth. Reply: NodeInfo with `data`.
struct ReadNodeRequest {
  Credentials who;
  NodeId node;
};

// 1010. Reply: NodeInfo without data. kNodeExists, kStaleNode (parent), kNoAuth (CREATE and search on the parent),
// kNoChildrenForEphemerals, kBadArguments (name), kNoSpace. An existing file-shaped node with null data and
// `fill_null`: its data is set, and its own id answered. A first child changes an empty client-made file to a dir.
struct CreateNodeRequest {
  MutationHeader header;
  NodeId parent;
  std::string name;  // before the 10 digits of a sequential mode
  NodeId id;         // one of a reserved block that was not used before; 0: the replica chooses
  CreateMode mode = CreateMode::kPersistent;
  std::int64_t ttl_ms = 0;  // for the TTL modes, 1..2^40-1
  std::optional<std::string> data;
  Attributes attributes;
  Acl acl;  // who may set which owner: as for SetAttributes
  bool fill_null = false;
  bool hold = true;
};

// 1011: data := `data` (nullopt: null) if the version is `version` (-1: any). kStaleNode, kBadVersion, kNoAuth,
// kNoSpace.
// Clears Attributes.mtime_ns. Reply: NodeInfo without data.
struct SetNodeDataRequest {
  MutationHeader header;
  NodeId node;
  std::optional<std::string> data;
  std::int32_t version = -1;
};

enum class DeleteHalf : std::uint8_t {
  kWhole = 0,     // the znode; kNotEmpty if it has children
  kData = 1,      // unlink NAME: the znode, or its data (set to null) if it has children
  kChildren = 2,  // rmdir NAME@: kNotEmpty if it has children; the znode if its data is null, else nothing
};
// Where a node has to be for a change of its name: who says `mv a b` or `rm a` means what is at `a`, and of two hosts
// that move the same file away only one may succeed. Else kNoNode: nothing is done. parent 0: wherever it is.
struct NodePlace {
  NodeId parent;
  std::string name;  // znode name

  bool operator==(const NodePlace&) const = default;
};

// 1012. kStaleNode, kNoNode (not at `at`), kNotEmpty, kNoAuth (DELETE and search on the parent; with a sticky parent,
// ownership too).
// Reply: `i8 what`: 0 nothing, 1 the znode went, 2 its data became null.
struct DeleteNodeRequest {
  MutationHeader header;
  NodeId node;
  DeleteHalf half = DeleteHalf::kWhole;
  NodePlace at = {};
};

// 1013: chmod, chown, utimensat. kStaleNode, kNotPermitted (not the owner), kNoAuth (mtime "now" needs WRITE). Without
// a change nothing is touched, aversion included. A change of mode or owner is a change of the ACL: aversion + 1.
// Reply: NodeInfo without data.
struct SetAttributesRequest {
  MutationHeader header;
  NodeId node;
  std::optional<std::uint32_t> mode;  // 01777
  std::optional<std::uint32_t> uid;
  std::optional<std::uint32_t> gid;
  std::optional<std::int64_t> mtime_ns;  // -1: now, by the leader's clock
};

// 1014: renameat2. `flags`: RENAME_NOREPLACE 1, RENAME_EXCHANGE 2. The source must still exist (else kStaleNode), and
// be at `at` (else kNoNode).
// Onto a file: the target keeps its id, ACL and children and gets the data (and the source's ACL, if `who` may not read
// the source); the source goes; kNotEmpty if the source has children. A symlink onto a symlink likewise. A symlink onto
// a file, or a file onto a symlink: the target is deleted and the source moves to its name, unless the target has
// children: then it keeps its id and children and becomes what the source is. To a free name: the node and all below
// it move, with ids, counters and Stat; ephemerals inside or too many nodes: kSubtreeTooLarge. Reply: NodeInfo of what
// now stands at the new name.
struct RenameRequest {
  MutationHeader header;
  NodeId node;
  NodeId new_parent;
  std::string new_name;
  std::uint32_t flags = 0;
  NodePlace at = {};
};

// 1031: no longer held. Reply: empty.
struct ForgetRequest {
  std::vector<NodeId> nodes;
};

// 1032: after a reconnect: hold these again and say how they are now. At most 10 000 ids. Reply: one element for each
// id, in order, `present` or gone; without data.
struct ResumeRequest {
  std::vector<NodeId> nodes;
};
struct ResumeReply {
  std::vector<std::optional<NodeInfo>> nodes;
};

enum class ChangeKind : std::uint8_t {
  kCreated = 1,
  kDeleted = 2,
  kData = 3,        // data, and with it version, mzxid, mtime; also null <-> not null
  kAttributes = 4,  // ACL, mode, owner, mtime, shape
  kRenamed = 5,
  kDropAll = 6,     // too much was held: forget everything; no other field is set
};

// A frame with xid::kChangeEvent; the header's zxid is the transaction.
struct ChangeEvent {
  ChangeKind kind = ChangeKind::kDropAll;
  std::int64_t zxid = 0;
  bool more = false;  // another one of this transaction follows: who sees the first must see them all
  SessionId origin;            // the session that asked for it; 0: the replica itself (expiry, TTL)
  std::int64_t origin_seq = 0;  // its MutationHeader.seq; 0: not a mutation of a mount
  NodeInfo node;               // after the change (deleted: before it), without data
  Stat parent_stat;            // of node.parent, after the change
  NodeId old_parent;           // renamed only
  std::string old_name;        // renamed only
  Stat old_parent_stat;        // renamed only
};

void write(Writer&, const Credentials&);
void write(Writer&, const MutationHeader&);
void write(Writer&, const Attributes&);
void write(Writer&, const NodeInfo&);
void write(Writer&, const CapabilitiesRequest&);
void write(Writer&, const CapabilitiesReply&);
void write(Writer&, const LookupRequest&);
void write(Writer&, const ReadDirRequest&);
void write(Writer&, const ReadDirReply&);
void write(Writer&, const ReadNodeRequest&);
void write(Writer&, const CreateNodeRequest&);
void write(Writer&, const SetNodeDataRequest&);
void write(Writer&, const DeleteNodeRequest&);
void write(Writer&, const SetAttributesRequest&);
void write(Writer&, const RenameRequest&);
void write(Writer&, const ForgetRequest&);
void write(Writer&, const ResumeRequest&);
void write(Writer&, const ResumeReply&);
void write(Writer&, const ChangeEvent&);

// Decoders. They never throw and never allocate more than the bytes they were given justify; test Reader::failed().
void read(Reader&, Credentials&);
void read(Reader&, MutationHeader&);
void read(Reader&, Attributes&);
void read(Reader&, NodeInfo&);
void read(Reader&, CapabilitiesRequest&);
void read(Reader&, CapabilitiesReply&);
void read(Reader&, LookupRequest&);
void read(Reader&, ReadDirRequest&);
void read(Reader&, ReadDirReply&);
void read(Reader&, ReadNodeRequest&);
void read(Reader&, CreateNodeRequest&);
void read(Reader&, SetNodeDataRequest&);
void read(Reader&, DeleteNodeRequest&);
void read(Reader&, SetAttributesRequest&);
void read(Reader&, RenameRequest&);
void read(Reader&, ForgetRequest&);
void read(Reader&, ResumeRequest&);
void read(Reader&, ResumeReply&);
void read(Reader&, ChangeEvent&);

}  // namespace coord::wire
