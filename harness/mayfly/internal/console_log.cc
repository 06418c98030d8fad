#include <mayfly/internal/console_log.h>

#include <fcntl.h>
#include <linux/falloc.h>
#include <mayfly/errors.h>
#include <mayfly/internal/file_watch.h>
#include <mayfly/internal/io_thread.h>
#include <mayfly/internal/unique_fd.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <system_error>
#include <vector>

namespace mayfly::internal {
namespace {

// Takes out what a terminal would not show: escape sequences, carriage returns and other control characters.
std::string Printable(std::string_view raw) {
  std::string clean;
  for (size_t i = 0; i < raw.size(); ++i) {
    char c = raw[i];
    if (c == '\x1b') {
      if (i + 1 < raw.size() && raw[i + 1] == '[') {
        i += 2;
        while (i < raw.size() && (raw[i] < '@' || raw[i] > '~')) ++i;
      } else {
        ++i;
      }
    } else if (c == '\t' || static_cast<unsigned char>(c) >= ' ') {
      clean += c;
    }
  }
  return clean;
}

std::string ReadFrom(int fd, off_t offset, size_t length) {
  std::string text(length, '\0');
  ssize_t got = pread(fd, text.data(), text.size(), offset);
  text.resize(static_cast<size_t>(std::max<ssize_t>(got, 0)));
  return text;
}

off_t SizeOf(int fd) {
  struct stat status{};
  return fstat(fd, &status) == 0 ? status.st_size : 0;
}

}  // namespace

class ConsoleLog::Follower {
 public:
  Follower(const std::filesystem::path& path, std::function<void(std::string_view)> on_line)
      : path_(path), file_(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)), on_line_(std::move(on_line)) {
    if (!file_) ThrowCannotFollow(errno);
  }

  // The rest of the interface, except the waits, runs on the I/O thread.
  void Start() {
    try {
      watch_.emplace(path_, [this] { ReadNew(); });
    } catch (const std::system_error& error) {
      ThrowCannotFollow(error.code().value());
    }
    ReadNew();
  }

  void Close() {
    on_line_ = nullptr;
    watch_.reset();
  }

  void BeginBoot() {
    ReadNew();
    std::lock_guard lock(mutex_);
    boot_start_ = offset_;
  }

  bool WaitFor(std::string_view text, Deadline deadline) {
    std::unique_lock lock(mutex_);
    off_t from = boot_start_;
    while (true) {
      // What was searched before is searched again only as far as the text may straddle its end.
      off_t end = offset_;
      for (off_t at = from; at < end; at += kChunk) {
        size_t length = static_cast<size_t>(std::min<off_t>(end - at, kChunk + static_cast<off_t>(text.size())));
        if (ReadFrom(file_.get(), at, length).find(text) != std::string::npos) return true;
      }
      from = std::max(boot_start_, end - static_cast<off_t>(text.size()));
      if (deadline.Passed()) return false;
      changed_.wait_until(lock, deadline.time(), [&] { return offset_ != end; });
    }
  }

  int file() const { return file_.get(); }

 private:
  static constexpr off_t kChunk = 1 << 16;

  [[noreturn]] void ThrowCannotFollow(int error) const {
    throw HostLacks(
        {.summary = "cannot follow the console log " + path_.string() + ": " + std::generic_category().message(error),
         .next_step = "free space there, or raise fs.inotify.max_user_instances"});
  }

  void ReadNew() {
    off_t size = SizeOf(file_.get());
    while (offset_ < size) {
      std::string chunk = ReadFrom(file_.get(), offset_, static_cast<size_t>(std::min(size - offset_, kChunk)));
      if (chunk.empty()) break;
      {
        std::lock_guard lock(mutex_);
        offset_ += static_cast<off_t>(chunk.size());
      }
      changed_.notify_all();
      for (char c : chunk) TakeCharacter(c);
    }
    DropOld();
  }

  void TakeCharacter(char c) {
    if (c != '\n') {
      if (line_.size() < kMaxLine) line_ += c;
      return;
    }
    std::string line = Printable(line_);
    line_.clear();
    if (on_line_ && !line.empty()) on_line_(line);
  }

  // Gives the disk space of what is no longer kept back; the file's offsets stay as they are.
  void DropOld() {
    off_t drop_to = (offset_ - static_cast<off_t>(kKept)) & ~off_t{4095};
    if (drop_to - dropped_ < static_cast<off_t>(kKept)) return;
    if (fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, dropped_, drop_to - dropped_) == 0) {
      dropped_ = drop_to;
    }
  }

  const std::filesystem::path path_;
  UniqueFd file_;
  std::optional<FileWatch> watch_;
  std::function<void(std::string_view)> on_line_;
  std::string line_;
  off_t dropped_ = 0;

  std::mutex mutex_;  // guards offset_ and boot_start_, which the waits read
  std::condition_variable changed_;
  off_t offset_ = 0;
  off_t boot_start_ = 0;
};

ConsoleLog::ConsoleLog(const std::filesystem::path& path, std::function<void(std::string_view line)> on_line)
    : follower_(std::make_shared<Follower>(path, std::move(on_line))) {
  RunOnIoThread([this] { follower_->Start(); });
}

ConsoleLog::~ConsoleLog() {
  RunOnIoThread([this] { follower_->Close(); });
}

void ConsoleLog::BeginBoot() {
  RunOnIoThread([this] { follower_->BeginBoot(); });
}

bool ConsoleLog::WaitFor(std::string_view text, Deadline deadline) {
  return follower_->WaitFor(text.substr(0, kMaxLine), deadline);
}

std::string ConsoleLog::Text() const {
  off_t size = SizeOf(follower_->file());
  off_t from = std::max<off_t>(0, size - static_cast<off_t>(kKept));
  return ReadFrom(follower_->file(), from, static_cast<size_t>(size - from));
}

std::string ConsoleLog::Tail(size_t lines) const {
  constexpr off_t kLookedAt = 1 << 16;
  off_t size = SizeOf(follower_->file());
  std::string raw =
      ReadFrom(follower_->file(), std::max<off_t>(0, size - kLookedAt), static_cast<size_t>(std::min(size, kLookedAt)));
  std::vector<std::string> found;
  size_t end = raw.size();
  while (end > 0 && found.size() < lines) {
    size_t newline = raw.rfind('\n', end - 1);
    size_t begin = newline == std::string::npos ? 0 : newline + 1;
    std::string line = Printable(std::string_view(raw).substr(begin, end - begin)).substr(0, 200);
    if (!line.empty()) found.push_back(std::move(line));
    end = newline == std::string::npos ? 0 : newline;
  }
  std::string tail;
  for (auto line = found.rbegin(); line != found.rend(); ++line) tail += *line + "\n";
  return tail;
}

}  // namespace mayfly::internal
