#include "replica/peers/handshake.h"

#include <algorithm>
#include <cstdlib>
#include <tuple>

#include "common/base/check.h"
#include "common/wire/codec.h"

namespace coord::peers {
namespace {

using wire::Reader;
using wire::Writer;

constexpr std::int32_t kMagic = 0x43524450;  // "CRDP"
constexpr char kHelloTag = 'H', kProofTag = 'P', kVerdictTag = 'V';
constexpr std::size_t kHelloMembersMax = 254;

std::string server(Sid sid) { return "server " + std::to_string(sid.value); }

// What a peer says goes to a log of lines.
std::string printable(std::string_view text) {
  std::string out(text.substr(0, kRefusalTextMax));
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return out;
}

std::string of_member(const std::map<Sid, bool>& members, Sid sid) {
  const auto at = members.find(sid);
  if (at == members.end()) return "no member";
  return at->second ? "an observer" : "a voter";
}

std::string difference(Sid self, const std::map<Sid, bool>& ours, Sid peer, const std::map<Sid, bool>& theirs) {
  std::map<Sid, bool> all = ours;
  all.insert(theirs.begin(), theirs.end());
  for (const auto& [sid, observer] : all) {
    const std::string here = of_member(ours, sid), there = of_member(theirs, sid);
    if (here == there) continue;
    return server(sid) + " is " + here + " in the configuration of " + server(self) + " and " + there + " in that of " +
           server(peer);
  }
  return "";
}

Judgement unknown(Sid self, Sid stranger) {
  return {Refusal::kUnknownSid, server(stranger) + " is no member in the configuration of " + server(self) +
                                    ": add the line server." + std::to_string(stranger.value) +
                                    " there, or stop that server"};
}

Judgement judge_members(const Identity& self, const Hello& peer) {
  if (peer.sid.value == 0 || peer.sid.value > kSidMost) return unknown(self.self, peer.sid);
  const Zxid ours = self.members_version, theirs = peer.members_version;
  if (ours == Zxid() && theirs == Zxid() && !self.members.contains(peer.sid)) return unknown(self.self, peer.sid);
  const std::string where = difference(self.self, self.members, peer.sid, peer.members);
  if (where.empty()) return {};
  const std::string text = "the member lists disagree: " + where;
  if (ours == theirs && ours == Zxid()) {
    return {Refusal::kMembers, text + "; all members need the same lines server.N and roles"};
  }
  if (ours == theirs) {
    return {Refusal::kMembers, text + ", both as of " + to_string(ours) +
                                   ": their histories have diverged, so one has a data directory that was restored or "
                                   "copied; keep that of the majority, and empty the other one (dataDir)"};
  }
  const auto file_is_wrong = [&](Sid sid) {
    return Judgement{Refusal::kMembers, text + "; make the lines server.N of " + server(sid) +
                                            " those of the ensemble (coordctl get /zookeeper/config)"};
  };
  if (theirs == Zxid() && self.members.contains(peer.sid)) return file_is_wrong(peer.sid);
  if (ours == Zxid() && peer.members.contains(self.self)) return file_is_wrong(self.self);
  return {};
}

Judgement judge_level(Sid who, int known, int level) {
  if (known >= level) return {};
  return {Refusal::kLevel, server(who) + " knows feature level " + std::to_string(known) +
                               ", the ensemble is at level " + std::to_string(level) +
                               ": start a newer program there (or raise coord.featureLevelMax)"};
}

}  // namespace

void encode(const Hello& hello, std::string& out) {
  Writer w(out);
  w.i32(kMagic);
  w.i32(static_cast<std::int32_t>(hello.version));
  w.i8(static_cast<std::int8_t>(hello.channel));
  w.i32(static_cast<std::int32_t>(hello.sid.value));
  w.i32(static_cast<std::int32_t>(hello.wanted.value));
  w.buffer(std::string_view(hello.cluster_id));
  w.buffer(std::string_view(hello.directory_id));
  w.i64(static_cast<std::int64_t>(hello.incarnation));
  w.i32(static_cast<std::int32_t>(hello.members.size()));
  for (const auto& [sid, observer] : hello.members) {
    w.i32(static_cast<std::int32_t>(sid.value));
    w.boolean(observer);
  }
  w.i64(hello.wall_ms);
  w.buffer(std::string_view(hello.nonce));
  w.i64(hello.members_version.wire());
  w.i32(hello.feature_level);
  w.i32(hello.feature_level_known);
  w.buffer(std::string_view(hello.host));
  w.i32(hello.port);
}

std::optional<Hello> decode_hello(std::string_view bytes) {
  Reader r(bytes);
  Hello hello;
  if (r.i32() != kMagic) return std::nullopt;
  hello.version = static_cast<std::uint32_t>(r.i32());
  if (r.failed()) return std::nullopt;
  if (hello.version != kProtocolVersion) return hello;
  const std::int8_t channel = r.i8();
  if (channel != 0 && channel != 1) return std::nullopt;
  hello.channel = static_cast<zab::Channel>(channel);
  hello.sid = Sid(static_cast<std::uint32_t>(r.i32()));
  hello.wanted = Sid(static_cast<std::uint32_t>(r.i32()));
  hello.cluster_id = r.string();
  hello.directory_id = r.string();
  hello.incarnation = static_cast<std::uint64_t>(r.i64());
  const std::int32_t members = r.vector();
  if (members < 0 || static_cast<std::size_t>(members) > kHelloMembersMax) return std::nullopt;
  for (std::int32_t n = 0; n < members; ++n) {
    const Sid sid(static_cast<std::uint32_t>(r.i32()));
    hello.members[sid] = r.boolean();
  }
  hello.wall_ms = r.i64();
  hello.nonce = r.string();
  hello.members_version = Zxid(static_cast<std::uint64_t>(r.i64()));
  hello.feature_level = r.i32();
  hello.feature_level_known = r.i32();
  hello.host = r.string();
  const std::int32_t port = r.i32();
  if (hello.host.size() > kHostBytesMax || port < 0 || port > 0xffff) return std::nullopt;
  hello.port = static_cast<std::uint16_t>(port);
  if (r.failed() || r.remaining() != 0 || hello.nonce.size() != kNonceBytes) return std::nullopt;
  for (const int level : {hello.feature_level, hello.feature_level_known}) {
    if (level < 1 || level > kLevelMost) return std::nullopt;
  }
  return hello;
}

// ---------------------------------------------------------------- who is connected

void PeerTable::up(const Hello& hello) {
  Live live{hello.directory_id, hello.incarnation};
  const auto last = last_.find(hello.sid);
  if (last != last_.end() && last->second.incarnation != hello.incarnation) {
    auto& retired = retired_[hello.sid];
    retired.push_back(last->second.incarnation);
    if (retired.size() > kRetiredMax) retired.pop_front();
  }
  last_[hello.sid] = live;
  live_[{hello.sid, hello.channel}] = std::move(live);
}

void PeerTable::down(Sid sid, zab::Channel channel) { live_.erase({sid, channel}); }

std::string PeerTable::conflict(const Hello& hello) const {
  const std::string remedy = "; stop one of them, and give it an id of its own (dataDir/myid, server.N)";
  for (const zab::Channel channel : {zab::Channel::kElection, zab::Channel::kLearner}) {
    const auto live = live_.find({hello.sid, channel});
    if (live != live_.end() && live->second.directory_id != hello.directory_id) {
      return "two servers with id " + std::to_string(hello.sid.value) + " and different data directories" + remedy;
    }
  }
  const auto retired = retired_.find(hello.sid);
  if (retired != retired_.end() &&
      std::find(retired->second.begin(), retired->second.end(), hello.incarnation) != retired->second.end()) {
    return "two servers with id " + std::to_string(hello.sid.value) + " and copies of one data directory" + remedy;
  }
  return "";
}

// ---------------------------------------------------------------- judging

Judgement judge(const Identity& self, const Hello& peer, Sid wanted, bool dialed, const PeerTable& table) {
  const Sid dialer = dialed ? self.self : peer.sid;
  if (peer.sid == self.self) {
    if (peer.incarnation == self.incarnation && peer.directory_id == self.directory_id) {
      return {Refusal::kOwnSid, server(self.self) + " has reached itself at the address of " + server(wanted) +
                                    ": correct the line server." + std::to_string(wanted.value)};
    }
    return {Refusal::kOwnSid, "two servers with id " + std::to_string(self.self.value) +
                                  ": give one of them an id of its own (dataDir/myid, server.N)"};
  }
  const Sid reached = dialed ? peer.sid : self.self;
  if (reached != wanted) {
    return {Refusal::kWrongSid, server(dialer) + " expects " + server(wanted) + " at an address where " +
                                    server(reached) + " is: correct the lines server.N, or dataDir/myid"};
  }
  if (!self.cluster_id.empty() && !peer.cluster_id.empty() && self.cluster_id != peer.cluster_id) {
    return {Refusal::kCluster, server(self.self) + " belongs to cluster " + self.cluster_id + " and " +
                                   server(peer.sid) + " to cluster " + printable(peer.cluster_id) +
                                   ": one of them has a data directory of another ensemble (dataDir), or wrong lines "
                                   "server.N"};
  }
  for (Judgement level : {judge_level(peer.sid, peer.feature_level_known, self.feature_level),
                          judge_level(self.self, self.feature_level_known, peer.feature_level)}) {
    if (level.refusal != Refusal::kNone) return level;
  }
  if (Judgement members = judge_members(self, peer); members.refusal != Refusal::kNone) return members;
  if (std::string twin = table.conflict(peer); !twin.empty()) return {Refusal::kTwin, std::move(twin)};
  return {};
}

std::string clock_warning(Sid self, std::int64_t wall_ms, const Hello& peer) {
  // Unsigned: a peer may say anything.
  const std::uint64_t ours = static_cast<std::uint64_t>(wall_ms), theirs = static_cast<std::uint64_t>(peer.wall_ms);
  const std::uint64_t apart = peer.wall_ms > wall_ms ? theirs - ours : ours - theirs;
  if (apart <= static_cast<std::uint64_t>(kClockApartMs)) return "";
  return "the clocks of " + server(self) + " and " + server(peer.sid) + " are " + std::to_string(apart / 60'000) +
         " minutes apart: set them right (NTP); times of changes will jump when the leader changes";
}

// ---------------------------------------------------------------- the conversation

Handshake::Handshake(const Identity& self, const PeerTable& table, zab::Channel channel, Sid wanted, std::string nonce,
                     std::int64_t wall_ms)
    : self_(self), table_(table), wanted_(wanted) {
  COORD_CHECK(nonce.size() == kNonceBytes);
  own_.channel = channel;
  own_.sid = self.self;
  own_.wanted = wanted;
  own_.cluster_id = self.cluster_id;
  own_.directory_id = self.directory_id;
  own_.incarnation = self.incarnation;
  own_.members = self.members;
  own_.wall_ms = wall_ms;
  own_.nonce = std::move(nonce);
  own_.members_version = self.members_version;
  own_.feature_level = self.feature_level;
  own_.feature_level_known = self.feature_level_known;
  own_.host = self.host;
  own_.port = self.port;
}

void Handshake::start(FrameWriter& writer, std::string& out) {
  if (!dialed()) return;
  encode(own_, own_bytes_);
  writer.put(kHelloTag + own_bytes_, out);
}

Handshake::Progress Handshake::advance(FrameReader& reader, FrameWriter& writer, std::string& out) {
  COORD_CHECK(step_ != Step::kOver);
  while (true) {
    std::string_view payload;
    const auto status = reader.next(payload);
    if (status == FrameReader::Status::kNothing) return Progress::kMore;
    if (status == FrameReader::Status::kBad) return malformed(reader.error().c_str(), writer, out);
    const Progress progress = take(payload, reader, writer, out);
    if (progress == Progress::kMore) continue;
    step_ = Step::kOver;
    return progress;
  }
}

Handshake::Progress Handshake::take(std::string_view payload, FrameReader& reader, FrameWriter& writer,
                                    std::string& out) {
  if (payload.empty()) return malformed("an empty frame in the handshake", writer, out);
  const char tag = payload.front();
  payload.remove_prefix(1);
  if (tag == kVerdictTag) return take_verdict(payload, writer, out);
  if (tag == kHelloTag && step_ == Step::kHello) return take_hello(payload, writer, out);
  if (tag == kProofTag && step_ == Step::kProof) return take_proof(payload, reader, writer, out);
  return malformed("not what is due in the handshake", writer, out);
}

Handshake::Progress Handshake::take_hello(std::string_view bytes, FrameWriter& writer, std::string& out) {
  auto hello = decode_hello(bytes);
  if (!hello) return malformed("not the hello of a replica", writer, out);
  if (hello->version != kProtocolVersion) {
    return refuse({Refusal::kVersion, "peer protocol version " + std::to_string(hello->version) + " meets version " +
                                          std::to_string(kProtocolVersion) + " of " + server(self_.self) +
                                          ": install releases that know each other"},
                  writer, out);
  }
  if (dialed() && hello->channel != own_.channel) return malformed("a hello for another channel", writer, out);
  peer_ = std::move(hello);
  peer_bytes_.assign(bytes);
  step_ = Step::kProof;
  if (dialed()) {
    writer.put(kProofTag + proof(true), out);
  } else {
    own_.channel = peer_->channel;
    encode(own_, own_bytes_);
    writer.put(kHelloTag + own_bytes_, out);
  }
  return Progress::kMore;
}

Handshake::Progress Handshake::take_proof(std::string_view bytes, FrameReader& reader, FrameWriter& writer,
                                          std::string& out) {
  if (!equal_secrets(bytes, proof(!dialed()))) {
    return refuse({Refusal::kSecret, server(self_.self) + " and " + server(peer_->sid) +
                                         " have different secrets: set the same coord.peerSecret or "
                                         "coord.peerSecretFile on all members"},
                  writer, out);
  }
  proven_ = true;
  step_ = Step::kVerdict;
  if (!dialed()) writer.put(kProofTag + proof(false), out);
  if (!self_.secret.empty() && !self_.tls) {
    reader.set_key(key(!dialed()));
    writer.set_key(key(dialed()));
  }
  if (dialed()) return Progress::kMore;
  Judgement judgement = judge(self_, *peer_, peer_->wanted, false, table_);
  if (judgement.refusal != Refusal::kNone) return refuse(std::move(judgement), writer, out);
  writer.put(std::string{kVerdictTag, static_cast<char>(Refusal::kNone)}, out);
  return Progress::kMore;
}

Handshake::Progress Handshake::take_verdict(std::string_view bytes, FrameWriter& writer, std::string& out) {
  if (bytes.empty()) return malformed("an empty verdict", writer, out);
  const auto code = static_cast<std::uint8_t>(bytes.front());
  if (code != 0) {  // at any step
    refused_by_peer_ = true;
    judgement_.refusal =
        code < static_cast<std::uint8_t>(Refusal::kOther) ? static_cast<Refusal>(code) : Refusal::kOther;
    judgement_.text = printable(bytes.substr(1));
    return Progress::kRefused;
  }
  if (step_ != Step::kVerdict || bytes.size() != 1) return malformed("a verdict that is not due", writer, out);
  if (!dialed()) return Progress::kDone;
  Judgement judgement = judge(self_, *peer_, wanted_, true, table_);
  if (judgement.refusal != Refusal::kNone) return refuse(std::move(judgement), writer, out);
  writer.put(std::string{kVerdictTag, static_cast<char>(Refusal::kNone)}, out);
  return Progress::kDone;
}

Handshake::Progress Handshake::refuse(Judgement judgement, FrameWriter& writer, std::string& out) {
  judgement_ = std::move(judgement);
  std::string verdict{kVerdictTag, static_cast<char>(judgement_.refusal)};
  verdict += judgement_.text.substr(0, kRefusalTextMax);
  writer.put(verdict, out);
  step_ = Step::kOver;
  return Progress::kRefused;
}

Handshake::Progress Handshake::malformed(const char* what, FrameWriter& writer, std::string& out) {
  return refuse({Refusal::kMalformed, what}, writer, out);
}

// Both hellos are in each, with both nonces; the labels keep the directions and purposes apart.
std::string Handshake::proof(bool of_dialer) const {
  const auto& [first, second] = dialed() ? std::tie(own_bytes_, peer_bytes_) : std::tie(peer_bytes_, own_bytes_);
  const std::string length = std::to_string(first.size()) + ":";
  return hmac(self_.secret, {of_dialer ? "coord proof of the dialer " : "coord proof of the acceptor ", length, first,
                             second});
}

std::string Handshake::key(bool of_dialer) const {
  const auto& [first, second] = dialed() ? std::tie(own_bytes_, peer_bytes_) : std::tie(peer_bytes_, own_bytes_);
  const std::string length = std::to_string(first.size()) + ":";
  return hmac(self_.secret, {of_dialer ? "coord frames of the dialer " : "coord frames of the acceptor ", length, first,
                             second});
}

}  // namespace coord::peers
