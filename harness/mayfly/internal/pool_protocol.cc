#include <mayfly/internal/pool_protocol.h>

#include <mayfly/errors.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace mayfly::internal {
namespace {

using nlohmann::json;

template <typename Kind>
[[noreturn]] void Throw(ErrorText text) {
  throw Kind(std::move(text));
}

struct ErrorKind {
  std::string_view name;
  void (*raise)(ErrorText text);
};

constexpr std::array kErrorKinds = {
    ErrorKind{"BadSpec", Throw<BadSpec>},       ErrorKind{"HostLacks", Throw<HostLacks>},
    ErrorKind{"BootFailed", Throw<BootFailed>}, ErrorKind{"GuestFailed", Throw<GuestFailed>},
    ErrorKind{"Timeout", Throw<Timeout>},       ErrorKind{"VmmDied", Throw<VmmDied>},
};

}  // namespace

json ToJson(const ChildOptions& options) {
  json targets = json::array();
  for (const auto& [ours, target] : options.inherit) targets.push_back(target);
  return {{"argv", options.argv},
          {"streams", {options.stdin_path.string(), options.stdout_path.string(), options.stderr_path.string()}},
          {"targets", targets},
          {"environment", options.environment},
          {"working_directory", options.working_directory.string()}};
}

json ToJson(const std::optional<AgentSession>& session) {
  if (!session) return nullptr;
  const AgentHello& hello = session->hello;
  return {{"client", session->client}, {"last_request", session->last_request},
          {"session", hello.session},  {"protocol", hello.protocol},
          {"version", hello.version},  {"boot", hello.boot_id},
          {"kernel", hello.kernel},    {"hostname", hello.hostname},
          {"init", hello.init}};
}

std::optional<AgentSession> AgentSessionFromJson(const json& json) {
  if (json.is_null()) return std::nullopt;
  return AgentSession{.client = json.at("client").get<uint64_t>(),
                      .last_request = json.at("last_request").get<uint64_t>(),
                      .hello = {.session = json.at("session").get<uint64_t>(),
                                .protocol = json.at("protocol").get<uint32_t>(),
                                .version = json.at("version").get<std::string>(),
                                .boot_id = json.at("boot").get<std::string>(),
                                .kernel = json.at("kernel").get<std::string>(),
                                .hostname = json.at("hostname").get<std::string>(),
                                .init = json.at("init").get<bool>()}};
}

ChildOptions ChildOptionsFromJson(const json& json, const std::vector<UniqueFd>& descriptors) {
  ChildOptions options;
  options.argv = json.at("argv").get<std::vector<std::string>>();
  auto streams = json.at("streams").get<std::array<std::string, 3>>();
  options.stdin_path = streams[0];
  options.stdout_path = streams[1];
  options.stderr_path = streams[2];
  auto targets = json.at("targets").get<std::vector<int>>();
  if (targets.size() != descriptors.size()) {
    throw HostLacks({.summary = "a pool request came without the descriptors that it names"});
  }
  for (size_t i = 0; i < targets.size(); ++i) {
    if (targets[i] < 3 || targets[i] > 1023) throw BadSpec({.summary = "a descriptor number must be from 3 to 1023"});
    options.inherit.emplace_back(descriptors[i].get(), targets[i]);
  }
  options.environment = json.at("environment").get<std::vector<std::pair<std::string, std::string>>>();
  options.working_directory = json.at("working_directory").get<std::string>();
  return options;
}

json ToJson(const Error& error) {
  json object = {{"kind", error.kind()},
                 {"summary", error.text().summary},
                 {"notes", error.text().notes},
                 {"next_step", error.text().next_step}};
  if (const auto* unsupported = dynamic_cast<const Unsupported*>(&error)) {
    object["capability"] = std::string(ToString(unsupported->capability()));
    object["driver"] = unsupported->driver();
    object["reason"] = unsupported->reason();
  }
  return object;
}

void ThrowFromJson(const json& json) {
  std::string kind = json.value("kind", "");
  if (auto capability = CapabilityFromId(json.value("capability", "")); capability && kind == "Unsupported") {
    throw Unsupported(*capability, json.value("driver", ""), json.value("reason", ""));
  }
  ErrorText text{.summary = json.value("summary", "the pool failed without saying why"),
                 .notes = json.value("notes", std::vector<std::string>{}),
                 .next_step = json.value("next_step", "")};
  const auto* known =
      std::find_if(kErrorKinds.begin(), kErrorKinds.end(), [&](const auto& k) { return k.name == kind; });
  if (known != kErrorKinds.end()) known->raise(text);
  throw Error(std::move(text));
}

}  // namespace mayfly::internal
