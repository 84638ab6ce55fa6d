#include "fusefs/ops/edits.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace coord::fs {
namespace {

// Writes `bytes` at `offset` of `data`, with zero bytes in a gap.
void put(std::string& data, std::size_t offset, std::string_view bytes) {
  if (data.size() < offset + bytes.size()) data.resize(offset + bytes.size(), '\0');
  std::copy(bytes.begin(), bytes.end(), data.begin() + static_cast<std::ptrdiff_t>(offset));
}

}  // namespace

void Edits::replace_all() {
  replaced_ = true;
  content_.clear();
  layers_.clear();
  kept_bytes_ = 0;
}

bool Edits::room(std::size_t bytes, bool new_layer) const {
  if (new_layer && layers_.size() >= kEditLayersMax) return false;
  return kept_bytes_ + bytes <= kEditBytesFactor * size_max_;
}

bool Edits::truncate(std::uint64_t size) {
  if (size > size_max_) return false;
  if (size == 0) {
    replace_all();
    return true;
  }
  if (replaced_) {
    content_.resize(size, '\0');
    return true;
  }
  const bool repeated = !layers_.empty() && layers_.back().has_resize && layers_.back().extents.empty() &&
                        layers_.back().appended.empty() && size <= layers_.back().resize;
  if (repeated) {  // a second cut, nothing in between: the smaller one alone
    layers_.back().resize = size;
    return true;
  }
  if (!room(0, true)) return false;
  Layer layer;
  layer.has_resize = true;
  layer.resize = size;
  layers_.push_back(std::move(layer));
  return true;
}

bool Edits::extend(std::uint64_t size) {
  if (size > size_max_) return false;
  if (replaced_) {
    content_.resize(std::max<std::size_t>(content_.size(), size), '\0');
    return true;
  }
  if (!room(0, true)) return false;
  Layer layer;
  layer.at_least = size;
  layers_.push_back(std::move(layer));
  return true;
}

// Lays `bytes` over the extents and joins what overlaps or touches. Returns the growth in kept bytes.
std::size_t Edits::merge_extent(Layer& layer, std::size_t offset, std::string_view bytes) {
  const std::size_t end = offset + bytes.size();
  auto& extents = layer.extents;
  auto first = extents.upper_bound(offset);
  if (first != extents.begin()) {
    const auto before = std::prev(first);
    if (before->first + before->second.size() >= offset) first = before;
  }
  if (first == extents.end() || first->first > end) {
    extents.emplace_hint(first, offset, std::string(bytes));
    return bytes.size();
  }
  if (first->first > offset) {  // begins inside or right behind the new bytes: make it begin with them
    auto node = extents.extract(first);
    const std::size_t gap = node.key() - offset;
    node.key() = offset;
    node.mapped().insert(0, gap, '\0');
    first = extents.insert(std::move(node)).position;
    const std::size_t growth = gap;
    return growth + merge_extent(layer, offset, bytes);
  }
  const std::size_t size_before = first->second.size();
  put(first->second, offset - first->first, bytes);
  std::size_t removed = 0;
  for (auto next = std::next(first); next != extents.end() && next->first <= end; next = extents.erase(next)) {
    removed += next->second.size();
    const std::size_t covered = std::min(end - next->first, next->second.size());
    first->second.append(next->second, covered);
  }
  return first->second.size() - size_before - removed;  // modulo arithmetic: the sum is what counts
}

bool Edits::write(std::uint64_t offset, std::string_view bytes) {
  if (bytes.empty()) return true;
  if (offset > size_max_ || bytes.size() > size_max_ - offset) return false;
  const std::size_t at = offset;
  if (replaced_) {
    put(content_, at, bytes);
    return true;
  }
  const bool new_layer = layers_.empty() || !layers_.back().appended.empty();
  if (!room(bytes.size(), new_layer)) return false;
  if (new_layer) layers_.emplace_back();
  kept_bytes_ += merge_extent(layers_.back(), at, bytes);
  return true;
}

bool Edits::append(std::string_view bytes, std::size_t base_size) {
  if (bytes.empty()) return true;
  const std::size_t now = size(base_size);
  if (now > size_max_ || bytes.size() > size_max_ - now) return false;
  if (replaced_) {
    content_.append(bytes);
    return true;
  }
  if (!room(bytes.size(), layers_.empty())) return false;
  if (layers_.empty()) layers_.emplace_back();
  layers_.back().appended.append(bytes);
  kept_bytes_ += bytes.size();
  return true;
}

std::size_t Edits::size_after(const Layer& layer, std::size_t base_size) const {
  std::size_t now = std::max(layer.has_resize ? layer.resize : base_size, layer.at_least);
  if (!layer.extents.empty()) {
    const auto& [offset, bytes] = *layer.extents.rbegin();
    now = std::max(now, offset + bytes.size());
  }
  return now + layer.appended.size();
}

std::size_t Edits::size(std::size_t base_size) const {
  if (replaced_) return content_.size();
  for (const Layer& layer : layers_) base_size = size_after(layer, base_size);
  return base_size;
}

void Edits::apply_to(const Layer& layer, std::string& data) const {
  if (layer.has_resize) data.resize(layer.resize, '\0');
  if (data.size() < layer.at_least) data.resize(layer.at_least, '\0');
  for (const auto& [offset, bytes] : layer.extents) put(data, offset, bytes);
  data.append(layer.appended);
}

std::string Edits::apply(std::string_view base) const {
  if (replaced_) return content_;
  std::string data(base);
  for (const Layer& layer : layers_) apply_to(layer, data);
  return data;
}

std::string Edits::read(std::string_view base, std::uint64_t offset, std::size_t count) const {
  const auto part = [&](std::string_view data) {
    return offset >= data.size() ? std::string() : std::string(data.substr(offset, count));
  };
  if (replaced_) return part(content_);
  if (layers_.empty()) return part(base);
  return part(apply(base));
}

Edits Edits::take() {
  Edits taken(size_max_);
  std::swap(taken, *this);
  return taken;
}

void Edits::put_back(Edits&& older) {
  COORD_CHECK(older.size_max_ == size_max_);
  if (replaced_ || older.empty()) return;
  if (older.replaced_) {
    for (const Layer& layer : layers_) apply_to(layer, older.content_);
  } else {
    older.kept_bytes_ += kept_bytes_;
    std::move(layers_.begin(), layers_.end(), std::back_inserter(older.layers_));
  }
  *this = std::move(older);
}

}  // namespace coord::fs
