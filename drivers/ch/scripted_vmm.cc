// A program that plays Cloud Hypervisor for protocol tests of its machines: it takes the same descriptors (the API's
// listener as 3, the event monitor as 4), answers each request as a script says, and writes down what it was asked.
//
// The script is the file that $MAYFLY_SCRIPTED_VMM names, a rule a line:
//
//   vm.boot 500 ["The VM could not boot","No such file"]      answers that
//   vm.pause 204 vm/paused                                    tells these events and then answers
//   vm.create exit 1                                          ends
//   vm.create signal 9                                        is ended
//   vm.info hang                                              never answers
//
// Without a rule a request does what it does in the real one, as far as the driver looks. The requests are appended to
// <script>.requests, "PUT vm.boot" a line. It never counts as Cloud Hypervisor: nothing it shows is evidence.
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>

namespace {

constexpr int kApi = 3;
constexpr int kEvents = 4;

struct Rule {
  std::string kind{};  // an HTTP status, "exit", "signal" or "hang"
  std::string rest{};
};

std::string Script() {
  const char* path = std::getenv("MAYFLY_SCRIPTED_VMM");  // NOLINT(concurrency-mt-unsafe): one thread
  return path != nullptr ? path : "";
}

std::map<std::string, Rule> Usual() {
  std::map<std::string, Rule> rules;
  rules["vm.boot"] = {"204", "vm/booting vm/booted"};
  rules["vm.pause"] = {"204", "vm/pausing vm/paused"};
  rules["vm.resume"] = {"204", "vm/resuming vm/resumed"};
  rules["vm.reboot"] = {"204", "vm/rebooting vm/rebooted"};
  rules["vm.restore"] = {"204", "vm/restoring vm/restored"};
  rules["vmm.shutdown"] = {"exit", "0"};
  rules["vm.counters"] = {"200", "{}"};
  rules["vm.info"] = {"200", R"({"config":{},"state":"Running","memory_actual_size":0})"};
  return rules;
}

std::map<std::string, Rule> Rules() {
  std::map<std::string, Rule> rules = Usual();
  std::ifstream file(Script());
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string endpoint;
    Rule rule;
    words >> endpoint >> rule.kind;
    std::getline(words >> std::ws, rule.rest);
    rules[endpoint] = rule;
  }
  return rules;
}

void Send(int to, std::string_view text) {
  while (!text.empty()) {
    ssize_t count = write(to, text.data(), text.size());
    if (count <= 0) return;
    text.remove_prefix(static_cast<size_t>(count));
  }
}

void TellEvents(const std::string& names) {
  std::istringstream words(names);
  for (std::string name; words >> name;) {
    size_t slash = name.find('/');
    Send(kEvents, "{\n  \"timestamp\": {\n    \"secs\": 0,\n    \"nanos\": 0\n  },\n  \"source\": \"" +
                      name.substr(0, slash) + "\",\n  \"event\": \"" + name.substr(slash + 1) +
                      "\",\n  \"properties\": null\n}\n\n");
  }
}

// What a snapshot leaves, as far as the driver reads it.
void SaveTo(const std::string& body) {
  constexpr std::string_view kBefore = "file://";
  size_t begin = body.find(kBefore) + kBefore.size();
  std::filesystem::path directory = body.substr(begin, body.find('"', begin) - begin);
  std::ofstream(directory / "config.json") << R"({"memory":{"size":1}})";
  std::ofstream(directory / "state.json") << "{}";
  std::ofstream(directory / "memory-ranges") << "memory";
}

void Answer(int connection, const Rule& rule) {
  if (rule.kind == "exit") std::_Exit(std::atoi(rule.rest.c_str()));
  while (rule.kind == "hang") pause();
  if (rule.kind == "signal") raise(std::atoi(rule.rest.c_str()));
  bool has_body = rule.rest.starts_with('[') || rule.rest.starts_with('{');
  if (!has_body) TellEvents(rule.rest);
  std::string head = "HTTP/1.1 " + rule.kind + " \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\n";
  if (has_body) {
    head += "Content-Type: application/json\r\nContent-Length: " + std::to_string(rule.rest.size()) + "\r\n\r\n" +
            rule.rest;
  } else {
    head += "\r\n";
  }
  Send(connection, head);
}

struct Request {
  std::string line{};  // "PUT vm.boot"
  std::string endpoint{};
  std::string body{};
};

std::optional<Request> Hear(int connection) {
  std::string received;
  size_t need = std::string::npos;
  size_t end = std::string::npos;
  std::array<char, 65536> chunk{};
  while (received.size() < need) {
    ssize_t count = read(connection, chunk.data(), chunk.size());
    if (count <= 0) return std::nullopt;
    received.append(chunk.data(), static_cast<size_t>(count));
    end = received.find("\r\n\r\n");
    if (end == std::string::npos) continue;
    size_t length = received.find("Content-Length: ");
    need = end + 4 + (length < end ? std::stoul(received.substr(length + 16)) : 0);
  }
  constexpr std::string_view kBase = "/api/v1/";
  Request request{.body = received.substr(end + 4)};
  size_t path = received.find(kBase) + kBase.size();
  request.endpoint = received.substr(path, received.find(' ', path) - path);
  request.line = received.substr(0, received.find(' ') + 1) + request.endpoint;
  return request;
}

}  // namespace

int main() {
  const std::map<std::string, Rule> rules = Rules();
  std::ofstream requests(Script() + ".requests", std::ios::app);
  while (true) {
    int connection = accept4(kApi, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) return 1;
    while (auto request = Hear(connection)) {
      requests << request->line << std::endl;  // NOLINT(performance-avoid-endl): it may end by the next line
      auto rule = rules.find(request->endpoint);
      if (request->endpoint == "vm.snapshot" && rule == rules.end()) SaveTo(request->body);
      Answer(connection, rule != rules.end() ? rule->second : Rule{"204", ""});
    }
    close(connection);
  }
}
