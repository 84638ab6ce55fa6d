// What two servers tell and prove to each other before a connection is a link. Pure: bytes in, bytes out.
//
//   dialer                         acceptor
//   Hello            ->
//                    <-            Hello
//   Proof            ->                          (HMAC under the secret, over both hellos and the role)
//                    <-            Proof
//                    <-            Verdict       (from here on with MACs, if there is a secret and no TLS)
//   Verdict          ->
//
// Nothing in a Hello is believed, and nothing judged but its version, before the Proof. Each side judges for itself; a
// refusal goes to the other side as text, so that both can log it. Before the proofs that text is unproven, and says
// so.
//
// Without a secret the proofs are made with the empty key: they prove that the hellos arrived unchanged, no more.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "common/model/ids.h"
#include "replica/peers/frame.h"
#include "replica/zab/peer.h"

namespace coord::peers {

inline constexpr std::uint32_t kProtocolVersion = 1;
inline constexpr std::size_t kHelloBytesMax = 4096;  // of any payload before the end of the handshake
inline constexpr std::size_t kNonceBytes = 32;
inline constexpr std::size_t kRefusalTextMax = 600;
inline constexpr std::size_t kRetiredMax = 16;       // incarnations remembered per server
inline constexpr std::size_t kHostBytesMax = 255;
inline constexpr std::int64_t kClockApartMs = 3'600'000;
inline constexpr int kLevelMost = 1'000;             // what may be believed of a feature level, not what is known here
inline constexpr std::uint32_t kSidMost = 254;

struct Hello {
  std::uint32_t version = kProtocolVersion;
  zab::Channel channel = zab::Channel::kElection;
  Sid sid;
  Sid wanted;                  // whom the sender believes to speak to; from the acceptor: 0
  std::string cluster_id;      // empty: virgin
  std::string directory_id;
  std::uint64_t incarnation = 0;
  std::map<Sid, bool> members;  // sid -> observer?
  std::int64_t wall_ms = 0;
  std::string nonce;
  Zxid members_version{};       // of the transaction that made them the members; 0: as the file says
  int feature_level = 1;        // the ensemble's, as far as the sender knows
  int feature_level_known = 1;  // the highest that the sender's program knows, or may use
  // Where the sender is reached by the list that it was in last: for one whose list does not have it yet. Empty: in
  // none.
  std::string host{};
  std::uint16_t port = 0;
};

void encode(const Hello& hello, std::string& out);
// nullopt: not one. Of another version only `version` is filled in.
std::optional<Hello> decode_hello(std::string_view bytes);

// Who one is, for hellos, and by what one judges.
struct Identity {
  Sid self;
  std::string cluster_id, directory_id;
  std::uint64_t incarnation = 0;
  std::map<Sid, bool> members;  // self included, if their version is 0
  std::string secret;
  bool tls = false;             // frames need no MAC
  Zxid members_version{};
  int feature_level = 1, feature_level_known = 1;  // 1..kLevelMost
  std::string host{};  // as in Hello
  std::uint16_t port = 0;
};

enum class Refusal : std::uint8_t {
  kNone = 0,
  kMalformed = 1,   // not a replica, or broken
  kVersion = 2,
  kSecret = 3,
  kOwnSid = 4,      // the other one has this server's id, or this server has reached itself
  kWrongSid = 5,    // another server than the dialer wanted
  kUnknownSid = 6,
  kCluster = 7,
  kMembers = 8,
  kTwin = 9,        // another server with that id is connected
  kLevel = 10,      // one of them does not know the feature level of the other's ensemble
  kOther = 11,      // one that this program does not know
};

// Who is connected, to tell two servers with one id.
class PeerTable {
 public:
  void up(const Hello& hello);  // must not conflict
  void down(Sid sid, zab::Channel channel);
  // Another data directory than that of the live links of this sid; or an incarnation that a later one has replaced.
  // Empty: none.
  std::string conflict(const Hello& hello) const;

 private:
  struct Live {
    std::string directory_id;
    std::uint64_t incarnation = 0;
  };
  std::map<std::pair<Sid, zab::Channel>, Live> live_;
  std::map<Sid, Live> last_;
  std::map<Sid, std::deque<std::uint64_t>> retired_;
};

struct Judgement {
  Refusal refusal = Refusal::kNone;
  std::string text;  // names both servers, the thing and the remedy; the same for both sides
};
// `wanted`: whom the dialer, whichever side that is, wanted.
//
// Members. While both have their lists from files (version 0) the lists must be equal, and each must know the other. Of
// one version above 0 the lists must be equal as well: they came by one transaction. Of different versions one list is
// older than the other, or of a file: they are not compared, and a server that is in none of them is let in as a guest.
// But a member whose list comes from its file, and is not that of the ensemble, is told to correct the file.
Judgement judge(const Identity& self, const Hello& peer, Sid wanted, bool dialed, const PeerTable& table);

// A line about clocks more than an hour apart; empty: they are not.
std::string clock_warning(Sid self, std::int64_t wall_ms, const Hello& peer);

class Handshake {
 public:
  enum class Progress { kMore, kDone, kRefused };

  // The references must outlive the handshake. `wanted`: of the dialer; 0: this side accepts. `nonce`: kNonceBytes,
  // random.
  Handshake(const Identity& self, const PeerTable& table, zab::Channel channel, Sid wanted, std::string nonce,
            std::int64_t wall_ms);

  bool dialed() const { return wanted_.value != 0; }
  Sid wanted() const { return wanted_; }
  zab::Channel channel() const { return own_.channel; }  // accepting: once a Hello has come
  // Appends what opens the conversation, if that is this side's part.
  void start(FrameWriter& writer, std::string& out);
  // Takes what has arrived and appends what is to be sent, also with kRefused. kDone: what is left in the reader
  // belongs to the link; both have their keys.
  Progress advance(FrameReader& reader, FrameWriter& writer, std::string& out);

  // Filled once a Hello has come; claimed until proven().
  const std::optional<Hello>& peer() const { return peer_; }
  bool proven() const { return proven_; }
  // After kRefused:
  const Judgement& judgement() const { return judgement_; }
  bool refused_by_peer() const { return refused_by_peer_; }

 private:
  enum class Step { kHello, kProof, kVerdict, kOver };

  Progress take(std::string_view payload, FrameReader& reader, FrameWriter& writer, std::string& out);
  Progress take_hello(std::string_view bytes, FrameWriter& writer, std::string& out);
  Progress take_proof(std::string_view bytes, FrameReader& reader, FrameWriter& writer, std::string& out);
  Progress take_verdict(std::string_view bytes, FrameWriter& writer, std::string& out);
  Progress refuse(Judgement judgement, FrameWriter& writer, std::string& out);
  Progress malformed(const char* what, FrameWriter& writer, std::string& out);
  std::string proof(bool of_dialer) const;
  std::string key(bool of_dialer) const;

  const Identity& self_;
  const PeerTable& table_;
  const Sid wanted_;
  Hello own_;
  std::string own_bytes_, peer_bytes_;
  std::optional<Hello> peer_;
  Step step_ = Step::kHello;
  bool proven_ = false;
  Judgement judgement_;
  bool refused_by_peer_ = false;
};

}  // namespace coord::peers
