// coordctl: the tree from a shell. Arguments are parsed here; the commands stand in commands.h.
#include <CLI/CLI.hpp>
#include <cstdlib>

#include "common/base/standard_fds.h"
#include "common/base/version.h"
#include "common/tools/commands.h"

namespace {

using coord::tools::Context;

constexpr const char* kDescription =
    "coordctl - read, change and watch the nodes of a coordination tree\n\n"
    "coordctl talks to a coordd replica, or to any server of the ZooKeeper protocol, over TCP\n"
    "or over the replica's Unix socket. Each call is one session, which is closed at the end.\n"
    "DATA is taken as it stands; `-` reads it from standard input; put `--` before DATA that\n"
    "begins with a dash. Without DATA, create makes a node whose data is null, which a mount\n"
    "shows as a directory.";

constexpr const char* kFooter =
    "ENVIRONMENT\n"
    "  COORD_SERVER   the default of --server\n\n"
    "EXIT STATUS\n"
    "  0  done\n"
    "  1  the operation was refused; the message names the path and the reason\n"
    "  2  wrong usage, an input file with an error (named with its line), input that cannot be\n"
    "     read or output that cannot be written\n"
    "  3  no server answered; the message says what was tried\n\n"
    "EXAMPLES\n"
    "  coordctl create /app1 && coordctl create /app1/config 'port=80'\n"
    "  coordctl get /app1/config\n"
    "  coordctl set /app1/config - < config.new\n"
    "  coordctl create -e -s /members/me- \"$(hostname)\"    # until interrupted\n"
    "  coordctl watch -r /app1\n"
    "  coordctl --server zk1:2181,zk2:2181/chroot ls -R /\n"
    "  printf 'check /app1/config 3\\nset /app1/config v4\\n' | coordctl multi -\n"
    "  coordctl reconfig --add 4=d.example:2888         # d runs, with a, b, c and d in its file\n\n"
    "SEE ALSO\n"
    "  coordd(8), coordfs(8)\n";

// What the command line fills in; one of the commands reads it.
struct Arguments {
  coord::tools::CreateArguments create;
  coord::tools::ReconfigArguments reconfig;
  std::int32_t level = 0;
  std::string path = "/";
  std::string text;
  bool null_data = false;
  bool recursive = false;
  bool with_stat = false;
  bool long_form = false;
  std::int32_t version = -1;
};

void add_create(CLI::App& app, Arguments& a, Context& context, int& code) {
  CLI::App* c = app.add_subcommand("create", "Create a node and print its path");
  c->add_option("PATH", a.create.path, "Path of the node; with --seq the part before the number")->required();
  CLI::Option* data = c->add_option("DATA", a.text, "Its data; `-`: from standard input; absent: null");
  CLI::Option* ephemeral =
      c->add_flag("-e,--ephemeral", a.create.ephemeral,
                  "The node lives until coordctl is interrupted (or killed, and its session has expired)");
  CLI::Option* seq = c->add_flag("-s,--seq", a.create.sequential, "Append the next number of the parent, ten digits");
  CLI::Option* container =
      c->add_flag("--container", a.create.container, "The server removes the node after its last child");
  CLI::Option* ttl = c->add_option("--ttl", a.create.ttl_ms,
                                   "The server removes the node after so many ms without a change or children")
                         ->check(CLI::Range(std::int64_t{1}, (std::int64_t{1} << 40) - 1))
                         ->type_name("MS");
  c->add_flag("-p,--parents", a.create.parents, "Create missing parents, with null data");
  c->add_option("--acl", a.create.acl, "SCHEME:ID:PERMISSIONS,... instead of world:anyone:cdrwa");
  container->excludes(ephemeral)->excludes(seq)->excludes(ttl);
  ttl->excludes(ephemeral);
  c->callback([&a, &context, &code, data] {
    if (data->count() > 0) a.create.data = a.text;
    code = coord::tools::create(context, a.create);
  });
}

void add_data_commands(CLI::App& app, Arguments& a, Context& context, int& code) {
  CLI::App* get = app.add_subcommand("get", "Print a node's data, byte for byte");
  get->add_option("PATH", a.path, "Path of the node")->required();
  get->add_flag("-s,--stat", a.with_stat, "Then its Stat, on lines of their own");
  get->callback([&] { code = coord::tools::get(context, a.path, a.with_stat); });

  CLI::App* set = app.add_subcommand("set", "Replace a node's data");
  set->add_option("PATH", a.path, "Path of the node")->required();
  CLI::Option* data = set->add_option("DATA", a.text, "The new data; `-`: from standard input");
  CLI::Option* null_data = set->add_flag("--null", a.null_data, "Set the data to null instead");
  null_data->excludes(data);
  set->add_option("--version", a.version, "Only if the node has this version")->type_name("N");
  set->callback([&a, &context, &code, data] {
    if (data->count() == 0 && !a.null_data) throw CLI::RequiredError("DATA (or --null)");
    const std::optional<std::string> text = a.null_data ? std::nullopt : std::optional<std::string>(a.text);
    code = coord::tools::set(context, a.path, text, a.version);
  });

  CLI::App* stat = app.add_subcommand("stat", "Print a node's Stat");
  stat->add_option("PATH", a.path, "Path of the node")->required();
  stat->callback([&] { code = coord::tools::stat(context, a.path); });
}

void add_tree_commands(CLI::App& app, Arguments& a, Context& context, int& code) {
  CLI::App* ls = app.add_subcommand("ls", "List the children of a node, sorted by name");
  ls->add_option("PATH", a.path, "Path of the node (default: /)");
  ls->add_flag("-R,--recursive", a.recursive, "Everything below, with full paths");
  ls->add_flag("-s,--stat", a.with_stat, "With size, version and number of children");
  ls->callback([&] { code = coord::tools::list(context, a.path, a.recursive, a.with_stat); });

  CLI::App* rm = app.add_subcommand("rm", "Remove a node");
  rm->add_option("PATH", a.path, "Path of the node")->required();
  rm->add_flag("-r,--recursive", a.recursive, "With everything below it (not in one transaction)");
  rm->add_option("--version", a.version, "Only if the node has this version")->type_name("N");
  rm->callback([&] { code = coord::tools::remove(context, a.path, a.recursive, a.version); });

  CLI::App* watch = app.add_subcommand(
      "watch", "Print a line for each change, until killed: created, deleted, changed or children, and the path");
  watch->add_option("PATH", a.path, "Path of the node, which need not exist")->required();
  watch->add_flag("-r,--recursive", a.recursive, "Everything below as well (and no `children` lines)");
  watch->callback([&] { code = coord::tools::watch(context, a.path, a.recursive); });
}

void add_other_commands(CLI::App& app, Arguments& a, Context& context, int& code) {
  CLI::App* multi = app.add_subcommand(
      "multi",
      "Carry out all operations of a file, or none. One per line: create PATH [DATA], set PATH DATA [VERSION], "
      "delete PATH [VERSION], check PATH VERSION; # starts a comment; quotes as in a shell");
  multi->add_option("FILE", a.path, "The file; `-`: standard input")->required();
  multi->callback([&] { code = coord::tools::multi(context, a.path); });

  CLI::App* status = app.add_subcommand("status", "Print how each server stands, what is wrong, and our session");
  status->add_flag("-l,--long", a.long_form, "also all that each server says of itself");
  status->callback([&] { code = coord::tools::status(context, a.long_form); });

  CLI::App* acl_get = app.add_subcommand("acl-get", "Print a node's ACL, one SCHEME:ID:PERMISSIONS per line");
  acl_get->add_option("PATH", a.path, "Path of the node")->required();
  acl_get->callback([&] { code = coord::tools::acl_get(context, a.path); });

  CLI::App* acl_set = app.add_subcommand("acl-set", "Replace a node's ACL");
  acl_set->add_option("PATH", a.path, "Path of the node")->required();
  acl_set->add_option("ACL", a.text, "SCHEME:ID:PERMISSIONS,... with letters of cdrwa, for example unix:u:1000:rw")
      ->required();
  acl_set->add_option("--version", a.version, "Only if the ACL has this version (aversion)")->type_name("N");
  acl_set->callback([&] { code = coord::tools::acl_set(context, a.path, a.text, a.version); });
}

void add_ensemble_commands(CLI::App& app, Arguments& a, Context& context, int& code) {
  CLI::App* config = app.add_subcommand("config", "Print the members of the ensemble, as /zookeeper/config has them");
  config->callback([&] { code = coord::tools::config(context); });

  CLI::App* reconfig = app.add_subcommand(
      "reconfig",
      "Add, remove or change one server of the ensemble, and print the new configuration. As root over the replica's "
      "Unix socket; others need reconfigEnabled=true in the servers' files and the right to write /zookeeper/config");
  CLI::Option* add = reconfig->add_option(
      "--add", a.reconfig.add,
      "server.4=d.example:2888:3888:participant;2181, or in short 4=d.example:2888[;2181]. The server must run "
      "already, with the present members and itself in its file");
  CLI::Option* remove = reconfig->add_option("--remove", a.reconfig.remove,
                                             "The server with this id; it goes on as a guest until it is stopped");
  CLI::Option* role =
      reconfig->add_option("--role", a.reconfig.role, "4=observer or 4=participant: the server's new role");
  reconfig->add_option("--version", a.reconfig.version, "Only if the configuration has this version (its last line)")
      ->type_name("HEX");
  add->type_name("SPEC")->excludes(remove)->excludes(role);
  remove->type_name("ID")->excludes(role);
  role->type_name("ID=ROLE");
  reconfig->callback([&] { code = coord::tools::reconfig(context, a.reconfig); });

  CLI::App* level = app.add_subcommand(
      "feature-level", "Print the ensemble's feature level: what every member must know; with N, raise it first");
  level->add_option("N", a.level, "The new level. There is no way back: older versions are refused from then on")
      ->check(CLI::Range(1, 1000));
  level->callback([&] { code = coord::tools::feature_level(context, a.level); });
}

}  // namespace

int main(int argc, char** argv) {
  if (!coord::occupy_standard_fds()) return coord::tools::kUsage;
  Context context;
  Arguments arguments;
  int code = 0;
  if (const char* server = std::getenv("COORD_SERVER"); server != nullptr && *server != '\0') context.server = server;

  CLI::App app(kDescription, "coordctl");
  app.footer(kFooter);
  app.require_subcommand(1);
  app.fallthrough();  // --server may stand behind the command too
  app.set_version_flag("--version", std::string("coordctl ") + coord::kVersion);
  app.add_option("--server", context.server, "unix:/path/to/socket[,...] or host:port,host:port[/chroot]")
      ->capture_default_str()
      ->type_name("TARGET");
  app.add_option("--timeout", context.timeout_ms, "Limit for connecting, and for each answer")
      ->capture_default_str()
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{86'400'000}))
      ->type_name("MS");
  app.add_option("--auth", context.auth,
                 "SCHEME:CREDENTIAL to authenticate with, for example digest:user:password; repeatable")
      ->type_size(1)
      ->allow_extra_args(false);
  add_create(app, arguments, context, code);
  add_data_commands(app, arguments, context, code);
  add_tree_commands(app, arguments, context, code);
  add_other_commands(app, arguments, context, code);
  add_ensemble_commands(app, arguments, context, code);

  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    return coord::tools::finish_output(app.exit(e));
  } catch (const CLI::Error& e) {
    const std::vector<std::string> unknown = app.remaining();
    if (app.get_subcommands().empty() && !unknown.empty()) {
      return coord::tools::complain(coord::tools::kUsage,
                                    "unknown command or option \"" + unknown.front() + "\"; see --help");
    }
    app.exit(e);
    return coord::tools::kUsage;
  }
  context.close();
  return coord::tools::finish_output(code);
}
