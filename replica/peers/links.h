// The connections to the other replicas as the driver sees them. The real thing is transport.h (Asio, TLS or a shared
// secret); the simulator has its own.
//
// Threading: everything on the core thread (its executor), the calls as well as the callbacks. No callback comes inside
// a call of Links. After close(link) nothing comes from that link any more, LinkDown neither.
//
// Order: messages of one link arrive in the order of send, or not at all (then everything behind them neither, and
// on_down follows).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/model/ids.h"
#include "replica/zab/message.h"
#include "replica/zab/peer.h"

namespace coord::peers {

struct PeerAddress {
  std::string host;        // a name or a numeric address
  std::uint16_t port = 0;
  bool observer = false;
};

class LinksUser {
 public:
  virtual ~LinksUser() = default;
  virtual void link_up(zab::LinkId link, zab::Channel channel, Sid peer, bool dialed) = 0;
  virtual void link_down(zab::LinkId link, const std::string& why) = 0;
  virtual void dial_failed(std::uint64_t number, Sid peer, const std::string& why) = 0;
  virtual void received(zab::LinkId link, std::vector<zab::Message> messages) = 0;  // what one read brought
  // A part of a message that is not whole yet, or nothing but a sign of life: its peer is there.
  virtual void heard(zab::LinkId link) = 0;
  // A link with fewer than the low-water mark of bytes unsent, after send said it was above the high one.
  virtual void writable(zab::LinkId link) = 0;
  // Somebody was refused or refused us: one line with name, address, reason and remedy, for the status; the transport
  // has logged it already (at most once per cause and minute). Empty text: that cause is over.
  virtual void trouble(Sid peer, const std::string& text) = 0;
};

class Links {
 public:
  virtual ~Links() = default;
  virtual void start(LinksUser& user) = 0;
  virtual void stop() = 0;  // sends what is queued (bounded), closes all, accepts no more
  // Keeps election links to the members by itself: dials again with back-off, accepts (who dials: transport.h). A
  // learner link is dialed once, also to a server that has left the list.
  virtual void dial_learner(std::uint64_t number, Sid leader) = 0;
  // Returns false when more than the high-water mark is queued: a hint for bulk (snapshots, DIFF); the message was
  // taken. Bytes leave at the end of the turn (flush).
  virtual bool send(zab::LinkId link, const zab::Message& message) = 0;
  virtual void flush() = 0;
  virtual void close(zab::LinkId link, const std::string& reason) = 0;
  virtual std::size_t queued_bytes(zab::LinkId link) const = 0;
  // What is new about us, for the handshakes to come.
  virtual void set_cluster_id(const std::string& cluster_id) = 0;
  // The members as of this version, which came by the log, and the ensemble's feature level. Links to those who left or
  // have another role go on as what they are; who is dialed changes at once.
  virtual void set_members(Zxid version, std::map<Sid, PeerAddress> members) = 0;
  // Servers of lists that are logged here and not applied: dialed like members, no part of handshakes. A voter of such
  // a list may be needed to settle it.
  virtual void set_candidates(std::map<Sid, PeerAddress> candidates) = 0;
  virtual void set_feature_level(int level) = 0;
};

}  // namespace coord::peers
