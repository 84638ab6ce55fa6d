#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "common/base/log.h"
#include "common/tools/commands.h"
#include "common/tools/multi_script.h"

namespace coord::tools {
namespace {

constexpr std::size_t kScriptMax = 8 << 20;  // quotes and comments take room that the request does not have

Result<std::string, Fault> read_all(const std::string& file) {
  std::FILE* in = file == "-" ? stdin : std::fopen(file.c_str(), "re");
  if (in == nullptr) return fail(Fault{file + ": " + std::strerror(errno)});
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> closing(in == stdin ? nullptr : in, &std::fclose);
  std::string text;
  char buffer[64 * 1024];
  errno = 0;
  while (text.size() <= kScriptMax) {
    const std::size_t n = std::fread(buffer, 1, sizeof buffer, in);
    if (n == 0) break;
    text.append(buffer, n);
  }
  if (std::ferror(in) != 0) return fail(Fault{file + ": " + std::strerror(errno != 0 ? errno : EIO)});
  if (text.size() > kScriptMax) return fail(Fault{file + ": larger than 8 MiB"});
  return text;
}

std::string outcome(const MultiOp& op, const MultiResult& result, bool failed, bool culprit) {
  if (culprit) return describe(op) + ": " + std::string(error_text(result.err));
  if (failed) return describe(op) + ": not done";
  if (op.op == wire::Op::kSetData) return fmt::format("{}: version {}", describe(op), result.stat.version);
  return describe(op) + ": done";
}

}  // namespace

int multi(Context& context, const std::string& file) {
  const std::string name = file == "-" ? "(standard input)" : file;
  const auto text = read_all(file);
  if (!text) return complain(kUsage, text.error().message);
  const auto ops = parse_multi(*text, name);
  if (!ops) return complain(kUsage, ops.error().message);
  if (ops->empty()) return kDone;
  if (const int failed = context.connect(); failed != kDone) return failed;
  std::string body = encode_multi(*ops, context.client->chroot());
  if (body.size() + 8 > static_cast<std::size_t>(wire::kFrameSizeMax)) {
    return complain(kRefused, fmt::format("{}: the operations take {} bytes, a request has at most {}", name,
                                          body.size() + 8, wire::kFrameSizeMax));
  }
  const auto reply = context.blocking().call(wire::Op::kMulti, std::move(body));
  if (!reply) return complain(name, reply.error());
  const auto results = decode_multi(*reply, ops->size());
  if (!results) return complain(kRefused, name + ": the server's answer does not fit the operations");
  const auto culprit = culprit_of(*results);
  for (std::size_t i = 0; i < ops->size(); ++i) {
    const std::string line = outcome((*ops)[i], (*results)[i], culprit.has_value(), culprit == i);
    std::printf("%s\n", line.c_str());
  }
  if (!culprit) return kDone;
  const MultiOp& op = (*ops)[*culprit];
  return complain(kRefused, fmt::format("{}:{}: {}: {} ({}); nothing was changed", name, op.line, describe(op),
                                        error_text((*results)[*culprit].err), error_name((*results)[*culprit].err)));
}

}  // namespace coord::tools
