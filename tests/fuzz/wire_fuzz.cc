// Arbitrary bytes as every record of the wire. A record that decodes must survive: encoded and decoded again it is the
// same. The first byte of the input chooses the record.
#include "common/wire/extension.h"
#include "common/wire/protocol.h"
#include "tests/fuzz/input.h"

namespace coord::wire {
namespace {

using fuzz::Input;

template <class T>
std::string encoded(const T& value) {
  std::string out;
  Writer w(out);
  write(w, value);
  return out;
}

// `decode` and `encode` of one record. Compared by their encodings: several spellings of `true` and of null may come
// in, one goes out.
template <class Decode, class Encode>
void round_trip(std::string_view bytes, const Decode& decode, const Encode& encode) {
  Reader first(bytes);
  const auto value = decode(first);
  if (first.failed()) {
    COORD_CHECK_MSG(first.remaining() == 0, "a failed reader must not go on");
    return;
  }
  const std::string once = encode(value);
  Reader second(once);
  const auto again = decode(second);
  COORD_CHECK_MSG(!second.failed(), "what was encoded does not decode");
  COORD_CHECK_MSG(second.remaining() == 0, "what was encoded is longer than what is decoded");
  COORD_CHECK_MSG(encode(again) == once, "a record changes when it is encoded and decoded");
  // Cut short, it must fail, or be another record that ends earlier.
  Reader cut(std::string_view(once).substr(0, once.empty() ? 0 : once.size() - 1));
  static_cast<void>(decode(cut));
}

template <class T>
void extension(std::string_view bytes) {
  const auto decode = [](Reader& r) {
    T value;
    read(r, value);
    return value;
  };
  round_trip(bytes, decode, encoded<T>);
}

template <class T, T (*kRead)(Reader&)>
void protocol(std::string_view bytes) {
  round_trip(bytes, kRead, encoded<T>);
}

void acl(std::string_view bytes) {
  const auto decode = [](Reader& r) { return read_acl(r); };
  round_trip(bytes, decode, encoded<Acl>);
}

void strings(std::string_view bytes) {
  const auto encode = [](const std::vector<std::string>& value) {
    std::string out;
    Writer w(out);
    write_strings(w, value);
    return out;
  };
  round_trip(bytes, read_strings, encode);
}

constexpr void (*kRecords[])(std::string_view) = {
    protocol<ConnectRequest, read_connect_request>,
    protocol<ConnectResponse, read_connect_response>,
    protocol<ReplyHeader, read_reply_header>,
    protocol<Stat, read_stat>,
    protocol<MultiHeader, read_multi_header>,
    protocol<WatcherEvent, read_watcher_event>,
    acl,
    strings,
    extension<Credentials>,
    extension<MutationHeader>,
    extension<Attributes>,
    extension<NodeInfo>,
    extension<CapabilitiesRequest>,
    extension<CapabilitiesReply>,
    extension<LookupRequest>,
    extension<ReadDirRequest>,
    extension<ReadDirReply>,
    extension<ReadNodeRequest>,
    extension<CreateNodeRequest>,
    extension<SetNodeDataRequest>,
    extension<DeleteNodeRequest>,
    extension<SetAttributesRequest>,
    extension<RenameRequest>,
    extension<ForgetRequest>,
    extension<ResumeRequest>,
    extension<ResumeReply>,
    extension<ChangeEvent>,
};

}  // namespace
}  // namespace coord::wire

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  coord::fuzz::Input input(data, size);
  const auto record = input.pick(coord::wire::kRecords);
  record(input.rest());
  return 0;
}
