#include "common/tools/commands.h"

#include <algorithm>
#include <atomic>
#include <cstdio>

#include "common/base/log.h"
#include "common/model/path.h"

namespace coord::tools {
namespace {

void print(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

std::string child_of(const std::string& path, const std::string& name) {
  return path == "/" ? "/" + name : path + "/" + name;
}

wire::CreateMode mode_of(const CreateArguments& a) {
  if (a.container) return wire::CreateMode::kContainer;
  if (a.ttl_ms > 0) return a.sequential ? wire::CreateMode::kTtlSequential : wire::CreateMode::kTtl;
  if (a.ephemeral) return a.sequential ? wire::CreateMode::kEphemeralSequential : wire::CreateMode::kEphemeral;
  return a.sequential ? wire::CreateMode::kPersistentSequential : wire::CreateMode::kPersistent;
}

// Makes every missing ancestor of `path`, with null data as mkdir does.
int create_parents(client::Blocking& tree, const std::string& path) {
  for (std::size_t slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1)) {
    const std::string parent = path.substr(0, slash);
    const auto made = tree.create(parent, std::nullopt, wire::CreateMode::kPersistent);
    if (made || made.error() == Err::kNodeExists) continue;
    // Permission to make an ancestor is not needed where it is there already.
    if (made.error() == Err::kNoAuth && tree.exists(parent)) continue;
    return complain(parent, made.error());
  }
  return kDone;
}

// The ephemeral node lives until we are told to end, or its session expires.
int keep_until_interrupted(const std::string& path, const std::atomic<bool>& expired) {
  if (std::fflush(stdout) != 0) return kDone;  // nobody knows the name; finish_output() says so
  wait_for_signal([&] { return expired.load(); });
  if (expired) return complain(kRefused, path + ": the session has expired, and the node with it");
  return kDone;
}

}  // namespace

int create(Context& context, const CreateArguments& arguments) {
  // A sequential name may be empty before its digits.
  const std::string& path = arguments.path;
  if (!check_path(arguments.sequential ? path + "0" : path)) return kRefused;
  std::optional<std::string> data;
  if (arguments.data) {
    auto read = data_argument(*arguments.data);
    if (!read) return complain(kUsage, read.error().message);
    data = std::move(*read);
  }
  if (!check_size(path, data ? data->size() : 0)) return kRefused;
  Acl acl = open_acl();
  if (!arguments.acl.empty()) {
    Result<Acl, Fault> parsed = parse_acl(arguments.acl);
    if (!parsed) return complain(kUsage, "--acl: " + parsed.error().message);
    acl = std::move(*parsed);
  }
  std::atomic<bool> expired{false};
  if (arguments.ephemeral) {
    hold_signals();
    context.options.renew = false;
    context.options.on_session = [&expired](client::SessionEvent event) {
      if (event == client::SessionEvent::kExpired) expired = true;
    };
  }
  if (const int failed = context.connect(); failed != kDone) return failed;
  client::Blocking tree = context.blocking();
  if (arguments.parents) {
    if (const int failed = create_parents(tree, path); failed != kDone) return failed;
  }
  const auto text = data ? std::optional<std::string_view>(*data) : std::nullopt;
  const auto created = tree.create(path, text, mode_of(arguments), acl, arguments.ttl_ms);
  int code = kDone;
  if (created) {
    print(*created + "\n");
    if (arguments.ephemeral) code = keep_until_interrupted(*created, expired);
  } else {
    code = complain(path, created.error());
  }
  context.close();
  context.client.reset();  // its callback refers to `expired`
  return code;
}

int get(Context& context, const std::string& path, bool with_stat) {
  if (!check_path(path)) return kRefused;
  if (const int failed = context.connect(); failed != kDone) return failed;
  const auto data = context.blocking().get(path);
  if (!data) return complain(path, data.error());
  print(data->data);
  if (with_stat) {
    if (!data->data.empty() && data->data.back() != '\n') print("\n");
    if (data->is_null) print("data = null\n");
    print(format_stat(data->stat));
  }
  return kDone;
}

int set(Context& context, const std::string& path, const std::optional<std::string>& data, std::int32_t version) {
  if (!check_path(path)) return kRefused;
  std::optional<std::string> text;
  if (data) {
    auto read = data_argument(*data);
    if (!read) return complain(kUsage, read.error().message);
    text = std::move(*read);
  }
  if (!check_size(path, text ? text->size() : 0)) return kRefused;
  if (const int failed = context.connect(); failed != kDone) return failed;
  const auto view = text ? std::optional<std::string_view>(*text) : std::nullopt;
  const auto stat = context.blocking().set(path, view, version);
  if (!stat) return complain(path, stat.error());
  return kDone;
}

namespace {

int list_below(client::Blocking& tree, const std::string& path, std::vector<std::string> names, bool recursive,
               bool with_stat) {
  int code = kDone;
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    const std::string child = child_of(path, name);
    std::string line = recursive ? child : name;
    if (with_stat) {
      const auto stat = tree.exists(child);
      if (!stat && stat.error() == Err::kNoNode) continue;  // it has gone meanwhile
      if (!stat) return complain(child, stat.error());
      line = fmt::format("{:>8} bytes  version {:<5} children {:<5} {}{}", stat->data_length, stat->version,
                         stat->num_children, stat->ephemeral_owner != 0 ? "ephemeral  " : "", line);
    }
    print(line + "\n");
    if (!recursive) continue;
    // A child that has gone meanwhile, or may not be read, does not end the listing of the others; only the exit code
    // tells that what may not be read is missing.
    auto below = tree.children(child);
    if (!below && below.error() == Err::kNoNode) continue;
    const int failed =
        below ? list_below(tree, child, std::move(*below), true, with_stat) : complain(child, below.error());
    if (failed == kNoServer) return failed;
    if (failed != kDone) code = failed;
  }
  return code;
}

// Children first. Nodes that others remove meanwhile are gone, which is what was wanted.
Err remove_below(client::Blocking& tree, const std::string& path, std::string& culprit) {
  constexpr int kRounds = 10;  // against others that keep creating
  Err err = Err::kNotEmpty;
  for (int round = 0; round < kRounds && err == Err::kNotEmpty; ++round) {
    const auto names = tree.children(path);
    if (!names) {
      culprit = path;
      return names.error() == Err::kNoNode ? Err::kOk : names.error();
    }
    for (const std::string& name : *names) {
      err = remove_below(tree, child_of(path, name), culprit);
      if (err != Err::kOk) return err;
    }
    const auto removed = tree.remove(path);
    err = removed ? Err::kOk : removed.error();
  }
  culprit = path;
  return err == Err::kNoNode ? Err::kOk : err;
}

}  // namespace

int list(Context& context, const std::string& path, bool recursive, bool with_stat) {
  if (!check_path(path)) return kRefused;
  if (const int failed = context.connect(); failed != kDone) return failed;
  client::Blocking tree = context.blocking();
  auto names = tree.children(path);
  if (!names) return complain(path, names.error());
  return list_below(tree, path, std::move(*names), recursive, with_stat);
}

int remove(Context& context, const std::string& path, bool recursive, std::int32_t version) {
  if (!check_path(path)) return kRefused;
  if (path == "/") return complain(kRefused, "/: the root cannot be removed");
  if (const int failed = context.connect(); failed != kDone) return failed;
  client::Blocking tree = context.blocking();
  if (!recursive) {
    const auto removed = tree.remove(path, version);
    return removed ? static_cast<int>(kDone) : complain(path, removed.error());
  }
  const auto there = tree.exists(path);
  if (!there) return complain(path, there.error());
  if (version != -1 && there->version != version) return complain(path, Err::kBadVersion);
  std::string culprit;
  const Err err = remove_below(tree, path, culprit);
  return err == Err::kOk ? static_cast<int>(kDone) : complain(culprit, err);
}

int stat(Context& context, const std::string& path) {
  if (!check_path(path)) return kRefused;
  if (const int failed = context.connect(); failed != kDone) return failed;
  const auto stat = context.blocking().exists(path);
  if (!stat) return complain(path, stat.error());
  print(format_stat(*stat));
  return kDone;
}

int acl_get(Context& context, const std::string& path) {
  if (!check_path(path)) return kRefused;
  if (const int failed = context.connect(); failed != kDone) return failed;
  const auto acl = context.blocking().get_acl(path);
  if (!acl) return complain(path, acl.error());
  print(format_acl(*acl));
  return kDone;
}

int acl_set(Context& context, const std::string& path, const std::string& acl, std::int32_t version) {
  if (!check_path(path)) return kRefused;
  const auto parsed = parse_acl(acl);
  if (!parsed) return complain(kUsage, parsed.error().message);
  if (const int failed = context.connect(); failed != kDone) return failed;
  const auto stat = context.blocking().set_acl(path, *parsed, version);
  return stat ? static_cast<int>(kDone) : complain(path, stat.error());
}

}  // namespace coord::tools
