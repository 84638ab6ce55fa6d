// ZooKeeper's path rules (client-protocol.md section 10). Pure.
#pragma once

#include <string_view>

#include "common/base/error.h"

namespace coord {

// Is `path` valid in full: absolute, no empty, "." or ".." component, no trailing slash, no forbidden character, valid
// UTF-8 without 4-byte sequences? No limit of length but the frame's.
bool valid_path(std::string_view path);

// The same rules for one component, which must not be empty or contain '/'.
bool valid_name(std::string_view name);

std::string_view parent_path(std::string_view path);  // "/" for "/a" and for "/"
std::string_view last_name(std::string_view path);    // "" for "/"

}  // namespace coord
