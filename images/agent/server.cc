#include "server.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "operations.h"

namespace mayfly::agent {

using internal::agent::kGreetingTail;
using internal::agent::kMaxRequests;
namespace key = internal::agent::key;

namespace {

struct Operation {
  std::string_view type;
  std::unique_ptr<Request> (*start)(Server&, uint64_t id, const Message&, std::string_view body);
};

// Everything that a host can ask for.
constexpr std::array kOperations = {
    Operation{"exec", &StartExec},     Operation{"put", &StartPut},   Operation{"get", &StartGet},
    Operation{"stat", &StartStat},     Operation{"dial", &StartDial}, Operation{"listen", &StartListen},
    Operation{"wait", &StartWait},     Operation{"sync", &StartSync}, Operation{"poweroff", &StartPowerOff},
    Operation{"reboot", &StartReboot}, Operation{"fix", &StartFix},   Operation{"quiesce", &StartQuiesce},
};

UniqueFd trace_log;

std::string BootId() {
  std::string boot = ReadSmallFile("/proc/sys/kernel/random/boot_id");
  while (!boot.empty() && boot.back() == '\n') boot.pop_back();
  return boot;
}

}  // namespace

MessageWriter Request::Reply(std::string_view type) const {
  MessageWriter message(type);
  message.Set(key::kId, id_);
  return message;
}

void Request::Send(MessageWriter message, std::string_view body) { server_.channel().Send(message.Finish(), body); }

void Request::Done(MessageWriter message) {
  if (finished_) return;
  Send(std::move(message));
  Finish();
}

void Request::Fail(const internal::agent::FileError& error) {
  if (finished_) return;
  Send(Reply("error").Set("errno", error.number).Set("text", std::string_view(error.text).substr(0, 8192)));
  Finish();
}

void Request::Finish() {
  if (!std::exchange(finished_, true)) server_.Remove(id_);
}

void Request::GiveBack(int stream, int64_t cost, int64_t window) {
  owed_[stream] += cost;
  if (owed_[stream] < window / 4) return;
  Send(Reply("credit").Set(key::kStream, stream).Set("n", std::exchange(owed_[stream], 0)));
}

Server::Server(Loop& loop, bool is_init) : loop_(loop), is_init_(is_init), boot_(BootId()) {}
Server::~Server() { EndSession(); }

void Server::Attach(UniqueFd fd, Channel::Kind kind) {
  EndSession();
  channel_ = std::make_unique<Channel>(loop_, std::move(fd), kind);
  channel_->on_frame = [this](const Frame& frame) { OnFrame(frame); };
  channel_->on_lost = [this] { OnLost(); };
  channel_->on_room = [this] {
    // Resume may finish a request, which Remove takes out of the map.
    for (auto it = requests_.begin(); it != requests_.end() && !channel_->congested();) (it++)->second->Resume();
  };
  lost_ = false;
  client_ = 0;
  session_ = RandomNumber();
  channel_->SendGreeting(Hello(0).Finish());
}

void Server::Detach() {
  EndSession();
  channel_.reset();
}

bool Server::Turn() {
  if (channel_ == nullptr) return false;
  bool more = channel_->Turn();
  finished_.clear();
  AfterTurn();
  return more;
}

void Server::OnLost() {
  EndSession();
  client_ = 0;
  lost_ = true;
}

void Server::EndSession() {
  auto requests = std::exchange(requests_, {});
  for (auto& [id, request] : requests) finished_.push_back(std::move(request));
  // Their destructors kill commands and remove temporary files. A request that is running right now is deleted by Turn.
  if (channel_ == nullptr) finished_.clear();
}

MessageWriter Server::Hello(uint64_t client) const {
  utsname name{};
  uname(&name);
  MessageWriter hello("hello");
  hello.Set("client", client).Set("session", session_).Set("protocol", internal::agent::kProtocolVersion);
  hello.Set("version", MAYFLY_VERSION).Set("boot", std::string_view(boot_)).Set("kernel", name.release);
  hello.Set("hostname", name.nodename).Set("init", is_init_);
  return hello;
}

void Server::OnGreeting(const Message& message, std::string_view body) {
  uint64_t client = message.Number("client");
  if (message.type() != "hello?" || client == 0) return;
  bool other = client_ != 0 && client_ != client;
  if (other) EndSession();
  internal::agent::FileError error{};
  // Before the session is numbered: its siblings would call theirs the same.
  if (message.Flag("fix")) error = MakeOwn(message, body);
  if (other) session_ = RandomNumber();
  client_ = client;
  lost_ = false;
  MessageWriter hello = Hello(client);
  if (error) hello.Set("errno", error.number).Set("text", std::string_view(error.text).substr(0, 1024));
  channel_->SendGreeting(hello.Finish());
}

void Server::OnFrame(const Frame& frame) {
  std::optional<Message> message = Message::Parse(frame.header);
  if (!message) return;
  if (frame.greeting && frame.body.size() < kGreetingTail) return;
  if (frame.greeting) return OnGreeting(*message, frame.body.substr(0, frame.body.size() - kGreetingTail));
  uint64_t id = message->Number(key::kId);
  if (message->Number(key::kSession) != session_ || client_ == 0 || id == 0) return;
  Trace("agent: " + std::string(message->type()) + " " + std::to_string(id));
  auto running = requests_.find(id);
  if (running != requests_.end()) {
    if (message->type() != "cancel") return running->second->Take(*message, frame.body);
    finished_.push_back(std::move(running->second));
    requests_.erase(running);
    return;
  }
  for (const Operation& operation : kOperations) {
    if (operation.type != message->type()) continue;
    if (full()) {
      MessageWriter busy("error");
      busy.Set(key::kId, id).Set("errno", EBUSY).Set("text", "more than 1024 requests at once");
      return channel_->Send(busy.Finish());
    }
    std::unique_ptr<Request> request = operation.start(*this, id, *message, frame.body);
    if (!request->finished()) requests_[id] = std::move(request);
    return;
  }
  // Frames of a request that has ended meanwhile are late, not wrong. Anything else is answered, so that the host does
  // not wait for what this agent does not know.
  static constexpr std::array<std::string_view, 7> kLate = {"data",   "entry",  "end",   "eof",
                                                            "credit", "signal", "resize"};
  for (std::string_view late : kLate) {
    if (message->type() == late) return;
  }
  if (message->type() == "cancel") return;
  MessageWriter unknown("error");
  std::string text = "this agent has no operation '" + std::string(message->type().substr(0, 40)) + "'";
  unknown.Set(key::kId, id).Set("errno", ENOSYS).Set("text", std::string_view(text));
  channel_->Send(unknown.Finish());
}

void Server::Add(std::unique_ptr<Request> request) {
  uint64_t id = request->id();
  requests_[id] = std::move(request);
}

void Server::Remove(uint64_t id) {
  auto found = requests_.find(id);
  if (found == requests_.end()) return;  // it finished while it was started
  finished_.push_back(std::move(found->second));
  requests_.erase(found);
}

bool Server::full() const { return requests_.size() >= kMaxRequests; }

size_t Server::connections() const {
  size_t count = 0;
  for (const auto& [id, request] : requests_) count += id & 1;  // ids of the agent's are odd
  return count;
}

void Trace(const std::string& line) {
  if (trace_log && write(trace_log.get(), line.data(), line.size()) < 0) trace_log.Reset();
}

void EnableTrace() { trace_log.Reset(open("/dev/kmsg", O_WRONLY | O_CLOEXEC)); }

uint64_t RandomNumber() {
  uint64_t number = 0;
  // An early boot has no entropy yet: a session needs to differ, not to be secret, so the clock makes up for that.
  if (getrandom(&number, sizeof number, GRND_NONBLOCK) != sizeof number) {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    number = static_cast<uint64_t>(now.tv_sec) * 1'000'000'007 ^ static_cast<uint64_t>(now.tv_nsec) << 20 ^
             static_cast<uint64_t>(getpid());
  }
  return number | 1;  // never 0
}

std::string ReadSmallFile(const char* path) {
  UniqueFd file(open(path, O_RDONLY | O_CLOEXEC));
  std::string content;
  char buffer[4096];
  while (file && content.size() < (1 << 20)) {
    ssize_t count = read(file.get(), buffer, sizeof buffer);
    if (count <= 0) break;
    content.append(buffer, static_cast<size_t>(count));
  }
  return content;
}

}  // namespace mayfly::agent
