// The bytes of a job on the socket between daemon and helper. Both are the same program, so host byte order and no
// version; all lengths are checked nevertheless.
#include <cstring>

#include "fusefs/replay/helper.h"

namespace coord::fs::replay {
namespace {

struct Head {
  std::uint64_t id = 0;
  std::uint64_t device = 0;
  std::uint32_t sizes[4] = {};  // path, name, new_path, new_name
  std::uint8_t kind = 0;
  std::uint8_t type = 0;
  std::uint8_t executable = 0;
  std::uint8_t read_only = 0;
  std::uint8_t unused[4] = {};
};
static_assert(sizeof(Head) == 40);

}  // namespace

std::string encode_job(const Job& job) {
  const std::string* const texts[] = {&job.path, &job.event.name, &job.new_path, &job.event.new_name};
  Head head;
  head.id = job.id;
  head.device = job.device;
  head.kind = static_cast<std::uint8_t>(job.event.kind);
  head.type = static_cast<std::uint8_t>(job.event.type);
  head.executable = job.event.executable ? 1 : 0;
  head.read_only = job.read_only ? 1 : 0;
  std::size_t total = sizeof head;
  for (int i = 0; i < 4; ++i) {
    if (texts[i]->size() > kJobBytesMax) return {};
    head.sizes[i] = static_cast<std::uint32_t>(texts[i]->size());
    total += texts[i]->size();
  }
  if (total > kJobBytesMax) return {};
  std::string bytes(reinterpret_cast<const char*>(&head), sizeof head);
  for (const std::string* text : texts) bytes += *text;
  return bytes;
}

bool decode_job(std::string_view bytes, Job& job) {
  Head head;
  if (bytes.size() < sizeof head) return false;
  std::memcpy(&head, bytes.data(), sizeof head);
  bytes.remove_prefix(sizeof head);
  std::string* const texts[] = {&job.path, &job.event.name, &job.new_path, &job.event.new_name};
  for (int i = 0; i < 4; ++i) {
    if (head.sizes[i] > bytes.size()) return false;
    texts[i]->assign(bytes.substr(0, head.sizes[i]));
    bytes.remove_prefix(head.sizes[i]);
  }
  if (!bytes.empty() || head.kind > static_cast<std::uint8_t>(EventKind::kGone) ||
      head.type > static_cast<std::uint8_t>(NodeType::kSymlink)) {
    return false;
  }
  job.id = head.id;
  job.device = head.device;
  job.event.kind = static_cast<EventKind>(head.kind);
  job.event.type = static_cast<NodeType>(head.type);
  job.event.executable = head.executable != 0;
  job.read_only = head.read_only != 0;
  return true;
}

}  // namespace coord::fs::replay
