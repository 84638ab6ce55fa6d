#include "replica/store/snapshot_pieces.h"

#include "replica/store/schema.h"

namespace coord::store {
namespace {

constexpr std::size_t kEndSize = 1 + 3 * 8;

}  // namespace

void SnapshotTotals::add(RecordKind kind, std::uint32_t checksum) {
  if (kind == RecordKind::kNode) ++nodes;
  if (kind == RecordKind::kSession) ++sessions;
  if (kind == RecordKind::kCounters) ++counters;
  sum += checksum;
}

std::uint32_t record_checksum(RecordKind kind, std::uint64_t key, std::string_view body) {
  if (kind == RecordKind::kCounters) return schema::checksum(schema::kCounters, body);
  return schema::checksum(schema::Key(key).view(), body);
}

void put_record(RecordKind kind, std::uint64_t key, std::string_view body, std::string& out, SnapshotTotals& totals) {
  const std::uint32_t checksum = record_checksum(kind, key, body);
  char header[kRecordHeader];
  header[0] = static_cast<char>(kind);
  schema::put_u64(header + 1, key);
  schema::put_u32(header + 9, static_cast<std::uint32_t>(body.size()));
  schema::put_u32(header + 13, checksum);
  out.append(header, sizeof header);
  out.append(body);
  totals.add(kind, checksum);
}

void put_end(const SnapshotTotals& totals, std::string& out) {
  char end[kEndSize];
  end[0] = static_cast<char>(RecordKind::kEnd);
  schema::put_u64(end + 1, totals.nodes);
  schema::put_u64(end + 9, totals.sessions);
  schema::put_u64(end + 17, totals.sum);
  out.append(end, sizeof end);
}

bool SnapshotReader::take(std::string_view piece, const OnRecord& on_record) {
  broken_ = broken_ || !take_all(piece, on_record);
  return !broken_;
}

bool SnapshotReader::take_all(std::string_view piece, const OnRecord& on_record) {
  while (!piece.empty()) {
    if (complete_) return false;
    const auto kind = static_cast<RecordKind>(piece[0]);
    if (kind == RecordKind::kEnd) {
      if (piece.size() != kEndSize) return false;
      complete_ = schema::get_u64(piece.data() + 1) == totals_.nodes &&
                  schema::get_u64(piece.data() + 9) == totals_.sessions &&
                  schema::get_u64(piece.data() + 17) == totals_.sum && totals_.counters <= 1;
      return complete_;
    }
    if (kind != RecordKind::kNode && kind != RecordKind::kSession && kind != RecordKind::kCounters) return false;
    if (piece.size() < kRecordHeader) return false;
    const std::uint64_t key = schema::get_u64(piece.data() + 1);
    const std::uint32_t size = schema::get_u32(piece.data() + 9);
    const std::uint32_t checksum = schema::get_u32(piece.data() + 13);
    piece.remove_prefix(kRecordHeader);
    if (piece.size() < size) return false;
    const std::string_view body = piece.substr(0, size);
    piece.remove_prefix(size);
    if (kind == RecordKind::kCounters && key != 0) return false;
    if (record_checksum(kind, key, body) != checksum) return false;
    if (std::pair(kind, key) <= last_) return false;
    last_ = {kind, key};
    totals_.add(kind, checksum);
    if (!on_record(kind, key, body)) return false;
  }
  return true;
}

}  // namespace coord::store
