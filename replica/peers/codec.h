// The messages of replicas (zab/message.h) as bytes: one tag byte, then the fields in their order, in jute's primitive
// encoding (common/wire/codec.h). Pure.
//
// What arrives may come from anybody who has the secret, or from a broken peer: decode never reads past its input,
// never allocates more than a small multiple of what the input holds, and takes nothing but what encode makes (booleans
// are 0 or 1, no byte is left over, a log's shape is well formed, an entry has a payload) of what there can be (a list
// of members ascends, has at most 1024, and no server in two roles; a directory id has at most 64 bytes), so that
// encode(*decode(bytes)) == bytes.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "replica/zab/message.h"

namespace coord::peers {

// Appends. Every entry of a Proposal must have its payload.
void encode(const zab::Message& message, std::string& out);

// How many bytes encode appends, exactly.
std::size_t encoded_size(const zab::Message& message);

// The one message that `bytes` is; nullopt if it is none.
std::optional<zab::Message> decode(std::string_view bytes);

}  // namespace coord::peers
