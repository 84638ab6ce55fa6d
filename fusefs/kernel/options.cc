#include "fusefs/kernel/options.h"

#include <algorithm>
#include <array>
#include <limits>
#include <string_view>

#include "common/base/number.h"

namespace coord::fs {
namespace {

using Parsed = Result<bool, Fault>;

constexpr std::array kIgnored = {
    std::string_view("rw"),      std::string_view("defaults"),    std::string_view("auto"),
    std::string_view("noauto"),  std::string_view("user"),        std::string_view("users"),
    std::string_view("nouser"),  std::string_view("nousers"),     std::string_view("owner"),
    std::string_view("noowner"), std::string_view("group"),       std::string_view("nogroup"),
    std::string_view("_netdev"), std::string_view("_rnetdev"),    std::string_view("nofail"),
    std::string_view("dev"),     std::string_view("nodev"),       std::string_view("suid"),
    std::string_view("nosuid"),  std::string_view("exec"),        std::string_view("async"),
    std::string_view("atime"),   std::string_view("noatime"),     std::string_view("relatime"),
    std::string_view("diratime"), std::string_view("nodiratime"), std::string_view("norelatime"),
    std::string_view("lazytime"), std::string_view("nolazytime"), std::string_view("strictatime"),
    std::string_view("nostrictatime")};
constexpr std::array kIgnoredPrefixes = {std::string_view("x-"), std::string_view("X-"), std::string_view("comment="),
                                         std::string_view("uhelper="), std::string_view("helper=")};

bool ignored(std::string_view option) {
  if (std::find(kIgnored.begin(), kIgnored.end(), option) != kIgnored.end()) return true;
  return std::any_of(kIgnoredPrefixes.begin(), kIgnoredPrefixes.end(),
                     [&](std::string_view prefix) { return option.starts_with(prefix); });
}

// A decimal number from `low` to `high`; the message names the option and the range.
Result<std::int64_t, Fault> number(std::string_view key, std::string_view text, std::int64_t low, std::int64_t high) {
  if (const auto value = parse_number<std::int64_t>(text, low, high)) return *value;
  return fail(Fault{"option " + std::string(key) + "=" + std::string(text) + ": not a number from " +
                    std::to_string(low) + " to " + std::to_string(high)});
}

class Parser {
 public:
  Parser(CallStyle style, MountOptions& out) : style_(style), out_(out) {}
  Parsed all(const std::vector<std::string>& arguments);

 private:
  Parsed flags(std::string_view letters, const std::vector<std::string>& arguments, std::size_t& at);
  Parsed flag(char letter);
  Parsed list(std::string_view options);
  Parsed option(std::string_view text);
  Parsed keyed(std::string_view key, std::string_view value, bool& known);
  Parsed keyed_number(std::string_view key, std::string_view value, bool& known);
  Parsed stale(std::string_view value);
  Parsed positional(const std::string& text);

  CallStyle style_;
  MountOptions& out_;
  bool sloppy_ = false;
  int positionals_ = 0;
};

Parsed Parser::keyed_number(std::string_view key, std::string_view value, bool& known) {
  known = true;
  const auto take = [&](std::int64_t low, std::int64_t high, auto store) -> Parsed {
    const auto n = number(key, value, low, high);
    if (!n) return fail(n.error());
    store(*n);
    return true;
  };
  if (key == "wait") return take(0, 3600, [&](std::int64_t n) { out_.wait = std::chrono::seconds(n); });
  if (key == "session_timeout") {
    return take(1000, 600'000, [&](std::int64_t n) { out_.session_timeout_ms = static_cast<std::int32_t>(n); });
  }
  if (key == "guardian_timeout") {
    return take(500, 60'000, [&](std::int64_t n) { out_.guardian_timeout = std::chrono::milliseconds(n); });
  }
  known = false;
  return true;
}

Parsed Parser::stale(std::string_view value) {
  constexpr std::string_view kFail = "fail:";
  if (value == "serve") {
    out_.stale_fail_after.reset();
    return true;
  }
  if (!value.starts_with(kFail)) {
    return fail(Fault{"option stale=" + std::string(value) + ": accepted are stale=serve and stale=fail:SECONDS"});
  }
  const auto n = number("stale=fail:SECONDS, stale", value.substr(kFail.size()), 0, 86'400);
  if (!n) return fail(n.error());
  out_.stale_fail_after = std::chrono::seconds(*n);
  return true;
}

Parsed Parser::keyed(std::string_view key, std::string_view value, bool& known) {
  if (auto done = keyed_number(key, value, known); !done || known) return done;
  known = true;
  if (key == "locks") {
    if (value != "cluster" && value != "local") {
      return fail(Fault{"option locks=" + std::string(value) + ": accepted are locks=cluster and locks=local"});
    }
    out_.locks = value == "local" ? LockScope::kLocal : LockScope::kCluster;
    return true;
  }
  if (key == "stale") return stale(value);
  if (key == "log") {
    if (!value.starts_with('/')) return fail(Fault{"option log=" + std::string(value) + ": not an absolute path"});
    out_.log_file = std::string(value);
    return true;
  }
  known = false;
  return true;
}

Parsed Parser::option(std::string_view text) {
  if (text.empty() || ignored(text)) return true;
  if (text == "ro") {
    out_.read_only = true;
    return true;
  }
  if (text == "allow_other") {
    out_.allow_other = true;
    return true;
  }
  if (text == "noallow_other") {
    out_.allow_other = false;
    return true;
  }
  if (text == "debug") {
    out_.debug = true;
    return true;
  }
  if (text == "allow_root") return fail(Fault{"option allow_root: not supported; allow_other is"});
  bool known = false;
  if (const std::size_t equals = text.find('='); equals != std::string_view::npos) {
    if (auto done = keyed(text.substr(0, equals), text.substr(equals + 1), known); !done) return done;
  }
  if (known || sloppy_) return true;
  return fail(Fault{"unknown mount option '" + std::string(text) + "' (--help lists the known ones)"});
}

Parsed Parser::list(std::string_view options) {
  while (!options.empty()) {
    const std::size_t comma = std::min(options.find(','), options.size());
    if (auto done = option(options.substr(0, comma)); !done) return done;
    options.remove_prefix(std::min(comma + 1, options.size()));
  }
  return true;
}

Parsed Parser::flag(char letter) {
  const bool helper = style_ == CallStyle::kMountHelper;
  switch (letter) {
    case 'f':
      (helper ? out_.fake : out_.foreground) = true;
      return true;
    case 'v':
      out_.verbose = true;
      return true;
    case 'h':
      out_.help = true;
      return true;
    case 'V':
      out_.version = true;
      return true;
    default:
      break;
  }
  if (helper && letter == 's') return sloppy_ = true, true;
  if (helper && letter == 'n') return true;
  if (!helper && letter == 'd') return out_.debug = out_.foreground = true, true;
  return fail(Fault{std::string("unknown flag '-") + letter + "' (--help lists the known ones)"});
}

// One argument that begins with a single '-': letters, of which -o, and for a mount helper -N and -t, take a value.
Parsed Parser::flags(std::string_view letters, const std::vector<std::string>& arguments, std::size_t& at) {
  for (std::size_t i = 0; i < letters.size(); ++i) {
    const char letter = letters[i];
    const bool helper_value = style_ == CallStyle::kMountHelper && (letter == 'N' || letter == 't');
    if (letter != 'o' && !helper_value) {
      if (auto done = flag(letter); !done) return done;
      continue;
    }
    std::string value(letters.substr(i + 1));
    if (value.empty()) {
      if (++at >= arguments.size()) return fail(Fault{std::string("flag -") + letter + ": its value is missing"});
      value = arguments[at];
    }
    return letter == 'o' ? list(value) : Parsed(true);
  }
  return true;
}

Parsed Parser::positional(const std::string& text) {
  if (positionals_ == 2) return fail(Fault{"'" + text + "': only SOURCE and MOUNTPOINT are expected"});
  (positionals_ == 0 ? out_.source : out_.mountpoint) = text;
  ++positionals_;
  return true;
}

Parsed Parser::all(const std::vector<std::string>& arguments) {
  // -s stands for the whole line, wherever it is.
  bool only_positionals = false;
  if (style_ == CallStyle::kMountHelper) {
    sloppy_ = std::any_of(arguments.begin(), arguments.end(), [](const std::string& a) {
      return a.size() > 1 && a[0] == '-' && a.find_first_not_of("sfnv", 1) == std::string::npos &&
             a.find('s') != std::string::npos;
    });
  }
  for (std::size_t at = 0; at < arguments.size(); ++at) {
    const std::string& argument = arguments[at];
    Parsed done = true;
    if (only_positionals || argument.size() < 2 || argument[0] != '-') {
      done = positional(argument);
    } else if (argument == "--") {
      only_positionals = true;
    } else if (argument == "--help") {
      out_.help = true;
    } else if (argument == "--version") {
      out_.version = true;
    } else if (argument.starts_with("--")) {
      done = fail(Fault{"unknown flag '" + argument + "' (--help lists the known ones)"});
    } else {
      done = flags(std::string_view(argument).substr(1), arguments, at);
    }
    if (!done) return done;
    if (out_.help || out_.version) return true;
  }
  if (positionals_ == 0) return fail(Fault{"SOURCE and MOUNTPOINT are missing"});
  if (positionals_ == 1) return fail(Fault{"MOUNTPOINT is missing"});
  if (out_.source.empty() || out_.mountpoint.empty()) return fail(Fault{"SOURCE and MOUNTPOINT must not be empty"});
  return true;
}

}  // namespace

CallStyle call_style(const std::string& argv0) {
  const std::string_view base = std::string_view(argv0).substr(argv0.rfind('/') + 1);
  return base.starts_with("mount.") ? CallStyle::kMountHelper : CallStyle::kCoordfs;
}

Result<MountOptions, Fault> parse_mount_options(const std::vector<std::string>& arguments, CallStyle style,
                                                bool is_root) {
  MountOptions out;
  out.allow_other = is_root;
  if (auto done = Parser(style, out).all(arguments); !done) return fail(done.error());
  return out;
}

}  // namespace coord::fs
