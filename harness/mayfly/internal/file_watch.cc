#include <mayfly/internal/file_watch.h>

#include <mayfly/internal/io_thread.h>
#include <mayfly/internal/unique_fd.h>
#include <sys/inotify.h>

#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cerrno>
#include <cstring>
#include <map>
#include <system_error>
#include <utility>
#include <vector>

namespace mayfly::internal {
namespace {

// The instance, on the I/O thread and like it never destroyed.
class Watcher {
 public:
  uint64_t Add(const std::filesystem::path& file, std::function<void()> on_write) {
    Open();
    int watch = inotify_add_watch(inotify_.native_handle(), file.c_str(), IN_MODIFY);
    if (watch < 0) throw std::system_error(errno, std::generic_category());
    watched_[++last_id_] = {watch, std::move(on_write)};
    return last_id_;
  }

  void Remove(uint64_t id) {
    auto found = watched_.find(id);
    int watch = found->second.watch;
    watched_.erase(found);
    // A file that two follow has one watch.
    bool needed = std::any_of(watched_.begin(), watched_.end(), [&](const auto& w) { return w.second.watch == watch; });
    if (!needed) inotify_rm_watch(inotify_.native_handle(), watch);
  }

 private:
  struct Watched {
    int watch = -1;
    std::function<void()> on_write{};
  };

  void Open() {
    if (inotify_.is_open()) return;
    UniqueFd instance(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (!instance) throw std::system_error(errno, std::generic_category());
    inotify_.assign(instance.Release());
    Await();
  }

  void Await() {
    inotify_.async_read_some(boost::asio::buffer(buffer_),
                             [this](const boost::system::error_code& error, size_t count) {
                               if (error) return;
                               Tell(count);
                               Await();
                             });
  }

  void Tell(size_t count) {
    std::vector<int> written;
    for (size_t at = 0; at + sizeof(inotify_event) <= count;) {
      inotify_event event{};
      memcpy(&event, buffer_.data() + at, sizeof event);
      at += sizeof event + event.len;
      written.push_back((event.mask & IN_Q_OVERFLOW) != 0 ? kAll : event.wd);
    }
    std::vector<uint64_t> ids;
    for (const auto& [id, watched] : watched_) {
      bool told = std::any_of(written.begin(), written.end(),
                              [&, watch = watched.watch](int wd) { return wd == kAll || wd == watch; });
      if (told) ids.push_back(id);
    }
    // One of those that are told may end others.
    for (uint64_t id : ids) {
      auto found = watched_.find(id);
      if (found == watched_.end()) continue;
      std::function<void()> on_write = found->second.on_write;
      on_write();
    }
  }

  static constexpr int kAll = -1;  // what is written when the kernel has lost events
  boost::asio::posix::stream_descriptor inotify_{IoContext()};
  std::map<uint64_t, Watched> watched_;
  uint64_t last_id_ = 0;
  std::array<char, 16384> buffer_{};
};

Watcher& TheWatcher() {
  static auto* watcher = new Watcher;
  return *watcher;
}

}  // namespace

FileWatch::FileWatch(const std::filesystem::path& file, std::function<void()> on_write)
    : id_(TheWatcher().Add(file, std::move(on_write))) {}

FileWatch::~FileWatch() { TheWatcher().Remove(id_); }

}  // namespace mayfly::internal
