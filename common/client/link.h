// One connection of the client: finds the address, connects, frames what comes, writes what it is given. Asio lives
// here and in client.cc only. Everything on the I/O thread; callbacks to the Owner come from there.
#pragma once

#include <atomic>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/client/client.h"

namespace coord::client {

class Link {
 public:
  class Owner {
   public:
    virtual void link_connected() = 0;
    virtual void link_frame(std::string_view payload) = 0;  // may call close()
    virtual void link_received() = 0;                       // bytes came; all whole frames in them have been given
    virtual void link_written() = 0;                        // the last write() is done
    // Exactly once, as the last call: `written` bytes were handed to the operating system in all.
    virtual void link_closed(const std::string& why, std::uint64_t written) = 0;

   protected:
    ~Owner() = default;
  };

  // `resolving` counts the name look-ups under way, over all links of a client: the C library's cannot be cancelled.
  Link(boost::asio::io_context& io, Owner& owner, std::shared_ptr<std::atomic<int>> resolving);
  ~Link();  // after link_closed only
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  // `attempt`: which of several addresses of a name to begin with.
  void open(const Server& server, unsigned attempt);
  bool writing() const { return writing_; }
  bool closing() const { return closing_; }
  // Takes the bytes out of `batch` and leaves an empty string, with memory to reuse. Not while writing() or closing().
  void write(std::string& batch);
  // Ends it; link_closed follows, never from within this call. `why` of the first call counts.
  void close(std::string why);

 private:
  using Protocol = boost::asio::generic::stream_protocol;
  struct Resolution;

  void resolve(const Server& server);
  void connect_next(std::size_t tried);
  void connected();
  void read();
  bool parse();
  void make_room();
  void begin_operation() { ++operations_; }
  void end_operation();

  boost::asio::io_context& io_;
  Owner& owner_;
  std::shared_ptr<std::atomic<int>> resolving_;
  std::shared_ptr<Resolution> resolution_;
  Protocol::socket socket_;
  std::vector<Protocol::endpoint> endpoints_;
  unsigned attempt_ = 0;
  bool tcp_ = false;

  int operations_ = 0;  // handlers still to come
  bool writing_ = false;
  bool closing_ = false;
  std::string why_;
  std::string error_;  // of the last address tried

  std::string out_;
  std::uint64_t written_ = 0;
  std::string in_;
  std::size_t in_begin_ = 0;  // unparsed bytes are [in_begin_, in_end_) of in_
  std::size_t in_end_ = 0;
};

}  // namespace coord::client
