// Asio's side of loop.h; only for the .cc files of this folder.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <list>
#include <memory>
#include <thread>

#include "replica/net/loop.h"

namespace coord::net {

struct Loop::Impl {
  boost::asio::io_context context{1};
  std::list<std::unique_ptr<boost::asio::steady_timer>> timers;
  std::unique_ptr<boost::asio::signal_set> signals;
  std::atomic<std::thread::id> thread{};
};

}  // namespace coord::net
