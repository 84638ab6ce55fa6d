// The real links (links.h): one TCP port per server, two connections per pair of servers (election, learner), each with
// a handshake (handshake.h) before anything of the other side is believed, then frames (frame.h) with messages
// (codec.h). Asio stays behind the implementation.
//
// WHO IS BELIEVED. With TLS: who has a certificate of the given authority, whatever name is in it. Else with a secret:
// who proves to know it, and every frame carries a MAC, so that nobody in between can inject, reorder or replay. With
// both: who has both. With neither: everybody who can connect; one warning at start says so. Before that an accepted
// connection costs bounded memory for a bounded time and changes nothing.
//
// WHO DIALS. Election links: a voter those voters with a smaller id, at once, and those with a larger one when there
// has been no link to them for a while (they may not know to dial us: we may be a joiner that they do not list yet); an
// observer, and a server that is not in its own list, all voters. Names are resolved anew for each attempt, all their
// addresses tried; attempts back off from 50 ms to 2 s, with jitter. Learner links: once per dial_learner, by whoever
// wants to follow, to any server whose address the options or a list since then have told.
//
// TWO OF A PAIR. A second connection of one peer and channel, from the same data directory, replaces the first
// (link_down, then link_up): the first is half open, or of a process that has ended. But when two processes have dialed
// each other at once, both must keep the same connection: an election link that comes up ends the own dial that is
// still under way, and if both dials had come up already, the one of the larger id stays.
//
// Threading: everything on the loop's thread, the destructor included, or with the loop not running. Nothing is called
// back after stop(). A server that is in no list yet is reached where it says itself, in its handshake.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "common/base/result.h"
#include "common/model/ids.h"
#include "replica/net/loop.h"
#include "replica/peers/links.h"

namespace coord::peers {

struct TlsFiles {  // PEM; all empty: no TLS
  std::string certificate;  // of this server, with its chain
  std::string key;
  std::string authority;    // who signed the certificates of all members
  bool on() const { return !certificate.empty() || !key.empty() || !authority.empty(); }
};

struct TransportOptions {
  Sid self;
  std::string listen_address;       // empty: all addresses of this host
  std::uint16_t listen_port = 0;    // 0: chosen by the kernel, see port()
  std::map<Sid, PeerAddress> members;  // this server included, if they are as a file says
  Zxid members_version;             // 0: as a file says
  int feature_level = 1;            // the ensemble's, as far as it is known here
  int feature_level_known = 1;      // what this program knows, or may use
  std::string secret;               // any bytes; empty: none
  TlsFiles tls;
  std::string directory_id;         // as DurableState::directory_id; may come later, set_directory_id
  std::string cluster_id;           // empty: virgin
  std::uint64_t incarnation = 0;    // random, of this start of the process

  // send() says false above the high mark; writable() comes below the low one.
  std::size_t queue_high_bytes = 1u << 20;
  std::size_t queue_low_bytes = 256u << 10;
  // A link with more than this unsent when another message comes is closed: its peer does not read. More than the log
  // on its way to a server that catches up: four chunks, of which each may be one request of 32 MiB.
  std::size_t queue_bytes_max = 192u << 20;

  using Ms = std::chrono::milliseconds;
  Ms connect_limit{1'000};          // name and TCP, all addresses together
  Ms handshake_limit{3'000};        // TLS and ours, from the connection on
  Ms redial_first{50};              // doubles up to
  Ms redial_most{2'000};
  Ms dial_larger_after{1'500};      // no election link to a voter with a larger id for so long: it is dialed as well
  Ms crossed_within{2'000};         // a link younger than this is not half open: the other side dialed at the same time
  Ms ping{1'000};                   // on election links
  Ms silence_limit{5'000};          // an election link that is silent for longer is closed
  Ms stop_limit{500};               // for what is queued to leave
  Ms trouble_lasts{15'000};         // without happening again; then trouble("")
  Ms log_again{60'000};             // the same cause is logged once in this time
};

// At most so many accepted connections whose handshake is not done: when one more comes, the oldest is closed.
inline constexpr std::size_t kStrangersMax = 64;

class Transport final : public Links {
 public:
  // Reads the TLS files and listens (nobody is accepted before start()). Fault: the key or address, the reason, the
  // remedy.
  static Result<std::unique_ptr<Transport>, Fault> open(net::Loop& loop, TransportOptions options);
  ~Transport() override;

  std::uint16_t port() const;

  // Before start().
  void set_directory_id(const std::string& directory_id);

  void start(LinksUser& user) override;
  void stop() override;
  void dial_learner(std::uint64_t number, Sid leader) override;
  bool send(zab::LinkId link, const zab::Message& message) override;
  void flush() override;
  void close(zab::LinkId link, const std::string& reason) override;
  std::size_t queued_bytes(zab::LinkId link) const override;
  void set_cluster_id(const std::string& cluster_id) override;
  // Any time, before start() as well. All links stay.
  void set_members(Zxid version, std::map<Sid, PeerAddress> members) override;
  void set_candidates(std::map<Sid, PeerAddress> candidates) override;
  void set_feature_level(int level) override;

  // Connections of any kind; 0 after stop() when all is sent and closed.
  std::size_t open_connections() const;

  class Impl;

 private:
  explicit Transport(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace coord::peers
