// getxattr and listxattr (read_ops.h).
#include <spdlog/fmt/fmt.h>

#include <cerrno>
#include <optional>
#include <string>
#include <string_view>

#include "fusefs/kernel/read_ops.h"
#include "fusefs/ops/errno_map.h"

namespace coord::fs {
namespace {

constexpr std::string_view kPrefix = "user.coord.";

std::string acl_text(const Acl& acl) {
  static constexpr std::pair<std::int32_t, char> kLetters[] = {
      {perm::kCreate, 'c'}, {perm::kDelete, 'd'}, {perm::kRead, 'r'}, {perm::kWrite, 'w'}, {perm::kAdmin, 'a'}};
  std::string out;
  for (const AclEntry& entry : acl) {
    if (!out.empty()) out += ',';
    out += entry.id.scheme + ":" + entry.id.id + ":";
    for (const auto& [bit, letter] : kLetters) {
      if ((entry.perms & bit) != 0) out += letter;
    }
  }
  return out;
}

std::string shape_text(Shape shape) {
  switch (shape) {
    case Shape::kFile: return "file";
    case Shape::kDir: return "dir";
    case Shape::kSymlink: return "symlink";
  }
  return "";
}

std::optional<std::string> value_of(const wire::NodeInfo& info, std::string_view key) {
  const Stat& s = info.stat;
  if (key == "name") return info.id == kRootNode ? "/" : info.name;
  if (key == "version") return std::to_string(s.version);
  if (key == "cversion") return std::to_string(s.cversion);
  if (key == "aversion") return std::to_string(s.aversion);
  if (key == "czxid") return fmt::format("0x{:x}", static_cast<std::uint64_t>(s.czxid));
  if (key == "mzxid") return fmt::format("0x{:x}", static_cast<std::uint64_t>(s.mzxid));
  if (key == "pzxid") return fmt::format("0x{:x}", static_cast<std::uint64_t>(s.pzxid));
  if (key == "ephemeral_owner") return fmt::format("0x{:x}", static_cast<std::uint64_t>(s.ephemeral_owner));
  if (key == "shape") return shape_text(info.attributes.shape);
  if (key == "acl") return acl_text(info.acl);
  if (key == "ttl" && info.ttl_ms != 0) return std::to_string(info.ttl_ms);
  return std::nullopt;
}

void reply(fuse_req_t req, const std::string& value, std::size_t size) {
  if (size == 0) {
    fuse_reply_xattr(req, value.size());
  } else if (size < value.size()) {
    fuse_reply_err(req, ERANGE);
  } else {
    fuse_reply_buf(req, value.data(), value.size());
  }
}

// The path needs every node up to the root; those that are not known are asked for.
int path_value(Mount& mount, NodeId id, const Credentials& who, Deadline deadline, std::string& out) {
  for (;;) {
    NodeId missing;
    {
      SharedLock lock(mount.lock());
      if (const auto path = mount.cache().znode_path(id)) {
        out = *path;
        return 0;
      }
      NodeId at = id;
      for (int depth = 0; depth < 4096 && missing == NodeId{}; ++depth) {
        const CachedNode* node = mount.cache().current(at);
        if (node == nullptr) missing = at;
        if (node != nullptr) at = node->info.parent;
      }
    }
    if (missing == NodeId{}) return ESTALE;
    const Err err = mount.coherence().fetch_node(missing, who, deadline);
    if (err != Err::kOk) return read_errno(err);
  }
}

}  // namespace

void read_getxattr(Mount& mount, fuse_req_t req, Ino ino, const char* name, std::size_t size) {
  const std::string_view full = name;
  if (!full.starts_with(kPrefix)) {  // also security.* on every exec and ls: no request to the replica
    fuse_reply_err(req, ENODATA);
    return;
  }
  const std::string_view key = full.substr(kPrefix.size());
  const Credentials who = mount.caller(req);
  const Deadline deadline = within(kCallDeadline);
  if (const int err = settle(mount, ino, who, deadline); err != 0) {
    fuse_reply_err(req, err);
    return;
  }
  std::optional<std::string> value;
  bool path = false;
  {
    SharedLock lock(mount.lock());
    const CachedNode* node = mount.cache().find(node_of(ino));
    std::optional<wire::NodeInfo> local;
    if (node == nullptr || !node->current()) local = mount.writes().deferred(node_of(ino));
    if (local) {
      value = value_of(*local, key);
    } else if (node != nullptr && node->info.id != NodeId{}) {
      value = value_of(node->info, key);
      path = key == "path" && node->current();
    }
  }
  if (path) {
    std::string text;
    if (const int err = path_value(mount, node_of(ino), who, deadline, text); err != 0) {
      fuse_reply_err(req, err);
      return;
    }
    value = std::move(text);
  }
  if (!value) {
    fuse_reply_err(req, ENODATA);
  } else {
    reply(req, *value, size);
  }
}

void read_listxattr(Mount&, fuse_req_t req, std::size_t size) {
  if (size == 0) {
    fuse_reply_xattr(req, 0);
  } else {
    fuse_reply_buf(req, nullptr, 0);
  }
}

}  // namespace coord::fs
