#include <future>
#include <memory>

#include "common/client/client.h"

namespace coord::client {
namespace {

// A path as the server knows it, and back.
std::string with_chroot(const Client& client, std::string_view path) {
  const std::string chroot = client.chroot();
  if (chroot.empty()) return std::string(path);
  return path == "/" ? chroot : chroot + std::string(path);
}

std::string without_chroot(const Client& client, std::string_view path) {
  const std::string chroot = client.chroot();
  if (!path.starts_with(chroot)) return std::string(path);
  path.remove_prefix(chroot.size());
  return path.empty() ? "/" : std::string(path);
}

Result<std::string> wait_for(Client& client, wire::Op op, std::string body, Submit how) {
  struct Answer {
    Err err = Err::kOk;
    std::string body;
  };
  const auto promise = std::make_shared<std::promise<Answer>>();
  std::future<Answer> future = promise->get_future();
  client.submit(op, std::move(body), std::move(how), [promise](const Reply& reply) {
    promise->set_value({reply.err, std::string(reply.body)});
  });
  Answer answer;
  try {
    answer = future.get();
  } catch (const std::future_error&) {  // the client was destroyed meanwhile
    return fail(Err::kConnectionLoss);
  }
  if (answer.err != Err::kOk) return fail(answer.err);
  return std::move(answer.body);
}

Result<Stat> stat_of(const Result<std::string>& body) {
  if (!body) return fail(body.error());
  wire::Reader r(*body);
  const Stat stat = wire::read_stat(r);
  if (r.failed()) return fail(Err::kMarshallingError);
  return stat;
}

Submit watching(Submit how, bool watch, Submit::Watch kind, std::string path) {
  if (!watch) return how;
  how.watch = kind;
  how.watch_path = std::move(path);
  return how;
}

Submit within(std::chrono::milliseconds deadline) {
  Submit how;
  how.deadline = deadline;
  return how;
}

bool is_ttl(wire::CreateMode mode) {
  return mode == wire::CreateMode::kTtl || mode == wire::CreateMode::kTtlSequential;
}

}  // namespace

Result<std::string> Blocking::call(wire::Op op, std::string body) {
  return wait_for(client_, op, std::move(body), within(deadline_));
}

Result<std::string> Blocking::create(std::string_view path, std::optional<std::string_view> data, wire::CreateMode mode,
                                     const Acl& acl, std::int64_t ttl_ms, Stat* stat) {
  wire::Op op = stat != nullptr ? wire::Op::kCreate2 : wire::Op::kCreate;
  if (mode == wire::CreateMode::kContainer) op = wire::Op::kCreateContainer;
  if (is_ttl(mode)) op = wire::Op::kCreateTtl;
  std::string body;
  wire::Writer w(body);
  w.buffer(with_chroot(client_, path));
  w.buffer(data);
  write(w, acl);
  w.i32(static_cast<std::int32_t>(mode));
  if (is_ttl(mode)) w.i64(ttl_ms);
  const Result<std::string> reply = call(op, std::move(body));
  if (!reply) return fail(reply.error());
  wire::Reader r(*reply);
  const std::string_view created = r.string();
  if (stat != nullptr) *stat = wire::read_stat(r);
  if (r.failed()) return fail(Err::kMarshallingError);
  return without_chroot(client_, created);
}

Result<bool> Blocking::remove(std::string_view path, std::int32_t version) {
  std::string body;
  wire::Writer w(body);
  w.buffer(with_chroot(client_, path));
  w.i32(version);
  const Result<std::string> reply = call(wire::Op::kDelete, std::move(body));
  if (!reply) return fail(reply.error());
  return true;
}

Result<Stat> Blocking::exists(std::string_view path, bool watch) {
  const std::string full = with_chroot(client_, path);
  std::string body;
  wire::Writer w(body);
  w.buffer(full);
  w.boolean(watch);
  Submit how = watching(within(deadline_), watch, Submit::Watch::kExist, full);
  return stat_of(wait_for(client_, wire::Op::kExists, std::move(body), std::move(how)));
}

Result<Blocking::Data> Blocking::get(std::string_view path, bool watch) {
  const std::string full = with_chroot(client_, path);
  std::string body;
  wire::Writer w(body);
  w.buffer(full);
  w.boolean(watch);
  Submit how = watching(within(deadline_), watch, Submit::Watch::kData, full);
  const Result<std::string> reply = wait_for(client_, wire::Op::kGetData, std::move(body), std::move(how));
  if (!reply) return fail(reply.error());
  wire::Reader r(*reply);
  const std::optional<std::string_view> data = r.buffer();
  Data out{!data.has_value(), std::string(data.value_or("")), wire::read_stat(r)};
  if (r.failed()) return fail(Err::kMarshallingError);
  return out;
}

Result<Stat> Blocking::set(std::string_view path, std::optional<std::string_view> data, std::int32_t version) {
  std::string body;
  wire::Writer w(body);
  w.buffer(with_chroot(client_, path));
  w.buffer(data);
  w.i32(version);
  return stat_of(call(wire::Op::kSetData, std::move(body)));
}

Result<std::vector<std::string>> Blocking::children(std::string_view path, bool watch, Stat* stat) {
  const std::string full = with_chroot(client_, path);
  std::string body;
  wire::Writer w(body);
  w.buffer(full);
  w.boolean(watch);
  Submit how = watching(within(deadline_), watch, Submit::Watch::kChild, full);
  const wire::Op op = stat != nullptr ? wire::Op::kGetChildren2 : wire::Op::kGetChildren;
  const Result<std::string> reply = wait_for(client_, op, std::move(body), std::move(how));
  if (!reply) return fail(reply.error());
  wire::Reader r(*reply);
  std::vector<std::string> names = wire::read_strings(r);
  if (stat != nullptr) *stat = wire::read_stat(r);
  if (r.failed()) return fail(Err::kMarshallingError);
  return names;
}

Result<Acl> Blocking::get_acl(std::string_view path, Stat* stat) {
  std::string body;
  wire::Writer w(body);
  w.buffer(with_chroot(client_, path));
  const Result<std::string> reply = call(wire::Op::kGetAcl, std::move(body));
  if (!reply) return fail(reply.error());
  wire::Reader r(*reply);
  Acl acl = wire::read_acl(r);
  const Stat read = wire::read_stat(r);
  if (r.failed()) return fail(Err::kMarshallingError);
  if (stat != nullptr) *stat = read;
  return acl;
}

Result<Stat> Blocking::set_acl(std::string_view path, const Acl& acl, std::int32_t version) {
  std::string body;
  wire::Writer w(body);
  w.buffer(with_chroot(client_, path));
  write(w, acl);
  w.i32(version);
  return stat_of(call(wire::Op::kSetAcl, std::move(body)));
}

Result<bool> Blocking::sync(std::string_view path) {
  std::string body;
  wire::Writer w(body);
  w.buffer(with_chroot(client_, path));
  const Result<std::string> reply = call(wire::Op::kSync, std::move(body));
  if (!reply) return fail(reply.error());
  return true;
}

Result<bool> Blocking::auth(std::string_view scheme, std::string_view credential) {
  std::string body;
  wire::Writer w(body);
  w.i32(0);
  w.buffer(scheme);
  w.buffer(credential);
  const Result<std::string> reply = call(wire::Op::kAuth, std::move(body));
  if (!reply) return fail(reply.error());
  return true;
}

Result<bool> Blocking::add_watch(std::string_view path, bool recursive) {
  std::string body;
  wire::Writer w(body);
  w.buffer(with_chroot(client_, path));
  w.i32(recursive ? 1 : 0);
  const Result<std::string> reply = call(wire::Op::kAddWatch, std::move(body));
  if (!reply) return fail(reply.error());
  return true;
}

}  // namespace coord::client
