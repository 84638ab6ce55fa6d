// The function objects of a std::visit, one for each alternative, written where it stands:
//   std::visit(Overloaded{[](const Create& c) {...}, [](const Delete& d) {...}}, change);
#pragma once

namespace coord {

template <class... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};
template <class... Handlers>
Overloaded(Handlers...) -> Overloaded<Handlers...>;  // clang 14 does not see it by itself

}  // namespace coord
