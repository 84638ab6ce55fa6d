#include "tests/replica/store/power_cut_history.h"

#include <algorithm>
#include <utility>

namespace coord::store::power_cut {

namespace {

using Log = std::vector<LogEntry>;

std::string number(std::uint64_t n) { return std::to_string(n); }

std::vector<Zxid> epoch_ends(const Log& log) {
  std::vector<Zxid> ends;
  for (const LogEntry& entry : log) {
    if (ends.empty() || ends.back().epoch() != entry.zxid.epoch()) ends.emplace_back();
    ends.back() = entry.zxid;
  }
  return ends;
}

bool is_tree(const Contents& found, const Tree& tree) {
  return found.meta.tree_durable == tree.at && found.counters == tree.counters && found.nodes == tree.nodes &&
         found.sessions == tree.sessions;
}

std::string judge_meta(const Meta& meta, const Log& log) {
  if (meta.damaged) return "it says that it was damaged";
  if (meta.log_floor > meta.tree_durable) return "the log begins above the tree, at " + to_string(meta.log_floor);
  if (meta.tree_durable > meta.commit_hint || meta.commit_hint > meta.last_logged) return "positions contradict";
  if (meta.last_logged != (log.empty() ? meta.tree_durable : log.back().zxid)) return "last_logged is not the log's";
  if (meta.epoch_ends != epoch_ends(log)) return "epoch_ends are not the log's";
  return "";
}

}  // namespace

History::History() {
  Step step;
  step.log = std::make_shared<Log>();
  step.tree = std::make_shared<Tree>();
  steps_.push_back(std::move(step));
}

History::History(const Contents& contents) : directory_id(contents.meta.directory_id) {
  const Meta& meta = contents.meta;
  Step step;
  step.log = std::make_shared<Log>(contents.log);
  step.floor = meta.log_floor;
  step.last = meta.last_logged;
  step.epochs = meta.epochs;
  step.identity = {meta.cluster_id, meta.secret};
  step.hint = meta.commit_hint;
  step.tree = std::make_shared<Tree>(Tree{meta.tree_durable, contents.nodes, contents.sessions, contents.counters});
  steps_.push_back(std::move(step));
}

void History::add(const Batch& batch, const std::shared_ptr<const Tree>& staged) {
  Step step = steps_.back();
  step.forces = batch.append.empty() && !batch.install_snapshot && !batch.identity && !batch.truncate_after &&
                !batch.epochs && !batch.commit_hint && !batch.fold;
  if (batch.install_snapshot) {
    step.log = std::make_shared<Log>();
    step.tree = staged;
    step.tree_least = steps_.size();
    step.floor = step.last = step.hint = staged->at;
  }
  if (batch.truncate_after || !batch.append.empty()) {
    Log log = *step.log;
    while (batch.truncate_after && !log.empty() && log.back().zxid > *batch.truncate_after) log.pop_back();
    log.insert(log.end(), batch.append.begin(), batch.append.end());
    step.last = log.empty() ? step.floor : log.back().zxid;
    step.log = std::make_shared<Log>(std::move(log));
  }
  if (batch.epochs) step.epochs = *batch.epochs;
  if (batch.identity) step.identity = *batch.identity;
  if (batch.commit_hint) step.hint = std::max(step.hint, *batch.commit_hint);
  if (batch.fold) {
    Tree tree = *step.tree;
    tree.at = batch.fold->tree_durable;
    tree.counters = batch.fold->counters;
    for (const auto& [id, body] : batch.fold->nodes) {
      tree.nodes.erase(id.value);
      if (body) tree.nodes[id.value] = *body;
    }
    for (const auto& [id, body] : batch.fold->sessions) {
      tree.sessions.erase(id.value);
      if (body) tree.sessions[id.value] = *body;
    }
    step.hint = std::max(step.hint, tree.at);
    step.tree = std::make_shared<Tree>(std::move(tree));
  }
  steps_.push_back(std::move(step));
}

// Of all but tree and hint, which may lag. Empty: none.
std::string History::difference(const Contents& found, const Step& step) {
  const Meta& meta = found.meta;
  const Log& log = *step.log;
  const auto epochs = [](const Epochs& e) {
    return number(e.accepted) + " of " + number(e.accepted_from.value) + ", " + number(e.current);
  };
  if (meta.epochs.accepted != step.epochs.accepted || meta.epochs.current != step.epochs.current ||
      meta.epochs.accepted_from != step.epochs.accepted_from) {
    return "epochs are " + epochs(meta.epochs) + ", not " + epochs(step.epochs);
  }
  if (meta.cluster_id != step.identity.cluster_id || meta.secret != step.identity.secret) return "another identity";
  if (meta.last_logged != step.last) {
    return "the log ends at " + to_string(meta.last_logged) + ", not at " + to_string(step.last);
  }
  if (meta.log_floor < step.floor) return "the log begins below " + to_string(step.floor);
  const auto kept = std::find_if(log.begin(), log.end(), [&](const LogEntry& e) { return e.zxid > meta.log_floor; });
  const auto count = static_cast<std::size_t>(log.end() - kept);
  if (count != found.log.size()) return "the log has " + number(found.log.size()) + " entries, not " + number(count);
  for (std::size_t i = 0; i < count; ++i) {
    const LogEntry& want = kept[static_cast<std::ptrdiff_t>(i)];
    if (found.log[i].zxid != want.zxid) return "the log lacks " + to_string(want.zxid);
    if (*found.log[i].payload != *want.payload) return "another payload at " + to_string(want.zxid);
  }
  return "";
}

std::string History::judge(const Contents& found, std::size_t acked, std::size_t submitted) const {
  if (!directory_id.empty() && found.meta.directory_id != directory_id) return "it is another directory";
  if (const std::string wrong = judge_meta(found.meta, found.log); !wrong.empty()) return wrong;
  for (std::size_t n = submitted + 1; n-- > acked;) {
    if (difference(found, steps_[n]).empty()) return judge_tree(found, acked, n);
  }
  for (std::size_t n = 0; n < acked; ++n) {
    if (difference(found, steps_[n]).empty()) {
      return "batches " + number(n + 1) + " to " + number(acked) + " are missing, which were reported durable";
    }
  }
  std::string wrong = "it is none of the states it may be in; after batch " + number(acked) +
                      ", which was the last reported durable: " + difference(found, steps_[acked]);
  if (submitted > acked) wrong += "; after batch " + number(submitted) + ": " + difference(found, steps_[submitted]);
  return wrong;
}

// Log, epochs and identity are those after batch `present`: tree and hint are of then or of before.
std::string History::judge_tree(const Contents& found, std::size_t acked, std::size_t present) const {
  std::size_t least = acked;
  while (least > 0 && !steps_[least].forces) --least;
  least = std::max(least, steps_[present].tree_least);
  if (found.meta.commit_hint > steps_[present].hint || found.meta.commit_hint < steps_[least].hint) {
    return "the hint is " + to_string(found.meta.commit_hint) + ", not within " + to_string(steps_[least].hint) +
           " and " + to_string(steps_[present].hint);
  }
  for (std::size_t n = present + 1; n-- > least;) {
    if (is_tree(found, *steps_[n].tree)) return "";
  }
  return "the log is that after batch " + number(present) + ", and the tree, of " +
         to_string(found.meta.tree_durable) + " with " + number(found.nodes.size()) +
         " nodes, none of those after batches " + number(least) + " to " + number(present);
}

}  // namespace coord::store::power_cut
