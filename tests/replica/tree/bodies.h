// Bodies of requests, as clients send them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/wire/extension.h"
#include "common/wire/protocol.h"

namespace coord::tree::test {

using wire::Op;
using Data = std::optional<std::string_view>;

inline std::string create_body(std::string_view path, Data data = "", const Acl& acl = open_acl(),
                               std::int32_t flags = 0) {
  std::string body;
  wire::Writer w(body);
  w.buffer(path);
  w.buffer(data);
  wire::write(w, acl);
  w.i32(flags);
  return body;
}
inline std::string create_body(std::string_view path, Data data, std::int32_t flags) {
  return create_body(path, data, open_acl(), flags);
}
inline std::string create_ttl_body(std::string_view path, std::int64_t ttl, std::int32_t flags = 5, Data data = "") {
  std::string body = create_body(path, data, open_acl(), flags);
  wire::Writer(body).i64(ttl);
  return body;
}
inline std::string path_version_body(std::string_view path, std::int32_t version = -1) {
  std::string body;
  wire::Writer w(body);
  w.buffer(path);
  w.i32(version);
  return body;
}
inline std::string set_data_body(std::string_view path, Data data, std::int32_t version = -1) {
  std::string body;
  wire::Writer w(body);
  w.buffer(path);
  w.buffer(data);
  w.i32(version);
  return body;
}
inline std::string set_acl_body(std::string_view path, const Acl& acl, std::int32_t version = -1) {
  std::string body;
  wire::Writer w(body);
  w.buffer(path);
  wire::write(w, acl);
  w.i32(version);
  return body;
}
inline std::string path_body(std::string_view path) {
  std::string body;
  wire::Writer(body).buffer(path);
  return body;
}
inline std::string watch_body(std::string_view path, bool watch = false) {
  std::string body = path_body(path);
  wire::Writer(body).boolean(watch);
  return body;
}
inline std::string multi_body(const std::vector<std::pair<Op, std::string>>& ops) {
  std::string body;
  wire::Writer w(body);
  for (const auto& [op, record] : ops) {
    wire::write(w, wire::MultiHeader{static_cast<std::int32_t>(op), false, -1});
    w.raw(record);
  }
  wire::write(w, wire::MultiHeader{-1, true, -1});
  return body;
}
inline std::string session_body(std::int32_t timeout, SessionId id) {
  std::string body;
  wire::Writer w(body);
  w.i32(timeout);
  w.i64(id.value);
  return body;
}
template <class Record>
std::string extension_body(const Record& record) {
  std::string body;
  wire::Writer w(body);
  wire::write(w, record);
  return body;
}

inline Acl acl_of(std::string scheme, std::string id, std::int32_t perms = perm::kAll) {
  return {AclEntry{perms, AuthId{std::move(scheme), std::move(id)}}};
}

}  // namespace coord::tree::test
