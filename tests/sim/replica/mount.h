// A simulated mount: a client that uses the extension operations as coordfs does (common/wire/extension.h). Its
// mutating requests are numbered, several are outstanding, and after every lost connection it sends them again, under
// the same numbers, to whichever replica it finds; it gives up only when its session has expired. It loses connections
// on purpose just after a request was sent and just before an answer, and repeats requests that were answered before.
//
// Judged here: each answer against the model of what exactly-once leaves (mount_model.h); an answer that comes again
// against the first; listings. What is judged afterwards, against the log: exactly_once.h.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/wire/extension.h"
#include "tests/sim/replica/mount_model.h"
#include "tests/sim/replica/session.h"

namespace coord::sim {

class SimMount final : public SimSession {
 public:
  using SimSession::SimSession;

  bool is_mount() const override { return true; }

  // One numbered request and what its client was told of it.
  struct Entry {
    wire::Op op = wire::Op::kError;
    bool answered = false;
    Err err = Err::kOk;
    std::uint64_t mzxid = 0;           // told as the node's last change; 0: not told
    std::vector<std::uint64_t> zxids;  // of the replies, in the order of their arrival
    int sent = 0;
  };
  using Key = std::pair<std::int64_t, std::int64_t>;  // session, sequence number
  const std::map<Key, Entry>& entries() const { return entries_; }
  const std::vector<std::pair<NodeId, std::int32_t>>& blocks() const { return blocks_; }
  std::uint64_t repeated_answers() const { return repeated_answers_; }

  void settle() { working_ = false; }  // no new requests
  bool settled() const { return ready() && model_.ready() && open_.empty() && outstanding_.empty(); }
  void inspect();                      // reads everything back
  bool inspected() const { return inspecting_ && listed_ == MountModel::kDirs && outstanding_.empty(); }

 private:
  enum class Kind : std::uint8_t { kPing, kMakeBase, kFindBase, kReserve, kMutation, kReadDir, kReadNode };
  struct Sent {
    std::int32_t xid = 0;
    Kind kind = Kind::kPing;
    std::uint64_t id = 0;                 // in the history; 0: not recorded
    std::int64_t seq = 0;                 // kMutation
    std::size_t dir = 0;                  // kReadDir
    std::vector<MountModel::Node> nodes;  // what a read must show
  };
  struct Told {
    Err err = Err::kOk;
    std::string body;
  };
  struct Mutation {
    wire::Op op = wire::Op::kError;
    std::string body;
    Expected expected;
    std::optional<std::size_t> makes_dir;
    std::optional<Told> first;  // what a reply said that the mount did not take, or took already
  };

  void opened(bool fresh) override;
  void ended() override;
  void dropped() override;
  void frame(const wire::ReplyHeader& header, wire::Reader& in) override;
  void ping() override;
  void think() override;

  void begin();
  void make_base();
  void base_found(const wire::ReplyHeader& header, wire::Reader& in);
  void act();
  void act_on(const MountModel::Node& node);
  void create();
  void reserve();
  void make_dir(std::size_t which);
  void set(NodeId node, std::int32_t version);
  void remove(NodeId node);
  void rename(NodeId node, std::size_t dir, const std::string& name, std::uint32_t flags);
  void read_dir(std::size_t which);
  void read_node(const MountModel::Node& node);
  void repeat_old();

  std::int64_t acked_below() const;
  template <class Body>
  void submit(wire::Op op, Body body, Expected expected, std::optional<std::size_t> makes_dir = std::nullopt);
  void transmit(std::int64_t seq, const Mutation& mutation);
  void ask(Sent sent, wire::Op op, const std::function<void(wire::Writer&)>& body);
  void answered(const Sent& sent, const wire::ReplyHeader& header, const std::string& body);
  void mutation_answered(std::int64_t seq, const wire::ReplyHeader& header, const std::string& body);
  void compare(std::int64_t seq, const Mutation& mutation, const Told& told);
  void listing(const Sent& sent, const wire::ReplyHeader& header, wire::Reader& in);
  void event(wire::Reader& in);
  std::string text(std::int64_t seq, const Mutation& mutation) const;
  NodeId next_id();
  std::string token() { return "t" + std::to_string(number_) + "." + std::to_string(next_token_++); }

  bool working_ = true;
  bool inspecting_ = false;
  std::size_t listed_ = 0;
  std::uint64_t ordinal_ = 0;  // of the session
  NodeId base_;                // the directory of all mounts
  std::int64_t begun_ = 0;     // the session that has begun to work
  std::uint64_t next_token_ = 1;
  std::int64_t next_seq_ = 1;  // never used again, also not in a later session
  MountModel model_;
  std::map<std::int64_t, Mutation> open_;  // not answered
  std::map<std::int64_t, Mutation> kept_;  // answered, and not acknowledged
  std::deque<Sent> outstanding_;           // on this connection
  NodeId block_next_, block_end_;
  std::map<Key, Entry> entries_;
  std::map<std::int64_t, std::int64_t> event_zxids_;  // by own sequence number, of this session
  std::int64_t last_event_zxid_ = 0;                  // of this connection
  std::vector<std::pair<NodeId, std::int32_t>> blocks_;
  std::uint64_t repeated_answers_ = 0;
};

}  // namespace coord::sim
