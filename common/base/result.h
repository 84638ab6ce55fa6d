// Result<T>: a value or an error code. The error value type of the whole project; exceptions do not cross a header.
// `Fault` is the error type at the edges (configuration, storage, start-up), where a person reads the message.
#pragma once

#include <string>
#include <tl/expected.hpp>
#include <utility>

#include "common/base/error.h"

namespace coord {

template <class T, class E = Err>
class [[nodiscard]] Result : public tl::expected<T, E> {
 public:
  using tl::expected<T, E>::expected;
};

template <class E>
inline tl::unexpected<std::decay_t<E>> fail(E&& e) {
  return tl::unexpected<std::decay_t<E>>(std::forward<E>(e));
}

// What went wrong and what to do about it, in one line for a person.
struct Fault {
  std::string message;
  bool no_room = false;  // nothing is wrong but that a disk is full: another way will not help
};

}  // namespace coord
