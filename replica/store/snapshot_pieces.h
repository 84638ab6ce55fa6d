// The bytes of a snapshot on their way from one replica to another: pieces of whole records, each with the checksum
// over key and body that it has in the store, and an end that tells how many there were and the sum of their checksums.
// Pure.
//
//   record  kind (1), key (8), size (4), checksum (4), body          kind: node, session, counters
//   end     kind (1), nodes (8), sessions (8), sum of checksums (8)
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace coord::store {

enum class RecordKind : std::uint8_t { kNode = 1, kSession = 2, kCounters = 3, kEnd = 4 };

inline constexpr std::size_t kRecordHeader = 1 + 8 + 4 + 4;

struct SnapshotTotals {
  std::uint64_t nodes = 0;
  std::uint64_t sessions = 0;
  std::uint64_t counters = 0;  // 0 or 1
  std::uint64_t sum = 0;

  void add(RecordKind kind, std::uint32_t checksum);
  friend bool operator==(const SnapshotTotals&, const SnapshotTotals&) = default;
};

// Over the key as the store has it: 8 bytes of a number, or the word "counters".
std::uint32_t record_checksum(RecordKind kind, std::uint64_t key, std::string_view body);
void put_record(RecordKind kind, std::uint64_t key, std::string_view body, std::string& out, SnapshotTotals& totals);
void put_end(const SnapshotTotals& totals, std::string& out);

// Takes pieces in order. Whatever is wrong with them (lengths, checksums, order, totals, bytes behind the end) is
// answered with false, for good. The order: nodes, sessions, counters, and of each the keys ascend.
class SnapshotReader {
 public:
  using OnRecord = std::function<bool(RecordKind, std::uint64_t key, std::string_view body)>;
  bool take(std::string_view piece, const OnRecord& on_record);
  bool complete() const { return complete_; }

 private:
  bool take_all(std::string_view piece, const OnRecord& on_record);

  SnapshotTotals totals_;
  std::pair<RecordKind, std::uint64_t> last_{};
  bool complete_ = false;
  bool broken_ = false;
};

}  // namespace coord::store
