// Client of QEMU's control protocol (QMP) over a connected stream socket.
//
//   QmpClient qmp(std::move(socket), {.on_event = …, .on_closed = …});
//   qmp.Negotiate(deadline);                                       // greeting and capabilities
//   nlohmann::json status = qmp.Execute("query-status", {}, deadline);
//
// One JSON object a line. Commands carry ids, so several threads may have one under way each. What the other side sends
// is bounded: a line longer than kMaxLine, or one that is not a QMP message, closes the connection with a reason, and
// every command under way fails with it.
//
// Threads: Execute blocks and must not be called on the I/O thread. Handlers run on the I/O thread; none runs after the
// destructor has returned.
#pragma once

#include <mayfly/deadline.h>
#include <mayfly/errors.h>
#include <mayfly/internal/unique_fd.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace mayfly::internal {

// QEMU's refusal of a command: the text is its own.
class QmpError : public Error {
 public:
  QmpError(std::string command, std::string description);
  const char* kind() const noexcept override { return "QmpError"; }
  const std::string& description() const { return description_; }

 private:
  std::string description_;
};

struct QmpCommand {
  std::string name;
  nlohmann::json arguments{};  // null: none
};

class QmpClient {
 public:
  static constexpr size_t kMaxLine = size_t{16} << 20;

  struct Handlers {
    std::function<void(const std::string& name, const nlohmann::json& data)> on_event{};
    // Once, when the connection ends: in order, when QEMU closed it between two messages, else because of what it sent
    // ("QEMU sent no QMP message: 'xyz'").
    std::function<void(bool in_order, const std::string& reason)> on_closed{};
  };

  // `received`: what was read from the socket before it came here.
  QmpClient(UniqueFd socket, Handlers handlers, std::string received = {});
  ~QmpClient();
  QmpClient(const QmpClient&) = delete;
  QmpClient& operator=(const QmpClient&) = delete;

  // Reads the greeting and leaves negotiation mode; returns the greeting's "QMP" object. Throws VmmDied, Timeout.
  nlohmann::json Negotiate(Deadline deadline);

  // The same and then the commands, all sent at once, so that a QEMU that is still starting has read them by the time
  // it can act on them: it reads a byte at a time. Returns when the last one was answered; throws as Execute does.
  void NegotiateAndExecute(const std::vector<QmpCommand>& commands, Deadline deadline);

  // Sends a command and returns its "return" value. `arguments` null: none. Throws QmpError when QEMU refuses it,
  // VmmDied when the connection ends first, Timeout. `descriptor` goes along, for getfd.
  nlohmann::json Execute(const std::string& command, const nlohmann::json& arguments, Deadline deadline,
                         UniqueFd descriptor = {});

  // Takes the socket back, for another client of it; handlers are not called any more. No command may be under way.
  struct Released {
    UniqueFd socket{};
    std::string received{};  // the beginning of a line
  };
  Released Release();

  // Reads what has arrived, without waiting, and hands it to the handlers. For the I/O thread only.
  void Drain();

 private:
  class Connection;
  struct Pending;
  Pending Ask(const QmpCommand& command, UniqueFd descriptor = {});
  nlohmann::json Await(const Pending& pending, Deadline deadline);
  std::shared_ptr<Connection> connection_;
};

}  // namespace mayfly::internal
