// Files in and out: put, get and stat. The work is file_stream.h's, here are the frames.
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "operations.h"

namespace mayfly::agent {

using internal::agent::FileError;
using internal::agent::FileReceiver;
using internal::agent::FileSender;
using internal::agent::kFilePiece;
using internal::agent::kFileWindow;
using internal::agent::kFrameCost;
using internal::agent::kFromGuest;
using internal::agent::kToGuest;

namespace {

class Put : public Request {
 public:
  Put(Server& server, uint64_t id, std::string path) : Request(server, id), receiver_(std::move(path)) {}

  void Take(const Message& message, std::string_view body) override {
    if (message.type() == "eof") {
      if (FileError error = receiver_.Finish()) return Fail(error);
      return Done(Reply("done").Set("bytes", receiver_.bytes()));
    }
    if (FileError error = receiver_.Take(message, body)) return Fail(error);
    GiveBack(kToGuest, static_cast<int64_t>(body.size()) + kFrameCost, kFileWindow);
  }

 private:
  FileReceiver receiver_;
};

class Get : public Request {
 public:
  Get(Server& server, uint64_t id, std::string path, uint64_t limit)
      : Request(server, id), sender_(std::move(path), limit) {}

  void Take(const Message& message, std::string_view /*body*/) override {
    if (message.type() != "credit") return;
    credit_ =
        std::min(kFileWindow, credit_ + static_cast<int64_t>(std::min<uint64_t>(message.Number("n"), kFileWindow)));
    Pump();
  }
  void Resume() override { Pump(); }

  void Pump() {
    constexpr auto kLargest = static_cast<int64_t>(kFilePiece) + kFrameCost;
    while (!finished() && credit_ >= kLargest && !server_.channel().congested()) {
      FileSender::Piece piece;
      MessageWriter header("");
      if (FileError error = sender_.Next(&piece, &header)) return Fail(error);
      if (piece == FileSender::Piece::kDone) return Done(Reply("done").Set("bytes", sender_.bytes()));
      header.Set("id", id_).Set("st", kFromGuest);
      size_t filled = 0;
      if (sender_.has_body()) {
        std::span<char> space = server_.channel().Begin(header.Finish(), kFilePiece);
        FileError error = sender_.Fill(space, &filled);
        if (error || (filled == 0 && piece == FileSender::Piece::kData)) {
          server_.channel().Abandon();
          if (error) return Fail(error);
          continue;
        }
        server_.channel().Commit(filled);
      } else {
        Send(std::move(header));
      }
      credit_ -= static_cast<int64_t>(filled) + kFrameCost;
    }
  }

 private:
  FileSender sender_;
  int64_t credit_ = kFileWindow;
};

class Stat : public Request {
 public:
  using Request::Request;

  void Begin(const std::string& path) {
    struct stat status;
    if (lstat(path.c_str(), &status) != 0) return Fail(errno, path);
    const char* kind = S_ISREG(status.st_mode)   ? "file"
                       : S_ISDIR(status.st_mode) ? "dir"
                       : S_ISLNK(status.st_mode) ? "link"
                                                 : "other";
    Done(Reply("done")
             .Set("kind", kind)
             .Set("size", static_cast<uint64_t>(status.st_size))
             .Set("mode", uint64_t{status.st_mode & 07777})
             .Set("uid", uint64_t{status.st_uid})
             .Set("gid", uint64_t{status.st_gid}));
  }
};

}  // namespace

std::unique_ptr<Request> StartPut(Server& server, uint64_t id, const Message& message, std::string_view /*body*/) {
  return std::make_unique<Put>(server, id, std::string(message.Text("path")));
}

std::unique_ptr<Request> StartGet(Server& server, uint64_t id, const Message& message, std::string_view /*body*/) {
  auto get = std::make_unique<Get>(server, id, std::string(message.Text("path")), message.Number("limit", UINT64_MAX));
  get->Pump();
  return get;
}

std::unique_ptr<Request> StartStat(Server& server, uint64_t id, const Message& message, std::string_view /*body*/) {
  auto stat = std::make_unique<Stat>(server, id);
  stat->Begin(std::string(message.Text("path")));
  return stat;
}

}  // namespace mayfly::agent
