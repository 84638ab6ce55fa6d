// The links of an ensemble of one: none.
#pragma once

#include <map>
#include <string>

#include "replica/peers/links.h"

namespace coord::runtime {

class NoLinks final : public peers::Links {
 public:
  void start(peers::LinksUser&) override {}
  void stop() override {}
  void dial_learner(std::uint64_t, Sid) override {}
  bool send(zab::LinkId, const zab::Message&) override { return true; }
  void flush() override {}
  void close(zab::LinkId, const std::string&) override {}
  std::size_t queued_bytes(zab::LinkId) const override { return 0; }
  void set_cluster_id(const std::string&) override {}
  void set_members(Zxid, std::map<Sid, peers::PeerAddress>) override {}
  void set_candidates(std::map<Sid, peers::PeerAddress>) override {}
  void set_feature_level(int) override {}
};

}  // namespace coord::runtime
