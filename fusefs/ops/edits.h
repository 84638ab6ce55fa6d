// What one host has written to one node since its last commit, as operations and not as content, so that a commit can
// apply them to whatever the data is by then: appends and partial writes of two hosts both survive (filesystem.md
// section 4). Pure; no locking, the caller serialises.
//
// After replace_all() (O_TRUNC) or truncate(0) the content is known and earlier edits are gone. Until then the edits
// are relative to a base: an append lands at the end of the base that apply() is given, not of the one that was there
// when it was written.
//
// Limits: no operation is accepted that would make the data longer than `size_max`, or the kept edits longer than
// kEditBytesFactor * size_max bytes or kEditLayersMax alternations of write, append and truncate. A refused operation
// changes nothing and returns false: EFBIG.
//
// A commit:  Edits flight = edits.take();  send flight.apply(base);
//   done:      nothing more to do; what was written meanwhile is in `edits`, relative to the new data;
//   conflict:  base = the current data; send flight.apply(base) again;
//   failed:    edits.put_back(std::move(flight)), so that newer writes stay on top of the older ones.
// While it is in flight the pending content is edits.apply(flight.apply(base)), and its size
// edits.size(flight.size(base size)).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace coord::fs {

inline constexpr std::size_t kEditLayersMax = 4096;
inline constexpr std::size_t kEditBytesFactor = 8;

class Edits {
 public:
  explicit Edits(std::size_t size_max) : size_max_(size_max) {}

  // The content becomes empty, whatever the base is (O_TRUNC).
  void replace_all();

  // ftruncate: cuts, or extends with zero bytes.
  [[nodiscard]] bool truncate(std::uint64_t size);

  // fallocate: at least so long, with zero bytes at the end; longer data stays as it is.
  [[nodiscard]] bool extend(std::uint64_t size);

  // pwrite: a gap behind the end is filled with zero bytes. Writing nothing changes nothing, as in POSIX.
  [[nodiscard]] bool write(std::uint64_t offset, std::string_view bytes);

  // O_APPEND. `base_size`: the size of the data that these edits are relative to, as known now (with edits in flight:
  // their size); only for the limit.
  [[nodiscard]] bool append(std::string_view bytes, std::size_t base_size);

  // The edits applied to `base`. May be longer than size_max if another host made the base longer meanwhile: see
  // fits().
  std::string apply(std::string_view base) const;
  std::size_t size(std::size_t base_size) const;
  bool fits(std::size_t base_size) const { return size(base_size) <= size_max_; }

  // At most `count` bytes at `offset` of apply(base); empty at and behind the end.
  std::string read(std::string_view base, std::uint64_t offset, std::size_t count) const;

  // True if apply() is the identity because nothing was done. Note that an O_TRUNC of empty data is not empty.
  bool empty() const { return !replaced_ && layers_.empty(); }

  // True if the result does not depend on the base: it need not be fetched.
  bool replaces_all() const { return replaced_; }

  // Hands out all edits and leaves this empty.
  Edits take();

  // Puts edits that were taken, and that did not come to pass, below the ones made since.
  void put_back(Edits&& older);

  std::size_t size_max() const { return size_max_; }

 private:
  // One layer is applied as: cut or extend to `resize`, extend to `at_least`, then the extents, then the append.
  struct Layer {
    bool has_resize = false;
    std::size_t resize = 0;
    std::size_t at_least = 0;
    std::map<std::size_t, std::string> extents;  // by offset; neither overlap nor touch; never empty strings
    std::string appended;
  };

  std::size_t size_after(const Layer& layer, std::size_t base_size) const;
  void apply_to(const Layer& layer, std::string& data) const;
  std::size_t merge_extent(Layer& layer, std::size_t offset, std::string_view bytes);
  bool room(std::size_t bytes, bool new_layer) const;

  std::size_t size_max_;
  bool replaced_ = false;      // content_ is everything; layers_ is empty
  std::string content_;
  std::vector<Layer> layers_;  // oldest first
  std::size_t kept_bytes_ = 0;  // in layers_
};

}  // namespace coord::fs
