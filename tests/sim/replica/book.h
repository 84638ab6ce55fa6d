// What the replicas wrote into their logs, all of it, noted outside of them: with it a judge knows the committed
// history without asking the trees. A store that notes is put around the one that the simulator gives each replica.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "replica/store/store.h"

namespace coord::sim {

class Book {
 public:
  explicit Book(std::function<void(int invariant, const std::string&)> wrong) : wrong_(std::move(wrong)) {}

  void appended(const store::LogEntry& entry);  // 4: what one zxid stands for is the same everywhere
  // The history that ends with `last`, ascending. What was appended and cut off again is not in it.
  std::vector<store::LogEntry> history(Zxid last) const;

 private:
  std::function<void(int, const std::string&)> wrong_;
  std::map<Zxid, store::LogEntry> entries_;
};

class NotingStore final : public store::Store {
 public:
  NotingStore(std::unique_ptr<store::Store> inner, Book& book) : inner_(std::move(inner)), book_(book) {}

  const store::Meta& meta() const override { return inner_->meta(); }
  Result<bool, Fault> load_tree(const OnNode& node, const OnSession& session, const OnCounters& counters) override {
    return inner_->load_tree(node, session, counters);
  }
  Result<bool, Fault> read_log(Zxid after, const std::function<void(store::LogEntry)>& on_entry) override {
    return inner_->read_log(after, on_entry);
  }
  void read_log_later(Zxid after, Zxid up_to, std::size_t max_bytes,
                      std::function<void(std::vector<store::LogEntry>)> done) override {
    inner_->read_log_later(after, up_to, max_bytes, std::move(done));
  }
  std::unique_ptr<store::SnapshotSource> open_snapshot() override { return inner_->open_snapshot(); }
  void snapshot_begin(Zxid zxid) override { inner_->snapshot_begin(zxid); }
  void snapshot_piece(std::string bytes) override { inner_->snapshot_piece(std::move(bytes)); }
  void snapshot_end(std::function<void(Zxid)> staged) override { inner_->snapshot_end(std::move(staged)); }
  void snapshot_drop() override { inner_->snapshot_drop(); }
  void set_on_durable(std::function<void(std::uint64_t)> on_durable) override {
    inner_->set_on_durable(std::move(on_durable));
  }
  void submit(store::Batch batch) override {
    for (const store::LogEntry& entry : batch.append) book_.appended(entry);
    inner_->submit(std::move(batch));
  }
  store::Space space() const override { return inner_->space(); }
  store::Counters counters() const override { return inner_->counters(); }
  void set_on_space(std::function<void(bool)> on_space) override { inner_->set_on_space(std::move(on_space)); }

 private:
  std::unique_ptr<store::Store> inner_;
  Book& book_;
};

}  // namespace coord::sim
