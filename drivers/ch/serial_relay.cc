#include "drivers/ch/serial_relay.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/io_thread.h>
#include <mayfly/internal/unique_fd.h>
#include <mayfly/internal/unix_listener.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cerrno>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace mayfly::ch {
namespace {

using boost::asio::posix::stream_descriptor;
using internal::RunOnIoThread;
using internal::UniqueFd;

constexpr size_t kMostWaiting = size_t{64} << 10;

// A pseudo-terminal that passes bytes on as they are.
struct Terminal {
  UniqueFd ours{};
  UniqueFd theirs{};  // held open: without it there is nothing to write to until somebody opens it
  std::string path{};
};

[[noreturn]] void ThrowNoTerminal() {
  throw HostLacks({.summary = fmt::format("cannot make a pseudo-terminal: {}", std::generic_category().message(errno)),
                   .next_step = "mount devpts on /dev/pts"});
}

Terminal MakeTerminal() {
  Terminal terminal{.ours = UniqueFd(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK))};
  std::array<char, 128> name{};
  if (!terminal.ours || grantpt(terminal.ours.get()) != 0 || unlockpt(terminal.ours.get()) != 0 ||
      ptsname_r(terminal.ours.get(), name.data(), name.size()) != 0) {
    ThrowNoTerminal();
  }
  terminal.path = name.data();
  terminal.theirs.Reset(open(terminal.path.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC));
  termios raw{};
  if (!terminal.theirs || tcgetattr(terminal.theirs.get(), &raw) != 0) ThrowNoTerminal();
  cfmakeraw(&raw);
  tcsetattr(terminal.theirs.get(), TCSANOW, &raw);
  return terminal;
}

// One end of the relay: reads what comes, and writes what waits when there is room.
class End : public std::enable_shared_from_this<End> {
 public:
  explicit End(UniqueFd fd) : stream_(internal::IoContext(), fd.Release()) { stream_.non_blocking(true); }

  std::function<void(std::string_view)> on_bytes;
  std::function<void()> on_end;

  void Start() { AwaitBytes(); }

  void Close() {
    on_bytes = nullptr;
    on_end = nullptr;
    boost::system::error_code ignored;
    stream_.close(ignored);
  }

  void Write(std::string_view bytes) {
    waiting_.append(bytes);
    if (waiting_.size() > kMostWaiting) waiting_.erase(0, waiting_.size() - kMostWaiting);
    Flush();
  }

 private:
  void AwaitBytes() {
    stream_.async_wait(stream_descriptor::wait_read,
                       [self = shared_from_this()](const boost::system::error_code& error) {
                         if (!error) self->Read();
                       });
  }

  void Read() {
    std::array<char, 4096> bytes{};
    while (stream_.is_open()) {
      ssize_t count = read(stream_.native_handle(), bytes.data(), bytes.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0 && errno == EAGAIN) return AwaitBytes();
      if (count <= 0) {
        auto end = on_end;
        Close();
        if (end) end();
        return;
      }
      if (on_bytes) on_bytes({bytes.data(), static_cast<size_t>(count)});
    }
  }

  void Flush() {
    while (!waiting_.empty() && stream_.is_open()) {
      ssize_t count = write(stream_.native_handle(), waiting_.data(), waiting_.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0 && errno == EAGAIN) return AwaitRoom();
      if (count < 0) return waiting_.clear();
      waiting_.erase(0, static_cast<size_t>(count));
    }
  }

  void AwaitRoom() {
    if (std::exchange(awaits_room_, true)) return;
    stream_.async_wait(stream_descriptor::wait_write,
                       [self = shared_from_this()](const boost::system::error_code& error) {
                         self->awaits_room_ = false;
                         if (!error) self->Flush();
                       });
  }

  stream_descriptor stream_;
  std::string waiting_;
  bool awaits_room_ = false;
};

}  // namespace

class SerialRelay::Wire : public std::enable_shared_from_this<Wire> {
 public:
  Wire(Terminal vmm, const std::filesystem::path& log)
      : vmm_held_(std::move(vmm.theirs)),
        vmm_(std::make_shared<End>(std::move(vmm.ours))),
        log_(open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)),
        listener_(internal::IoContext()) {}

  void Speak(UniqueFd client) {
    if (client_) client_->Close();
    client_ = std::make_shared<End>(std::move(client));
    client_->on_bytes = [this](std::string_view bytes) { vmm_->Write(bytes); };
    client_->on_end = [this] { client_.reset(); };
    client_->Write(std::exchange(unheard_, {}));
    client_->Start();
  }

  void Hold(UniqueFd client_terminal) { client_held_ = std::move(client_terminal); }

  void Listen(UniqueFd listener) {
    listener_.assign(listener.Release());
    listener_.non_blocking(true);
    AwaitClient();
  }

  void Start() {
    vmm_->on_bytes = [this](std::string_view bytes) {
      // A log that cannot be written is not worth a failure.
      if (log_ && write(log_.get(), bytes.data(), bytes.size()) < 0) log_.Reset();
      if (client_) return client_->Write(bytes);
      unheard_.append(bytes);
      if (unheard_.size() > kMostWaiting) unheard_.erase(0, unheard_.size() - kMostWaiting);
    };
    vmm_->Start();
  }

  void Stop() {
    vmm_->Close();
    if (client_) client_->Close();
    boost::system::error_code ignored;
    listener_.close(ignored);
  }

 private:
  void AwaitClient() {
    listener_.async_wait(stream_descriptor::wait_read,
                         [self = shared_from_this()](const boost::system::error_code& error) {
                           if (error) return;
                           UniqueFd client(accept4(self->listener_.native_handle(), nullptr, nullptr, SOCK_CLOEXEC));
                           if (client) self->Speak(std::move(client));
                           self->AwaitClient();
                         });
  }

  const UniqueFd vmm_held_;
  const std::shared_ptr<End> vmm_;
  UniqueFd log_;
  std::shared_ptr<End> client_;
  UniqueFd client_held_;
  std::string unheard_;  // until somebody has connected
  stream_descriptor listener_;
};

SerialRelay::SerialRelay(SerialKind kind, const Options& options) {
  Terminal vmm = MakeTerminal();
  vmm_terminal_ = vmm.path;
  wire_ = std::make_shared<Wire>(std::move(vmm), options.log);
  Terminal people = kind == SerialKind::kPty ? MakeTerminal() : Terminal();
  UniqueFd listener = kind == SerialKind::kSocket ? internal::ListenOn(options.socket) : UniqueFd();
  place_ = kind == SerialKind::kPty ? people.path : options.socket.string();
  RunOnIoThread([&] {
    if (listener) wire_->Listen(std::move(listener));
    if (people.ours) {
      wire_->Hold(std::move(people.theirs));
      wire_->Speak(std::move(people.ours));
    }
    wire_->Start();
  });
}

SerialRelay::~SerialRelay() {
  RunOnIoThread([&] { wire_->Stop(); });
}

}  // namespace mayfly::ch
