// The session of a mount, on disk, so that a restarted daemon can close its dead predecessor's session at once and its
// ephemerals do not wait for the expiry (filesystem.md section 6). One small file per mount point, mode 0600, in
// /run/coordfs (root) or $XDG_RUNTIME_DIR/coordfs; with neither there is none, and the session just expires.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace coord::fs {

struct SavedSession {
  std::string source;  // as given to coordfs
  std::int64_t session = 0;
  std::string password;
};

class SessionFile {
 public:
  // `directory` empty: the place above, made if it is missing.
  explicit SessionFile(const std::string& mountpoint, const std::string& directory = "");
  bool usable() const { return !path_.empty(); }
  const std::string& path() const { return path_; }
  std::optional<SavedSession> load() const;
  bool save(const SavedSession& session) const;  // atomically
  void remove() const;

 private:
  std::string path_;
};

std::string encode_session(const SavedSession& session);
std::optional<SavedSession> decode_session(std::string_view text);  // nullopt: not such a file

}  // namespace coord::fs
