// Every record: written and read back; every prefix of it fails and nothing else happens.
#include <gtest/gtest.h>

#include "common/wire/extension.h"
#include "common/wire/protocol.h"

namespace coord::wire {
namespace {

template <class Record>
std::string bytes_of(const Record& record) {
  std::string out;
  Writer w(out);
  write(w, record);
  return out;
}

// Records have no operator==; their encodings are compared, which also shows that nothing was lost.
template <class Record>
void expect_round_trip(const Record& record) {
  const std::string bytes = bytes_of(record);
  Reader r(bytes);
  Record copy;
  read(r, copy);
  EXPECT_FALSE(r.failed());
  EXPECT_EQ(r.remaining(), 0u);
  EXPECT_EQ(bytes_of(copy), bytes);
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    Reader cut(std::string_view(bytes).substr(0, n));
    Record part;
    read(cut, part);
    EXPECT_TRUE(cut.failed()) << "prefix of " << n;
  }
  const std::string longer = bytes + "zz";
  Reader trailing(longer);  // trailing bytes are not an error
  Record again;
  read(trailing, again);
  EXPECT_FALSE(trailing.failed());
  EXPECT_EQ(trailing.rest(), "zz");
}

Stat some_stat() { return {1, -2, 3, 4, 5, -6, 7, 8, 9, 10, 0x7fffffffffffffff}; }
Acl some_acl() { return {{31, {"world", "anyone"}}, {1, {"unix", "u:1000"}}, {0, {"", ""}}}; }
Credentials some_who() { return {1000, 0xfffffffeu, {0, 4, 4294967295u}}; }
MutationHeader some_header() { return {7, 3, some_who()}; }

NodeInfo some_node() {
  NodeInfo node;
  node.id = NodeId{0xfffffffffffffff0u};
  node.parent = kRootNode;
  node.name = "n\xc3\xa4me";
  node.attributes = {Shape::kSymlink, 01111, -5};
  node.stat = some_stat();
  node.acl = some_acl();
  node.data = std::string("a\0b", 3);
  return node;
}

TEST(Records, Connect) {
  ConnectRequest request{0, 77, 4000, -9, std::string(16, 'p'), true, true};
  std::string bytes = bytes_of(request);
  EXPECT_EQ(bytes.size(), 45u);
  Reader r(bytes);
  ConnectRequest copy = read_connect_request(r);
  EXPECT_FALSE(r.failed());
  EXPECT_EQ(bytes_of(copy), bytes);
  EXPECT_TRUE(copy.read_only);

  request.has_read_only = false;  // go-zk
  bytes = bytes_of(request);
  EXPECT_EQ(bytes.size(), 44u);
  Reader short_reader(bytes);
  copy = read_connect_request(short_reader);
  EXPECT_FALSE(short_reader.failed());
  EXPECT_FALSE(copy.has_read_only);
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    Reader cut(std::string_view(bytes).substr(0, n));
    static_cast<void>(read_connect_request(cut));
    EXPECT_TRUE(cut.failed()) << n;
  }
}

TEST(Records, InvalidSessionIsTheExpectedBytes) {
  ConnectResponse response;
  EXPECT_EQ(bytes_of(response), std::string(19, '\0') + '\x10' + std::string(17, '\0'));
  response.has_read_only = false;
  EXPECT_EQ(bytes_of(response).size(), 36u);
  const std::string bytes = bytes_of(response);
  Reader r(bytes);
  const ConnectResponse copy = read_connect_response(r);
  EXPECT_FALSE(r.failed());
  EXPECT_FALSE(copy.has_read_only);
  EXPECT_EQ(copy.password, std::string(16, '\0'));
}

TEST(Records, ReplyHeader) {
  const std::string bytes = bytes_of(ReplyHeader{-1, 0x100000002, Err::kNoNode});
  EXPECT_EQ(bytes.size(), kReplyHeaderSize);
  Reader r(bytes);
  const ReplyHeader copy = read_reply_header(r);
  EXPECT_EQ(copy.xid, -1);
  EXPECT_EQ(copy.zxid, 0x100000002);
  EXPECT_EQ(copy.err, Err::kNoNode);
}

TEST(Records, StatIs68BytesInOrder) {
  const std::string bytes = bytes_of(some_stat());
  EXPECT_EQ(bytes.size(), 68u);
  Reader r(bytes);
  EXPECT_EQ(read_stat(r), some_stat());
  EXPECT_EQ(load_be<std::int64_t>(bytes.data() + 60), 0x7fffffffffffffff);  // pzxid is the last
}

TEST(Records, AclTellsNullFromEmpty) {
  bool is_null = true;
  const std::string bytes = bytes_of(some_acl());
  Reader r(bytes);
  EXPECT_EQ(read_acl(r, &is_null), some_acl());
  EXPECT_FALSE(is_null);
  const std::string empty = bytes_of(Acl{});
  Reader empty_reader(empty);
  EXPECT_TRUE(read_acl(empty_reader, &is_null).empty());
  EXPECT_FALSE(is_null);
  Reader null_reader("\xff\xff\xff\xff");
  EXPECT_TRUE(read_acl(null_reader, &is_null).empty());
  EXPECT_TRUE(is_null);
  EXPECT_FALSE(null_reader.failed());
}

TEST(Records, StringsMultiHeaderWatcherEvent) {
  std::string bytes;
  Writer w(bytes);
  write_strings(w, {"", "a", std::string(300, 'x')});
  Reader r(bytes);
  EXPECT_EQ(read_strings(r), (std::vector<std::string>{"", "a", std::string(300, 'x')}));

  const std::string header = bytes_of(MultiHeader{14, false, -8});
  EXPECT_EQ(header.size(), 9u);
  Reader header_reader(header);
  const MultiHeader multi = read_multi_header(header_reader);
  EXPECT_EQ(multi.type, 14);
  EXPECT_FALSE(multi.done);
  EXPECT_EQ(multi.err, -8);

  const std::string event = bytes_of(WatcherEvent{WatchType::kChildrenChanged, 3, "/a"});
  Reader event_reader(event);
  const WatcherEvent copy = read_watcher_event(event_reader);
  EXPECT_EQ(copy.type, WatchType::kChildrenChanged);
  EXPECT_EQ(copy.state, 3);
  EXPECT_EQ(copy.path, "/a");
}

TEST(Records, ExtensionRecordsRoundTrip) {
  expect_round_trip(some_who());
  expect_round_trip(some_header());
  expect_round_trip(Attributes{Shape::kDir, 0111, 1});
  expect_round_trip(some_node());
  expect_round_trip(CapabilitiesRequest{65536});
  expect_round_trip(CapabilitiesReply{1, 2, 3, NodeId{4}, 5, true, 6, 0xffffffffu});
  expect_round_trip(LookupRequest{some_who(), NodeId{2}, "name", true, 4096});
  expect_round_trip(ReadDirRequest{some_who(), NodeId{2}, true});
  expect_round_trip(ReadDirReply{some_node(), {some_node(), some_node()}});
  expect_round_trip(ReadNodeRequest{some_who(), NodeId{9}});
  expect_round_trip(CreateNodeRequest{some_header(), NodeId{1}, "job-", NodeId{5}, CreateMode::kTtlSequential, 12345,
                                      "data", Attributes{}, some_acl(), true, false});
  expect_round_trip(SetNodeDataRequest{some_header(), NodeId{5}, std::nullopt, 3});
  expect_round_trip(SetNodeDataRequest{some_header(), NodeId{5}, "", -1});
  expect_round_trip(DeleteNodeRequest{some_header(), NodeId{5}, DeleteHalf::kChildren, {NodeId{4}, "at"}});
  expect_round_trip(SetAttributesRequest{some_header(), NodeId{5}, 0755, std::nullopt, 0xffffffffu, -1});
  expect_round_trip(SetAttributesRequest{some_header(), NodeId{5}, std::nullopt, 0, std::nullopt, std::nullopt});
  expect_round_trip(RenameRequest{some_header(), NodeId{5}, NodeId{6}, "new", 3, {NodeId{4}, "at"}});
  expect_round_trip(ForgetRequest{{NodeId{1}, NodeId{2}}});
  expect_round_trip(ResumeRequest{{NodeId{1}, NodeId{2}}});
  expect_round_trip(ResumeReply{{std::nullopt, some_node(), std::nullopt}});
  ChangeEvent event{ChangeKind::kRenamed, 9,           true,       SessionId{-3}, 4,
                    some_node(),          some_stat(), NodeId{8}, "old",         some_stat()};
  expect_round_trip(event);
  event.kind = ChangeKind::kData;
  expect_round_trip(event);
  event.kind = ChangeKind::kDropAll;
  expect_round_trip(event);
}

TEST(Records, NullAbsentAndEmptyDataAreThreeThings) {
  NodeInfo node = some_node();
  node.data = "";
  std::string bytes = bytes_of(node);
  Reader r(bytes);
  NodeInfo copy;
  read(r, copy);
  ASSERT_TRUE(copy.data.has_value());
  EXPECT_TRUE(copy.data->empty());
  EXPECT_FALSE(copy.null_data);
  node.data.reset();
  node.null_data = true;
  bytes = bytes_of(node);
  Reader again(bytes);
  read(again, copy);
  EXPECT_FALSE(copy.data.has_value());
  EXPECT_TRUE(copy.null_data);
}

// The one byte of an enumeration at `at` set to each value outside first..last must be refused.
template <class Record>
void expect_enum_checked(const Record& record, std::size_t at, int last) {
  std::string bytes = bytes_of(record);
  for (int v = 0; v < 256; ++v) {
    bytes[at] = static_cast<char>(v);
    Reader r(bytes);
    Record copy;
    read(r, copy);
    if (v > last) {
      EXPECT_TRUE(r.failed()) << v;
    }
  }
}

TEST(Records, UnknownEnumerationValuesAreRefused) {
  expect_enum_checked(Attributes{}, 0, 2);
  const std::size_t header = bytes_of(some_header()).size();
  expect_enum_checked(DeleteNodeRequest{some_header(), NodeId{5}, DeleteHalf::kWhole}, header + 8, 2);
  expect_enum_checked(ChangeEvent{}, 0, 6);
  std::string zero(9, '\0');  // kind 0 does not exist
  Reader r(zero);
  ChangeEvent event;
  read(r, event);
  EXPECT_TRUE(r.failed());
}

TEST(Records, ForeignModeBitsInExecAreRefused) {
  for (const std::uint16_t exec : std::initializer_list<std::uint16_t>{02, 04000, 02000, 0200, 0x8000}) {
    const std::string bytes = bytes_of(Attributes{Shape::kFile, exec, 0});
    Reader r(bytes);
    Attributes copy;
    read(r, copy);
    EXPECT_TRUE(r.failed()) << exec;
  }
}

}  // namespace
}  // namespace coord::wire
