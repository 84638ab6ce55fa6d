// The commands of coordctl: each takes its parsed arguments and returns the exit code.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/tools/context.h"

namespace coord::tools {

struct CreateArguments {
  std::string path;
  std::optional<std::string> data;  // absent: null
  bool ephemeral = false;
  bool sequential = false;
  bool container = false;
  std::int64_t ttl_ms = 0;
  bool parents = false;
  std::string acl;  // empty: open
};
int create(Context& context, const CreateArguments& arguments);

int get(Context& context, const std::string& path, bool with_stat);
int set(Context& context, const std::string& path, const std::optional<std::string>& data, std::int32_t version);
int list(Context& context, const std::string& path, bool recursive, bool with_stat);
int remove(Context& context, const std::string& path, bool recursive, std::int32_t version);
int stat(Context& context, const std::string& path);
int acl_get(Context& context, const std::string& path);
int acl_set(Context& context, const std::string& path, const std::string& acl, std::int32_t version);

int watch(Context& context, const std::string& path, bool recursive);
int multi(Context& context, const std::string& file);
int status(Context& context, bool long_form);

// Empty: not given. Exactly one of the first three.
struct ReconfigArguments {
  std::string add;      // see parse_spec in members.h
  std::string remove;   // a server id
  std::string role;     // ID=ROLE
  std::string version;  // of the configuration to be changed, hexadecimal
};
int config(Context& context);
int reconfig(Context& context, const ReconfigArguments& arguments);
int feature_level(Context& context, std::int32_t level);  // 0 asks

}  // namespace coord::tools
