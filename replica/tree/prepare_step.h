// Internal to prepare*.cc: the state of preparing one request, and the parts by subject. A part returns the code of a
// refusal, with nothing projected, or appends its changes to `changes` and projects them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "replica/tree/overlay.h"
#include "replica/tree/state_machine.h"
#include "replica/tree/txn.h"

namespace coord::tree {

inline constexpr std::int64_t kTtlMax = (std::int64_t{1} << 40) - 1;  // ms
inline constexpr std::uint32_t kSequenceMax = 0x7fffffff;
inline constexpr std::int32_t kReserveIdsMax = 65536;

// One operation of the ZooKeeper protocol that a multi may hold, or setACL, decoded; views point into the body.
struct StockOp {
  wire::Op op = wire::Op::kError;
  std::string_view path;
  std::optional<std::string_view> data;
  Acl acl;  // null counts as empty: both are refused
  std::int32_t flags = 0;
  std::int64_t ttl_ms = -1;  // kCreateTtl only
  std::int32_t version = -1;
};

// False: the body does not decode. `op` must be one that is_stock_mutation() knows.
bool decode_stock(wire::Op op, wire::Reader& reader, StockOp& out);
bool is_stock_mutation(wire::Op op);  // create*, delete, setData, setACL
bool is_create(wire::Op op);

class Step {
 public:
  Step(const DataTree& tree, const Limits& limits, const Electorate& electorate, Overlay& overlay,
       const Request& request, TimeMs now, bool writes_refused)
      : tree_(tree),
        limits_(limits),
        electorate_(electorate),
        overlay_(overlay),
        request_(request),
        now_(now),
        writes_refused_(writes_refused) {}

  Txn run();

 private:
  // prepare.cc: dispatch, sessions, internal operations
  Err dispatch();
  Err check_session() const;
  Err create_session();
  Err close_session();
  Err delete_container();
  Err enrol();
  Err reserve_ids();

  // prepare_members.cc: who is a member, and what all of them know
  Err reconfig();
  Err first_members(std::string_view list);
  Err feature_level();
  Err level_known_to_all(std::int32_t level) const;
  bool is_internal() const { return request_.session == SessionId{}; }                // of the leader itself
  bool is_root() const { return request_.trusted && request_.credentials.uid == 0; }  // on a replica's socket
  std::map<Sid, std::string> joining_directories(const std::vector<Member>& next) const;
  bool synced_majority(const ReconfigTxn& change) const;

  // prepare_stock.cc
  Err stock(const StockOp& op);
  Err create(const StockOp& op);
  Err remove(const StockOp& op);
  Err set_data(const StockOp& op);
  Err set_acl(const StockOp& op);
  Err check(const StockOp& op);

  // prepare_multi.cc
  Err multi();

  // prepare_extension.cc
  Err extension();
  template <class Body>
  Err mutation(Err (Step::*part)(const Body&));
  Err open_window(const wire::MutationHeader& header);
  Err create_node(const wire::CreateNodeRequest& r);
  Err fill_null(const wire::CreateNodeRequest& r, const Overlay::View& parent, const Overlay::View& node);
  Err set_node_data(const wire::SetNodeDataRequest& r);
  static bool is_at(const Overlay::View& node, const wire::NodePlace& at);
  Err delete_node(const wire::DeleteNodeRequest& r);
  Err set_attributes(const wire::SetAttributesRequest& r);
  Err may_remove(const Overlay::View& parent, const Overlay::View& node) const;

  // prepare_rename.cc
  Err rename(const wire::RenameRequest& r);
  Err rename_exchange(const Overlay::View& source, const Overlay::View& target);
  Err rename_onto_file(const wire::RenameRequest& r, const Overlay::View& source, const Overlay::View& parent,
                       const Overlay::View& target);
  Err rename_to_free_name(const wire::RenameRequest& r, const Overlay::View& source, const Overlay::View& parent);
  Err rename_instead_of(const wire::RenameRequest& r, const Overlay::View& source, const Overlay::View& parent,
                        const Overlay::View& target);

  // prepare_rules.cc: what several parts need
  bool may(const Overlay::View& node, std::int32_t perms) const;       // stock
  bool unix_may(const Overlay::View& node, std::int32_t perms) const;  // extension, as who_
  bool unix_search(const Overlay::View& node) const;
  bool is_owner(const Overlay::View& node) const;
  // Quota and disk: -125 (extension: kNoSpace for the disk).
  Err room_for_create(const Overlay::View& parent, std::string_view name, std::size_t bytes) const;
  Err room_for_data(const Overlay::View& node, std::size_t bytes) const;
  Err room_for_move(NodeId source, const Overlay::View& new_parent, std::string_view new_name,
                    const Overlay::Subtree& moved) const;
  Err no_space() const;
  Err quota(std::string_view path, std::int64_t count, std::int64_t bytes) const;
  // The first child of an empty file that a client made: it becomes a directory (filesystem.md section 2).
  static bool becomes_dir(const Overlay::View& parent);
  static std::uint32_t next_creates(const Overlay::View& parent);
  static std::int32_t next_version(std::int32_t version);
  Err check_ttl(wire::CreateMode mode, std::int64_t ttl_ms, bool has_ttl) const;

  // Append and project.
  void emit(CreateTxn change, bool from_client);
  void emit(DeleteTxn change);
  void emit(SetDataTxn change);
  void emit(SetAclTxn change);
  void emit(SetAttributesTxn change);
  void emit(MoveTxn change);
  void emit(ExchangeTxn change);

  const DataTree& tree_;
  const Limits& limits_;
  const Electorate& electorate_;
  Overlay& overlay_;
  const Request& request_;
  const TimeMs now_;
  const bool writes_refused_;
  bool is_extension_ = false;
  Credentials who_;  // of an extension mutation
  Txn txn_;
};

// Does a mode make a sequential, ephemeral or TTL node?
constexpr bool is_sequential(wire::CreateMode m) {
  return m == wire::CreateMode::kPersistentSequential || m == wire::CreateMode::kEphemeralSequential ||
         m == wire::CreateMode::kTtlSequential;
}
constexpr bool is_ephemeral(wire::CreateMode m) {
  return m == wire::CreateMode::kEphemeral || m == wire::CreateMode::kEphemeralSequential;
}
constexpr bool is_ttl(wire::CreateMode m) {
  return m == wire::CreateMode::kTtl || m == wire::CreateMode::kTtlSequential;
}

// "%010d" of the parent's counter, appended.
void append_sequence(std::string& name, std::uint32_t creates);

}  // namespace coord::tree
