// Files to and from the guest. Reading and writing of the host's files is done on the calling thread; the guest's
// credit bounds what is under way.
#include <cerrno>
#include <utility>

#include <fmt/format.h>
#include <mayfly/agent.h>
#include <mayfly/internal/blocking_call.h>
#include <mayfly/internal/file_stream.h>

namespace mayfly {

using internal::AgentMessage;
using internal::BlockingCall;
using internal::agent::FileError;
using internal::agent::FileReceiver;
using internal::agent::FileSender;
using internal::agent::kFilePiece;
using internal::agent::kFileWindow;
using internal::agent::kFrameCost;
using internal::agent::kFromGuest;
using internal::agent::kToGuest;
using internal::agent::Message;
using internal::agent::MessageWriter;

namespace {

// A transfer may take as long as it likes while it moves; this is for each step.
constexpr Duration kStepTime = std::chrono::seconds(60);

Deadline StepDeadline() { return Deadline::After(Scaled(kStepTime)); }

// "to" for a source: with a slash at its end it is the directory to copy into.
std::string Target(std::string_view to, const std::string& name) {
  std::string target(to);
  if (target.empty() || target.back() != '/') return target;
  return target + name;
}

// The last part of a path, slashes at its end aside.
std::string Name(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path.substr(path.rfind('/') + 1);
}

// Sends one frame of a file stream. False: the guest has ended the transfer.
bool SendPiece(BlockingCall& call, MessageWriter header, std::string body) {
  if (!call.WaitForCredit(static_cast<int64_t>(body.size()) + kFrameCost, StepDeadline())) return false;
  header.Set("st", kToGuest);
  call.Send(std::move(header), std::move(body));
  return true;
}

void SendEnd(BlockingCall& call) {
  MessageWriter eof("eof");
  eof.Set("st", kToGuest);
  call.Send(std::move(eof));
  call.Next(StepDeadline());
}

MessageWriter PutRequest(std::string_view path) {
  MessageWriter request("put");
  request.Set("path", path);
  return request;
}

// Hands each frame of a file stream from the guest to `take` until the guest is done.
template <typename Take>
void Receive(BlockingCall& call, Take take) {
  for (;;) {
    std::unique_ptr<AgentMessage> frame = call.Next(StepDeadline());
    if (frame->message.type() == "done") return;
    take(frame->message, frame->body);
    call.GiveBack(kFromGuest, static_cast<int64_t>(frame->body.size()) + kFrameCost);
  }
}

MessageWriter GetRequest(std::string_view path, uint64_t limit) {
  MessageWriter request("get");
  request.Set("path", path).Set("limit", limit);
  return request;
}

}  // namespace

void Agent::Upload(const std::filesystem::path& from, std::string_view to) {
  std::string target = Target(to, Name(from.string()));
  std::string what = fmt::format("upload {} to {}", from.string(), target);
  FileSender sender(from.string());
  FileSender::Piece piece;
  MessageWriter header("");
  auto next = [&] {
    if (FileError error = sender.Next(&piece, &header)) {
      throw BadSpec({.summary = connection_->Cannot(what, error.text), .notes = {}, .next_step = {}});
    }
  };
  next();  // a missing source is told before anything is asked of the guest
  BlockingCall call(connection_, what, PutRequest(target), {}, kFileWindow);
  for (; piece != FileSender::Piece::kDone; next()) {
    std::string body;
    if (sender.has_body()) {
      body.resize(kFilePiece);
      size_t filled = 0;
      if (FileError error = sender.Fill(body, &filled)) {
        throw BadSpec({.summary = connection_->Cannot(what, error.text), .notes = {}, .next_step = {}});
      }
      if (filled == 0 && piece == FileSender::Piece::kData) continue;
      body.resize(filled);
    }
    if (!SendPiece(call, header, std::move(body))) break;  // the answer says why
  }
  SendEnd(call);
}

void Agent::WriteFile(std::string_view path, std::string_view content, uint32_t mode) {
  BlockingCall call(connection_, fmt::format("write {}", path), PutRequest(path), {}, kFileWindow);
  internal::agent::ContentHash hash;
  hash.Add(content);
  MessageWriter header("entry");
  header.Set("kind", "file").Set("name", "").Set("mode", uint64_t{mode});
  bool wanted = true;
  do {
    wanted = SendPiece(call, std::exchange(header, MessageWriter("data")), std::string(content.substr(0, kFilePiece)));
    content.remove_prefix(std::min(content.size(), kFilePiece));
  } while (wanted && !content.empty());
  MessageWriter end("end");
  end.Set("sum", hash.Value());
  if (wanted) SendPiece(call, std::move(end), {});
  SendEnd(call);
}

void Agent::Download(std::string_view from, const std::filesystem::path& to) {
  std::string target = Target(to.string(), Name(std::string(from)));
  std::string what = fmt::format("download {} to {}", from, target);
  BlockingCall call(connection_, what, GetRequest(from, UINT64_MAX), {}, kFileWindow);
  FileReceiver receiver(target);
  auto check = [&](const FileError& error) {
    if (!error) return;
    // What the guest sent is wrong, or this host cannot store it.
    if (error.number == EPROTO || error.number == EPERM || error.number == EBADMSG) {
      throw GuestFailed({.summary = connection_->Cannot(what, error.text), .notes = {}, .next_step = {}});
    }
    throw HostLacks({.summary = connection_->Cannot(what, error.text), .notes = {}, .next_step = {}});
  };
  Receive(call, [&](const Message& message, std::string_view body) { check(receiver.Take(message, body)); });
  check(receiver.Finish());
}

std::string Agent::ReadFile(std::string_view path, Bytes limit) {
  std::string what = fmt::format("read {}", path);
  BlockingCall call(connection_, what, GetRequest(path, limit.count()), {}, kFileWindow);
  std::string content;
  internal::agent::ContentHash hash;
  bool ended = false;
  auto fail = [&](std::string_view why) {
    throw GuestFailed({.summary = connection_->Cannot(what, why), .notes = {}, .next_step = {}});
  };
  Receive(call, [&](const Message& message, std::string_view body) {
    if (message.type() == "entry" && message.Text("kind") != "file") fail("it is a directory");
    if (content.size() + body.size() > limit.count())
      fail(fmt::format("it is larger than the limit of {}", ForPeople(limit)));
    content += body;
    hash.Add(body);
    if (message.type() != "end") return;
    ended = true;
    if (message.Number("sum") != hash.Value()) fail("what arrived has another checksum than what was sent");
  });
  if (!ended) fail("the guest did not send its end");
  return content;
}

std::optional<GuestFile> Agent::Stat(std::string_view path) {
  std::string what = fmt::format("look at {}", path);
  MessageWriter request("stat");
  request.Set("path", path);
  BlockingCall call(connection_, what, std::move(request));
  auto answer = call.NextOrError(StepDeadline());
  const Message& message = answer->message;
  if (message.type() == "error") {
    if (message.Signed("errno") == ENOENT || message.Signed("errno") == ENOTDIR) return std::nullopt;
    throw connection_->Refusal(what, message);
  }
  std::string_view kind = message.Text("kind");
  return GuestFile{.type = kind == "file"   ? GuestFile::Type::kFile
                           : kind == "dir"  ? GuestFile::Type::kDirectory
                           : kind == "link" ? GuestFile::Type::kSymlink
                                            : GuestFile::Type::kOther,
                   .size = message.Number("size"),
                   .mode = static_cast<uint32_t>(message.Number("mode")),
                   .uid = static_cast<uint32_t>(message.Number("uid")),
                   .gid = static_cast<uint32_t>(message.Number("gid"))};
}

}  // namespace mayfly
