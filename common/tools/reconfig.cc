// config, reconfig, feature-level: who is in the ensemble, and what its members must know. What a change needs of the
// present list is read from /zookeeper/config; what becomes of it, if the connection breaks meanwhile, too.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <thread>

#include "common/base/log.h"
#include "common/tools/commands.h"
#include "common/tools/members.h"

namespace coord::tools {
namespace {

constexpr const char* kPath = "/zookeeper/config";
constexpr std::int32_t kLevelOfReconfig = 2;  // replica/tree/ensemble.h

bool cut_off(Err err) {
  return err == Err::kConnectionLoss || err == Err::kOperationTimeout || err == Err::kSessionExpired;
}

// What the ensemble has, not only this server. The node is outside of any chroot.
Result<std::string> read_configuration(Context& context) {
  client::Blocking tree = context.blocking();
  std::string path;
  wire::Writer(path).buffer(kPath);
  if (const auto synced = tree.call(wire::Op::kSync, path); !synced) return fail(synced.error());
  std::string body = path;
  wire::Writer(body).boolean(false);
  const auto reply = tree.call(wire::Op::kGetData, std::move(body));
  if (!reply) return fail(reply.error());
  wire::Reader r(*reply);
  std::string text(r.buffer().value_or(""));
  if (r.failed()) return fail(Err::kMarshallingError);
  return text;
}

void print_configuration(const std::string& text) {
  std::printf("%s%s", text.c_str(), text.empty() || text.back() == '\n' ? "" : "\n");
}

// The request, and how to see in a configuration that it was carried out.
struct Change {
  std::string joining, leaving;  // empty: null in the request
  std::uint32_t id = 0;
  bool adds = false;
  std::optional<MemberLine> wanted;  // nothing: this server shall be no member
  std::optional<std::uint64_t> version;

  bool holds_in(const Configuration& now) const {
    const MemberLine* member = now.find(id);
    if (member == nullptr || !wanted) return member == nullptr && !wanted;
    return to_text(*member) == to_text(*wanted);
  }
};

std::string encode(const Change& change) {
  const auto or_null = [](const std::string& text) {
    return text.empty() ? std::nullopt : std::optional<std::string_view>(text);
  };
  std::string body;
  wire::Writer w(body);
  w.buffer(or_null(change.joining));
  w.buffer(or_null(change.leaving));
  w.buffer(std::nullopt);
  w.i64(change.version ? static_cast<std::int64_t>(*change.version) : -1);
  return body;
}

// 0: the server does not say.
std::int32_t level_of(client::Blocking tree) {
  std::string body;
  wire::Writer(body).i32(0);
  const auto reply = tree.call(wire::Op::kFeatureLevel, std::move(body));
  if (!reply) return 0;
  wire::Reader r(*reply);
  const std::int32_t level = r.i32();
  return r.failed() ? 0 : level;
}

std::string why_unimplemented(Context& context) {
  const std::int32_t level = level_of(context.blocking());
  if (level > 0 && level < kLevelOfReconfig) {
    return fmt::format("the ensemble is at feature level {}, and members can be changed from level {} on: when all "
                       "servers run a version that knows it, `coordctl feature-level {}` (a server that is alone has "
                       "no members to change)",
                       level, kLevelOfReconfig, kLevelOfReconfig);
  }
  return "the server is alone, or of a version that cannot change members: an ensemble is started with at least two "
         "server lines in the files";
}

// What to do about it; empty: there is nothing better than the error's own text.
std::string remedy(Context& context, const Change& change, Err err) {
  if (err == Err::kReconfigDisabled) {
    return "reconfiguration is not enabled for this caller: run coordctl as root over the replica's Unix socket "
           "(--server unix:/run/coordd/client.sock), or set reconfigEnabled=true in the files of the servers";
  }
  if (err == Err::kNewConfigNoQuorum && change.adds) {
    return fmt::format(
        "a majority of the new list, server {} included if it is to vote, is not connected and up to date: start "
        "server {} first, with the present members and itself in its file, and wait until `coordctl status` shows it "
        "as follower or observer",
        change.id, change.id);
  }
  if (err == Err::kNewConfigNoQuorum) {
    return "a majority of the new list is not connected and up to date: see `coordctl status`";
  }
  if (err == Err::kReconfigInProgress) {
    return "another change of the members is under way, or a new ensemble is about to write its first list down: see "
           "`coordctl config`, and try again";
  }
  if (err == Err::kBadVersion) {
    const auto text = read_configuration(context);
    const auto now = text ? parse_configuration(*text) : std::nullopt;
    if (!now) return "the configuration has another version: see `coordctl config`";
    return fmt::format("the configuration has version {:x} by now: see `coordctl config`, and whether the change is "
                       "still meant",
                       now->version);
  }
  if (err == Err::kBadArguments && !change.wanted) {
    return "the server does not take this: fewer than two participants would be left";
  }
  if (err == Err::kBadArguments) {
    return fmt::format("the server does not take \"{}\": something in it is wrong, another member has that address, "
                       "the member has another one (remove it, then add it), or fewer than two participants would be "
                       "left",
                       to_text(*change.wanted));
  }
  if (err == Err::kNoAuth) {
    return "not permitted: run coordctl as root over the replica's Unix socket, or prove with --auth somebody who may "
           "write /zookeeper/config (the superDigest of the files)";
  }
  return err == Err::kUnimplemented ? why_unimplemented(context) : "";
}

int refused(Context& context, const Change& change, Err err) {
  const std::string what = remedy(context, change, err);
  if (what.empty()) return complain("reconfig", err);
  return complain(kRefused, fmt::format("{} ({}); nothing was changed", what, error_name(err)));
}

// The answer is lost, as when the leader itself was removed; the list tells what became of the request.
int look_for(Context& context, const Change& change, Err err) {
  const auto end = std::chrono::steady_clock::now() + context.timeout();
  do {
    const auto text = read_configuration(context);
    const auto now = text ? parse_configuration(*text) : std::nullopt;
    if (now && change.holds_in(*now)) {
      print_configuration(*text);
      return kDone;
    }
    if (!text && !cut_off(text.error())) break;
    if (!text) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    } else {
      return complain(kNoServer, fmt::format("{}: {}; it is not in the configuration now, version {:x}; if it does not "
                                             "come, try again",
                                             error_text(err), error_name(err), now ? now->version : 0));
    }
  } while (std::chrono::steady_clock::now() < end);
  return complain(kNoServer, fmt::format("{} ({}): see `coordctl config` when a server answers", error_text(err),
                                         error_name(err)));
}

// kDone, or another code after a message. May need the present list, so there is a connection already.
int make_change(Context& context, const ReconfigArguments& arguments, Change& change) {
  if (!arguments.add.empty()) {
    const auto member = parse_spec(arguments.add);
    if (!member) return complain(kUsage, "--add: " + member.error().message);
    change.id = member->id;
    change.adds = true;
    change.joining = to_text(*member);
    change.wanted = *member;
    return kDone;
  }
  if (!arguments.remove.empty()) {
    const auto id = server_id_of(arguments.remove);
    if (!id) return complain(kUsage, "--remove: " + id.error().message);
    change.id = *id;
    change.leaving = std::to_string(*id);
    return kDone;
  }
  const auto text = read_configuration(context);
  if (!text) return complain(kPath, text.error());
  const auto now = parse_configuration(*text);
  if (!now) return complain(kRefused, why_unimplemented(context) + " (there is no list of members)");
  const auto member = with_role(*now, arguments.role);
  if (!member) return complain(kUsage, "--role: " + member.error().message);
  change.id = member->id;
  change.joining = to_text(*member);
  change.wanted = *member;
  if (!change.version) change.version = now->version;  // the line was made from that list
  return kDone;
}

// Before anybody is asked: what can be seen to be wrong without the list.
int check_usage(const ReconfigArguments& arguments, Change& change) {
  const auto given = [](const std::string& text) { return text.empty() ? 0 : 1; };
  if (given(arguments.add) + given(arguments.remove) + given(arguments.role) != 1) {
    return complain(kUsage, "reconfig: exactly one of --add, --remove and --role");
  }
  if (!arguments.version.empty()) {
    const auto version = parse_config_version(arguments.version);
    if (!version) return complain(kUsage, "--version: " + version.error().message);
    change.version = *version;
  }
  return kDone;
}

}  // namespace

int config(Context& context) {
  if (const int failed = context.connect(); failed != kDone) return failed;
  const auto text = read_configuration(context);
  if (!text) return complain(kPath, text.error());
  if (text->empty()) complain(kDone, fmt::format("{} is empty: the server is alone", kPath));
  print_configuration(*text);
  return kDone;
}

int reconfig(Context& context, const ReconfigArguments& arguments) {
  Change change;
  if (const int failed = check_usage(arguments, change); failed != kDone) return failed;
  const bool needs_list = !arguments.role.empty();
  if (!needs_list) {
    if (const int failed = make_change(context, arguments, change); failed != kDone) return failed;
  }
  if (const int failed = context.connect(); failed != kDone) return failed;
  if (needs_list) {
    if (const int failed = make_change(context, arguments, change); failed != kDone) return failed;
  }
  const auto reply = context.blocking().call(wire::Op::kReconfig, encode(change));
  if (!reply && cut_off(reply.error())) return look_for(context, change, reply.error());
  if (!reply) return refused(context, change, reply.error());
  wire::Reader r(*reply);
  const std::string text(r.buffer().value_or(""));
  if (r.failed()) return complain("reconfig", Err::kMarshallingError);
  print_configuration(text);
  return kDone;
}

namespace {

int level_refused(std::int32_t wanted, Err err) {
  const auto say = [err](const std::string& what) {
    return complain(kRefused, fmt::format("{} ({})", what, error_name(err)));
  };
  if (err == Err::kNewConfigNoQuorum) {
    return say("a member is not connected, and all must be, to say what they know: see `coordctl status`; nothing was "
               "changed");
  }
  if (err == Err::kBadArguments) {
    return say(fmt::format("level {} is lower than the present one, or a server does not know it: `coordctl status "
                           "--long` says what each knows; nothing was changed",
                           wanted));
  }
  if (err == Err::kNoAuth) {
    return say("not permitted: run coordctl as root over the replica's Unix socket, or prove with --auth the "
               "superDigest of the files");
  }
  if (err == Err::kUnimplemented) return say("the server is of a version that knows no feature levels");
  return complain("feature-level", err);
}

}  // namespace

int feature_level(Context& context, std::int32_t level) {
  if (const int failed = context.connect(); failed != kDone) return failed;
  std::string body;
  wire::Writer(body).i32(level);
  const auto reply = context.blocking().call(wire::Op::kFeatureLevel, std::move(body));
  if (!reply) return level_refused(level, reply.error());
  wire::Reader r(*reply);
  const std::int32_t now = r.i32();
  if (r.failed()) return complain("feature-level", Err::kMarshallingError);
  std::printf("%d\n", now);
  return kDone;
}

}  // namespace coord::tools
