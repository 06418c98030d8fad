#include <mayfly/internal/file_stream.h>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <functional>
#include <optional>
#include <utility>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace mayfly::internal::agent {
namespace {

constexpr size_t kMaxDepth = 200;          // of directories; each level holds a descriptor
constexpr uint64_t kMaxEntries = 4 << 20;  // of one stream: bounds what the receiver remembers
constexpr mode_t kModeBits = 07777;

int64_t Nanoseconds(const timespec& time) { return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; }

// Times for futimens and utimensat: access time unchanged, `mtime` in nanoseconds since 1970.
struct Times {
  explicit Times(int64_t mtime) {
    int64_t seconds = mtime / 1'000'000'000, rest = mtime % 1'000'000'000;
    if (rest < 0) {
      rest += 1'000'000'000;
      --seconds;
    }
    times[0] = {.tv_sec = 0, .tv_nsec = UTIME_OMIT};
    times[1] = {.tv_sec = seconds, .tv_nsec = rest};
  }
  timespec times[2];
};

// A name that stays below the root: parts that are not empty, ".", or "..".
bool IsSafe(std::string_view name) {
  if (name.empty() || name.find('\0') != std::string_view::npos) return false;
  while (true) {
    size_t slash = name.find('/');
    std::string_view part = name.substr(0, slash);
    if (part.empty() || part == "." || part == ".." || part.size() > 255) return false;
    if (slash == std::string_view::npos) return true;
    name.remove_prefix(slash + 1);
  }
}

std::string_view Leaf(std::string_view name) {
  size_t slash = name.rfind('/');
  return slash == std::string_view::npos ? name : name.substr(slash + 1);
}

std::string TemporaryName() {
  static std::atomic<uint32_t> counter = 0;
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return ".mayfly-" + std::to_string(getpid()) + "-" + std::to_string(Nanoseconds(now)) + "-" +
         std::to_string(counter++);
}

std::string WithoutSlashAtEnd(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

}  // namespace

FileError MakeFileError(int number, std::string what) {
  char buffer[128];
  // The GNU variant, which is thread-safe and returns the text.
  return {.number = number, .text = std::move(what) + ": " + strerror_r(number, buffer, sizeof buffer)};
}

int MakeParents(const std::string& path) {
  for (size_t slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1)) {
    if (mkdir(path.substr(0, slash).c_str(), 0755) != 0 && errno != EEXIST) {
      struct stat status;
      // A read-only file system says EROFS for directories that exist.
      int number = errno;
      if (stat(path.substr(0, slash).c_str(), &status) != 0) return number;
    }
  }
  return 0;
}

struct ContentHash::State {
  XXH64_state_t state;
};

ContentHash::ContentHash() : state_(new State) { Reset(); }
ContentHash::~ContentHash() = default;
void ContentHash::Reset() { XXH64_reset(&state_->state, 0); }
void ContentHash::Add(std::string_view bytes) { XXH64_update(&state_->state, bytes.data(), bytes.size()); }
uint64_t ContentHash::Value() const { return XXH64_digest(&state_->state); }

// --- FileSender
// ---------------------------------------------------------------------------------------------------------

FileSender::FileSender(std::string path, uint64_t limit) : path_(WithoutSlashAtEnd(std::move(path))), limit_(limit) {}
FileSender::~FileSender() = default;

std::string FileSender::Shown(const std::string& name) const { return name.empty() ? path_ : path_ + "/" + name; }

FileError FileSender::Next(Piece* piece, MessageWriter* header) {
  has_body_ = false;
  if (!started_) return Start(piece, header);
  if (!file_) return NextInTree(piece, header);
  if (!at_end_) {
    *piece = Piece::kData;
    *header = MessageWriter("data");
    has_body_ = true;
    return {};
  }
  *piece = Piece::kEnd;
  *header = MessageWriter("end");
  header->Set("sum", hash_.Value());
  file_.Reset();
  return {};
}

FileError FileSender::Start(Piece* piece, MessageWriter* header) {
  started_ = true;
  // Not blocking: a pipe or a special file must not hold up the reader.
  UniqueFd file(open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status;
  if (!file || fstat(file.get(), &status) != 0) return MakeFileError(errno, path_);
  if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) {
    return MakeFileError(EINVAL, path_ + " is neither a file nor a directory");
  }
  *piece = Piece::kEntry;
  if (S_ISREG(status.st_mode)) return Entry(header, status, "", std::move(file));
  if (FileError error = Entry(header, status, "", {})) return error;
  return Enter(std::move(file), "");
}

FileError FileSender::Enter(UniqueFd directory, std::string path) {
  if (levels_.size() == kMaxDepth) return MakeFileError(ELOOP, Shown(path) + " is too deep");
  // fdopendir takes its descriptor; ours stays for openat.
  int copy = fcntl(directory.get(), F_DUPFD_CLOEXEC, 3);
  std::unique_ptr<DIR, int (*)(DIR*)> stream(copy < 0 ? nullptr : fdopendir(copy), &closedir);
  if (stream == nullptr) return MakeFileError(errno, Shown(path));
  Level level{.directory = std::move(directory), .path = std::move(path), .names = {}};
  errno = 0;
  while (dirent* entry = readdir(stream.get())) {  // NOLINT(concurrency-mt-unsafe): the stream is our own
    std::string_view name = entry->d_name;
    if (name != "." && name != "..") level.names.emplace_back(name);
    errno = 0;
  }
  if (errno != 0) return MakeFileError(errno, Shown(level.path));
  std::sort(level.names.begin(), level.names.end(), std::greater<>());
  levels_.push_back(std::move(level));
  return {};
}

FileError FileSender::NextInTree(Piece* piece, MessageWriter* header) {
  while (!levels_.empty()) {
    Level& level = levels_.back();
    if (level.names.empty()) {
      levels_.pop_back();
      continue;
    }
    std::string leaf = std::move(level.names.back());
    level.names.pop_back();
    std::string name = level.path + leaf;
    struct stat status;
    if (fstatat(level.directory.get(), leaf.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) continue;  // removed meanwhile
      return MakeFileError(errno, Shown(name));
    }
    *piece = Piece::kEntry;
    if (S_ISLNK(status.st_mode)) {
      char target[4097];
      ssize_t length = readlinkat(level.directory.get(), leaf.c_str(), target, sizeof target);
      if (length < 0) return MakeFileError(errno, Shown(name));
      FileError error = Entry(header, status, name, {});
      header->Set("target", std::string_view(target, static_cast<size_t>(length)));
      return error;
    }
    if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) continue;
    UniqueFd file(openat(level.directory.get(), leaf.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (!file || fstat(file.get(), &status) != 0) return MakeFileError(errno, Shown(name));
    if (S_ISREG(status.st_mode)) return Entry(header, status, name, std::move(file));
    if (!S_ISDIR(status.st_mode)) continue;
    if (FileError error = Entry(header, status, name, {})) return error;
    return Enter(std::move(file), name + "/");
  }
  *piece = Piece::kDone;
  return {};
}

FileError FileSender::Entry(MessageWriter* header, const struct stat& status, const std::string& name, UniqueFd file) {
  const char* kind = S_ISLNK(status.st_mode) ? "link" : S_ISDIR(status.st_mode) ? "dir" : "file";
  *header = MessageWriter("entry");
  header->Set("kind", kind).Set("name", std::string_view(name)).Set("mode", uint64_t{status.st_mode & kModeBits});
  header->Set("mtime", Nanoseconds(status.st_mtim));
  if (file) {
    hash_.Reset();
    at_end_ = false;
    has_body_ = true;
    name_ = name;
    file_ = std::move(file);
  }
  return {};
}

FileError FileSender::Fill(std::span<char> space, size_t* filled) {
  *filled = 0;
  while (*filled < space.size() && !at_end_) {
    ssize_t count = read(file_.get(), space.data() + *filled, space.size() - *filled);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return MakeFileError(errno, Shown(name_));
    at_end_ = count == 0;
    *filled += static_cast<size_t>(count);
  }
  bytes_ += *filled;
  if (bytes_ > limit_)
    return MakeFileError(EFBIG, Shown(name_) + " is larger than the limit of " + std::to_string(limit_));
  hash_.Add({space.data(), *filled});
  return {};
}

// --- FileReceiver
// -------------------------------------------------------------------------------------------------------

FileReceiver::FileReceiver(std::string path) : path_(WithoutSlashAtEnd(std::move(path))) {}

FileReceiver::~FileReceiver() {
  if (file_) unlinkat(file_directory_, temporary_.c_str(), 0);
}

std::string FileReceiver::Shown(std::string_view name) const {
  return name.empty() ? path_ : path_ + "/" + std::string(name);
}

FileError FileReceiver::Take(const Message& message, std::string_view body) {
  std::string_view type = message.type();
  if (type == "entry" && !file_) return Begin(message, body);
  if (type == "data" && file_) return Write(body);
  if (type == "end" && file_) return EndFile(message);
  return MakeFileError(EPROTO, path_ + ": '" + std::string(type.substr(0, 20)) + "' out of order");
}

FileError FileReceiver::Begin(const Message& message, std::string_view body) {
  if (++entries_ > kMaxEntries) return MakeFileError(EFBIG, path_ + ": too many files");
  std::string_view name = message.Text("name");
  if (entries_ == 1) {
    if (!name.empty()) return MakeFileError(EPROTO, path_ + ": its own entry has to be first");
    return Root(message, body);
  }
  if (!root_is_directory_ || !IsSafe(name)) {
    return MakeFileError(EPERM, path_ + ": the name '" + std::string(name.substr(0, 300)) + "' is not below it");
  }
  std::string_view kind = message.Text("kind");
  if (kind == "dir") return MakeDirectory(message, name);
  if (kind == "link") return MakeLink(message, name);
  if (kind != "file") return MakeFileError(EPROTO, Shown(name) + ": unknown kind");
  name_ = name;
  file_directory_ = Parent(name);
  if (file_directory_ < 0) return MakeFileError(errno, Shown(name));
  return OpenFile(message, Leaf(name), body);
}

FileError FileReceiver::Root(const Message& message, std::string_view body) {
  if (path_.empty()) return MakeFileError(ENOENT, "''");
  if (int error = MakeParents(path_)) return MakeFileError(error, path_);
  std::string_view kind = message.Text("kind");
  root_is_directory_ = kind == "dir";
  if (root_is_directory_) {
    if (mkdir(path_.c_str(), 0700) == 0) {
      made_.push_back({"", static_cast<mode_t>(message.Number("mode") & kModeBits), message.Signed("mtime")});
    } else if (errno != EEXIST) {
      return MakeFileError(errno, path_);
    }
    root_.Reset(open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return root_ ? FileError{} : MakeFileError(errno, path_);
  }
  if (kind != "file") return MakeFileError(EPROTO, path_ + ": unknown kind");
  size_t slash = path_.rfind('/');
  std::string directory = slash == std::string::npos ? "." : slash == 0 ? "/" : path_.substr(0, slash);
  root_.Reset(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root_) return MakeFileError(errno, directory);
  file_directory_ = root_.get();
  name_.clear();
  return OpenFile(message, Leaf(path_), body);
}

int FileReceiver::Parent(std::string_view name) {
  size_t slash = name.rfind('/');
  if (slash == std::string_view::npos) return root_.get();
  std::string_view wanted = name.substr(0, slash);
  if (parent_ && parent_name_ == wanted) return parent_.get();
  parent_.Reset();
  UniqueFd directory;
  std::string_view rest = wanted;
  while (!rest.empty()) {
    std::string part(rest.substr(0, rest.find('/')));
    rest.remove_prefix(std::min(part.size() + 1, rest.size()));
    int from = directory ? directory.get() : root_.get();
    UniqueFd next(openat(from, part.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!next) return -1;
    directory = std::move(next);
  }
  parent_ = std::move(directory);
  parent_name_ = wanted;
  return parent_.get();
}

FileError FileReceiver::MakeDirectory(const Message& message, std::string_view name) {
  int parent = Parent(name);
  if (parent < 0) return MakeFileError(errno, Shown(name));
  std::string leaf(Leaf(name));
  // Writable until Finish, so that its content can be written by any user.
  if (mkdirat(parent, leaf.c_str(), 0700) == 0) {
    made_.push_back(
        {std::string(name), static_cast<mode_t>(message.Number("mode") & kModeBits), message.Signed("mtime")});
    return {};
  }
  struct stat status;
  if (errno == EEXIST && fstatat(parent, leaf.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0) {
    return S_ISDIR(status.st_mode) ? FileError{} : MakeFileError(ENOTDIR, Shown(name));
  }
  return MakeFileError(errno, Shown(name));
}

FileError FileReceiver::MakeLink(const Message& message, std::string_view name) {
  int parent = Parent(name);
  if (parent < 0) return MakeFileError(errno, Shown(name));
  std::string target(message.Text("target"));
  std::string temporary = TemporaryName();
  std::string leaf(Leaf(name));
  if (symlinkat(target.c_str(), parent, temporary.c_str()) != 0) return MakeFileError(errno, Shown(name));
  if (renameat(parent, temporary.c_str(), parent, leaf.c_str()) != 0) {
    FileError error = MakeFileError(errno, Shown(name));
    unlinkat(parent, temporary.c_str(), 0);
    return error;
  }
  return {};
}

FileError FileReceiver::OpenFile(const Message& message, std::string_view leaf, std::string_view body) {
  leaf_ = leaf;
  temporary_ = TemporaryName();
  mode_ = static_cast<mode_t>(message.Number("mode", 0644) & kModeBits);
  mtime_ = message.Signed("mtime", INT64_MIN);
  file_.Reset(openat(file_directory_, temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file_) return MakeFileError(errno, Shown(name_));
  hash_.Reset();
  return Write(body);
}

FileError FileReceiver::Write(std::string_view body) {
  hash_.Add(body);
  bytes_ += body.size();
  while (!body.empty()) {
    ssize_t count = write(file_.get(), body.data(), body.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return MakeFileError(errno, Shown(name_));
    body.remove_prefix(static_cast<size_t>(count));
  }
  return {};
}

FileError FileReceiver::EndFile(const Message& message) {
  if (!message.Has("sum") || message.Number("sum") != hash_.Value()) {
    return MakeFileError(EBADMSG, Shown(name_) + ": what arrived has another checksum than what was sent");
  }
  bool failed = fchmod(file_.get(), mode_) != 0;
  if (!failed && mtime_ != INT64_MIN) failed = futimens(file_.get(), Times(mtime_).times) != 0;
  if (!failed) failed = renameat(file_directory_, temporary_.c_str(), file_directory_, leaf_.c_str()) != 0;
  if (failed) return MakeFileError(errno, Shown(name_));  // the destructor removes it
  file_.Reset();
  return {};
}

FileError FileReceiver::Finish() {
  if (entries_ == 0 || file_) return MakeFileError(EPROTO, path_ + ": the stream ended too early");
  // From the leaves up: a directory without write permission comes after what is in it.
  for (auto made = made_.rbegin(); made != made_.rend(); ++made) {
    int parent = made->name.empty() ? root_.get() : Parent(made->name);
    std::string leaf = made->name.empty() ? "." : std::string(Leaf(made->name));
    UniqueFd directory(parent < 0 ? -1 : openat(parent, leaf.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!directory || futimens(directory.get(), Times(made->mtime).times) != 0 ||
        fchmod(directory.get(), made->mode) != 0) {
      return MakeFileError(errno, Shown(made->name));
    }
  }
  made_.clear();
  return {};
}

}  // namespace mayfly::internal::agent
