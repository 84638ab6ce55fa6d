// Names of znodes and what directories show of them (names.h): one spelling for each name, one name for each spelling.
// The input is two names with a '/' between them; each is taken as a znode's name and as something that was typed.
#include <cerrno>

#include "common/model/path.h"
#include "fusefs/names/names.h"
#include "tests/fuzz/input.h"

namespace coord::fs {
namespace {

void stands_for(std::string_view spelling, std::string_view name, NameKind plain, NameKind hashed, bool in_root) {
  COORD_CHECK_MSG(!spelling.empty() && spelling.size() <= kShownBytesMax, "a spelling that no directory can show");
  const Parsed parsed = parse_name(spelling, in_root);
  if (parsed.kind == plain) {
    COORD_CHECK_MSG(parsed.znode_name == name, "a spelling of another name");
    return;
  }
  COORD_CHECK_MSG(parsed.kind == hashed, "a spelling that means something else");
  COORD_CHECK_MSG(resolves(parsed, name), "a hash name that does not resolve");
}

void check_name(std::string_view name) {
  if (!valid_name(name)) return;
  const std::string shown = shown_name(name);
  const std::string dir = children_dir_name(name);
  COORD_CHECK_MSG(shown != dir, "both halves have one name");
  COORD_CHECK_MSG(hash_name(name).size() <= kShownBytesMax, "a long hash name");
  COORD_CHECK_MSG(needs_hash(name) == (shown == hash_name(name)), "needs_hash and shown_name differ");
  COORD_CHECK_MSG(children_dir_needs_hash(name) == (dir == hash_name(name) + "@"),
                  "children_dir_needs_hash and children_dir_name differ");
  for (const bool in_root : {false, true}) {
    stands_for(shown, name, NameKind::kNode, NameKind::kHashed, in_root);
    stands_for(dir, name, NameKind::kChildrenDir, NameKind::kHashedChildrenDir, in_root);
  }
}

void check_typed(std::string_view typed, bool in_root) {
  const Parsed parsed = parse_name(typed, in_root);
  switch (parsed.kind) {
    case NameKind::kNode:
      COORD_CHECK_MSG(shown_name(parsed.znode_name) == typed, "two spellings of a node");
      break;
    case NameKind::kChildrenDir:
      COORD_CHECK_MSG(children_dir_name(parsed.znode_name) == typed, "two spellings of a children directory");
      break;
    case NameKind::kDotData:
      COORD_CHECK(typed == kDataName);
      break;
    case NameKind::kDotZnode:
      COORD_CHECK(typed == kZnodeName);
      break;
    case NameKind::kDotCoord:
      COORD_CHECK(typed == kCoordName && in_root);
      break;
    case NameKind::kCreate:
      COORD_CHECK_MSG(parsed.mode != CreateSuffix::kNone, "a create suffix without a mode");
      if (parsed.mode == CreateSuffix::kTtl) COORD_CHECK(parsed.ttl_ms >= 1 && parsed.ttl_ms <= kTtlMsMax);
      break;
    case NameKind::kHashed:
    case NameKind::kHashedChildrenDir:
      COORD_CHECK_MSG(!parsed.znode_name.empty() && is_hashed(parsed), "a hash name without the name");
      break;
    case NameKind::kInvalid:
      COORD_CHECK_MSG(parsed.error == EINVAL || parsed.error == ENAMETOOLONG, "an error that is neither");
      break;
  }
  if (parsed.kind == NameKind::kNode || parsed.kind == NameKind::kChildrenDir) {
    COORD_CHECK_MSG(valid_name(parsed.znode_name), "a name that no znode can have");
  }
}

}  // namespace
}  // namespace coord::fs

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace coord::fs;
  const std::string_view both(reinterpret_cast<const char*>(data), size);
  const std::size_t slash = both.find('/');
  const std::string_view a = both.substr(0, slash);
  const std::string_view b = slash == std::string_view::npos ? std::string_view() : both.substr(slash + 1);
  for (const std::string_view name : {a, b}) {
    check_name(name);
    check_typed(name, false);
    check_typed(name, true);
  }
  if (a != b && coord::valid_name(a) && coord::valid_name(b)) {
    COORD_CHECK_MSG(shown_name(a) != shown_name(b), "two nodes with one spelling");
    COORD_CHECK_MSG(children_dir_name(a) != children_dir_name(b), "two children directories with one spelling");
    COORD_CHECK_MSG(shown_name(a) != children_dir_name(b) && shown_name(b) != children_dir_name(a),
                    "a node and a children directory with one spelling");
  }
  return 0;
}
