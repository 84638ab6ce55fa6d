#include "fusefs/kernel/handles.h"

#include <algorithm>

#include "common/base/check.h"

namespace coord::fs {

const Handle* File::latest_writer() const {
  const Handle* latest = nullptr;
  for (const Handle* handle : handles) {
    if (pending(*handle) && (latest == nullptr || handle->mtime_ns >= latest->mtime_ns)) latest = handle;
  }
  return latest;
}

FilePtr FileTable::find(NodeId id) const {
  const std::lock_guard lock(mutex_);
  const auto it = files_.find(id);
  return it == files_.end() ? nullptr : it->second;
}

FilePtr FileTable::attach(NodeId id, Handle& handle) {
  const std::lock_guard lock(mutex_);
  FilePtr& file = files_[id];
  bool fresh = file == nullptr;
  if (!fresh) {
    // An unlinked file stays with its handles; its node may have a data half again (NAME of a node with children).
    const std::lock_guard guard(file->mutex);
    fresh = file->phase == File::Phase::kGone;
  }
  if (fresh) file = std::make_shared<File>(id, size_max_());
  const std::lock_guard guard(file->mutex);
  file->handles.push_back(&handle);
  handle.file = file;
  return file;
}

FilePtr FileTable::attach_existing(NodeId id, Handle& handle) {
  const std::lock_guard lock(mutex_);
  const auto it = files_.find(id);
  if (it == files_.end()) return nullptr;
  const std::lock_guard guard(it->second->mutex);
  it->second->handles.push_back(&handle);
  handle.file = it->second;
  return it->second;
}

FilePtr FileTable::add_deferred(wire::NodeInfo made, Credentials creator, Handle& handle) {
  const std::lock_guard lock(mutex_);
  const auto [place, fresh] = places_.try_emplace({made.parent.value, made.name});
  if (!fresh) return nullptr;
  auto file = std::make_shared<File>(made.id, size_max_());
  file->phase = File::Phase::kDeferred;
  file->made = std::move(made);
  file->creator = std::move(creator);
  file->made_at = std::chrono::steady_clock::now();
  file->handles.push_back(&handle);
  handle.file = file;
  place->second = file;
  const bool is_new = files_.emplace(file->id, file).second;
  COORD_CHECK_MSG(is_new, "a node id was given out twice");
  return file;
}

bool FileTable::detach(Handle& handle) {
  const FilePtr file = std::move(handle.file);
  handle.file = nullptr;
  const std::lock_guard lock(mutex_);
  const std::lock_guard guard(file->mutex);
  std::erase(file->handles, &handle);
  if (!file->handles.empty()) return false;
  const auto it = files_.find(file->id);
  if (it != files_.end() && it->second == file) files_.erase(it);
  const auto place = places_.find({file->made.parent.value, file->made.name});
  if (place != places_.end() && place->second == file) places_.erase(place);
  return true;
}

void FileTable::leave_place(const File& file) {
  const std::lock_guard lock(mutex_);
  const auto place = places_.find({file.made.parent.value, file.made.name});
  if (place != places_.end() && place->second.get() == &file) places_.erase(place);
}

FilePtr FileTable::deferred(NodeId parent, std::string_view name) const {
  const std::lock_guard lock(mutex_);
  if (places_.empty()) return nullptr;
  const auto it = places_.find({parent.value, std::string(name)});
  return it == places_.end() ? nullptr : it->second;
}

std::vector<FilePtr> FileTable::deferred_in(NodeId parent) const {
  std::vector<FilePtr> out;
  const std::lock_guard lock(mutex_);
  for (auto it = places_.lower_bound({parent.value, std::string()}); it != places_.end(); ++it) {
    if (it->first.first != parent.value) break;
    out.push_back(it->second);
  }
  return out;
}

std::vector<FilePtr> FileTable::all_deferred() const {
  std::vector<FilePtr> out;
  const std::lock_guard lock(mutex_);
  for (const auto& [place, file] : places_) out.push_back(file);
  return out;
}

std::vector<FilePtr> FileTable::all() const {
  std::vector<FilePtr> out;
  const std::lock_guard lock(mutex_);
  for (const auto& [id, file] : files_) out.push_back(file);
  return out;
}

}  // namespace coord::fs
