// A client session against a server that says anything: arbitrary frames, connections that break after any number of
// bytes, deadlines. No crash; what is written is a sequence of whole frames; and every request ends exactly once.
#include <memory>
#include <vector>

#include "common/client/session.h"
#include "tests/fuzz/input.h"

namespace coord::client {
namespace {

using fuzz::Input;
using wire::Op;

constexpr int kStepsMax = 500;

class Run {
 public:
  explicit Run(Input& in) : in_(in), session_(settings_from(in)) {}

  void run() {
    for (int n = 0; n < kStepsMax && !in_.empty(); ++n) step();
    std::vector<Finished> finished;
    session_.end(Err::kSessionExpired, finished);
    take(finished);
    COORD_CHECK_MSG(session_.pending() == 0, "requests left after the end");
    for (const int ended : ended_) COORD_CHECK_MSG(ended == 1, "a request that has not ended once");
  }

 private:
  static Session::Settings settings_from(Input& in) {
    const std::uint8_t bits = in.byte();
    Session::Settings settings;
    settings.renew = (bits & 1) == 0;
    settings.rearm_watches = (bits & 2) == 0;
    settings.hold_after_connect = (bits & 4) != 0;
    if ((bits & 8) != 0) settings.session = in.number();
    if ((bits & 16) != 0) settings.password = in.piece();
    if ((bits & 32) != 0) settings.last_xid = 0x7ffffffe;
    return settings;
  }

  void step() {
    const std::uint8_t kind = in_.byte();
    now_ += Millis(kind % 5);
    if (kind < 60) return submit();
    if (kind < 100) return output();
    if (kind < 130) return connect();
    if (kind < 180) return answer();
    if (kind < 200) return receive(in_.piece());
    if (kind < 210) return handshake(in_.piece());
    if (kind < 225) return disconnect();
    if (kind < 235) return session_.release();
    now_ += Millis(in_.integer<std::uint16_t>());
    std::vector<Finished> finished;
    session_.expire_deadlines(now_, finished);
    take(finished);
    static_cast<void>(session_.dead(now_));
    COORD_CHECK_MSG(session_.next_wakeup() > Instant() || !session_.established(), "a wake-up before all time");
  }

  void submit() {
    static constexpr Op kOps[] = {Op::kGetData,  Op::kCreate,        Op::kAuth,
                                  Op::kAddWatch, Op::kRemoveWatches, Op::kCreateNode};
    Request request;
    request.op = in_.pick(kOps);
    const std::uint8_t bits = in_.byte();
    request.how.resend = (bits & 1) != 0;
    request.how.first = (bits & 2) != 0;
    request.how.watch = static_cast<Submit::Watch>((bits >> 2) & 3);
    request.how.watch_path = in_.piece();
    request.how.deadline = Millis((bits & 16) != 0 ? in_.number() : 5000);
    request.body = in_.piece();
    const std::size_t number = ended_.size();
    ended_.push_back(0);
    request.done = [this, number](const Reply&) { ++ended_[number]; };
    std::vector<Finished> finished;
    session_.submit(std::move(request), now_, finished);
    take(finished);
  }

  static void take(std::vector<Finished>& finished) {
    for (Finished& one : finished) {
      COORD_CHECK_MSG(one.done != nullptr, "a request without its completion");
      one.done(Reply{one.err, 0, {}, one.sent});
    }
  }

  // What stands in `bytes` is whole frames; remembers their xids, to answer them.
  void check_frames(std::string_view bytes, bool connect_request) {
    while (!bytes.empty()) {
      wire::Reader r(bytes);
      const auto frame = r.buffer();
      COORD_CHECK_MSG(!r.failed() && frame.has_value(), "half a frame");
      if (!connect_request) {
        wire::Reader header(*frame);
        const std::int32_t xid = header.i32();
        static_cast<void>(header.i32());
        COORD_CHECK_MSG(!header.failed(), "a frame without a header");
        if (xid != wire::xid::kPing) xids_.push_back(xid);
      }
      bytes = r.rest();
    }
  }

  void output() {
    std::string out;
    session_.take_output(out, now_);
    COORD_CHECK_MSG(connected_ || out.empty(), "bytes for a connection that is not there");
    check_frames(out, false);
    written_ += out.size();
  }

  void connect() {
    if (connected_) disconnect();
    std::string out;
    session_.begin_connection(out);
    check_frames(out, true);
    written_ = out.size();
    xids_.clear();
    connected_ = true;
    wire::ConnectResponse response;
    response.timeout_ms = in_.number32() & 0xffff;
    response.session = session_.id() != 0 ? session_.id() : 1 + in_.byte();
    std::string payload;
    wire::Writer w(payload);
    write(w, response);
    handshake(payload);
  }

  // As the shell does: once on each connection, and not at all after the end.
  void handshake(std::string_view payload) {
    if (!connected_ || session_.established() || session_.ended()) return;
    std::vector<Finished> finished;
    const Session::Handshake result = session_.handshake(payload, now_, finished);
    take(finished);
    if (result == Session::Handshake::kExpired || result == Session::Handshake::kRefused) disconnect();
  }

  // A reply to the oldest request, or to any other.
  void answer() {
    if (xids_.empty()) return;
    const std::size_t which = in_.flag() ? 0 : in_.below(xids_.size());
    static constexpr Err kErrs[] = {Err::kOk, Err::kOk, Err::kNoNode, Err::kAuthFailed};
    std::string payload;
    wire::Writer w(payload);
    write(w, wire::ReplyHeader{xids_[which], in_.number(), in_.pick(kErrs)});
    w.raw(in_.piece());
    xids_.erase(xids_.begin() + static_cast<std::ptrdiff_t>(which));
    receive(payload);
  }

  void receive(std::string_view payload) {
    if (!session_.established()) return;
    Incoming in = session_.receive(payload, now_);
    if (in.kind == Incoming::Kind::kReply) {
      COORD_CHECK_MSG(in.done != nullptr, "a reply without its completion");
      in.done(in.reply);
    }
    if (in.kind == Incoming::Kind::kBroken) disconnect();
  }

  void disconnect() {
    std::vector<Finished> finished;
    session_.disconnected(written_ == 0 ? 0 : in_.integer<std::uint16_t>() % (written_ + 1), finished);
    take(finished);
    connected_ = false;
  }

  Input& in_;
  Session session_;
  Instant now_ = Instant() + std::chrono::hours(1);
  std::uint64_t written_ = 0;
  bool connected_ = false;
  std::vector<std::int32_t> xids_;
  std::vector<int> ended_;
};

}  // namespace
}  // namespace coord::client

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  coord::fuzz::Input input(data, size);
  coord::client::Run(input).run();
  return 0;
}
