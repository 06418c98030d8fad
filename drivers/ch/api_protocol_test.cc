#include "drivers/ch/api.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/error_of_fixture.h>
#include <sys/stat.h>

#include <array>
#include <chrono>
#include <future>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "drivers/ch/api_error.h"
#include "drivers/ch/scripted_server_fixture.h"

namespace mayfly::ch {
namespace {

using internal::ErrorOf;
using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

using Peer = ScriptedServer::Peer;

constexpr const char* kPing =
    R"({"build_version":"v53.0.0","version":"53.0.0","pid":77,"features":["io_uring","kvm"]})";

Deadline Soon() { return Deadline::After(seconds(20)); }

// Says the same to every request of every connection.
ScriptedServer::Script Always(std::string text) {
  return [text = std::move(text)](Peer& peer) {
    while (peer.Hear()) peer.Say(text);
  };
}

// Something with a pidfd that lives until it is killed.
internal::ChildProcess Living() { return internal::ChildProcess({.argv = {"sleep", "1000"}, .grace = {}}); }

// --- Requests -------------------------------------------------------------------------------------------------------

// What each method sends and what it makes of the usual answer.
class ApiRequests : public testing::Test {
 protected:
  std::string Sent(const std::function<void(Api&)>& call, const std::string& answer = NoContent()) {
    std::string sent;
    {
      ScriptedServer server([&](Peer& peer) {
        while (auto request = peer.Hear()) {
          sent = request->Line() + (request->body.empty() ? "" : " " + request->body);
          if (request->half_closed) sent += " and closed its side";
          if (request->body.empty() && request->head.find("Content-Length") != std::string::npos)
            sent += " with length";
          peer.Say(answer);
        }
      });
      Api api({.socket = server.path()});
      call(api);
    }
    return sent;
  }
};

struct EndpointRow {
  const char* sent;
  std::function<void(Api&)> call;
};

TEST_F(ApiRequests, EachMethodCallsItsEndpoint) {
  const std::vector<EndpointRow> rows = {
      {"PUT vmm.shutdown", [](Api& api) { api.ShutdownVmm(Soon()); }},
      {"PUT vm.delete", [](Api& api) { api.Delete(Soon()); }},
      {"PUT vm.boot", [](Api& api) { api.Boot(Soon()); }},
      {"PUT vm.shutdown", [](Api& api) { api.Shutdown(Soon()); }},
      {"PUT vm.reboot", [](Api& api) { api.Reboot(Soon()); }},
      {"PUT vm.power-button", [](Api& api) { api.PowerButton(Soon()); }},
      {"PUT vm.pause", [](Api& api) { api.Pause(Soon()); }},
      {"PUT vm.resume", [](Api& api) { api.Resume(Soon()); }},
      {"PUT vm.nmi", [](Api& api) { api.Nmi(Soon()); }},
      {R"(PUT vm.create {"payload":{"kernel":"/k"}})",
       [](Api& api) { api.Create({.payload = PayloadConfig{.kernel = "/k"}}, Soon()); }},
      {R"(PUT vm.resize {"desired_vcpus":2})", [](Api& api) { api.ResizeVm({.desired_vcpus = 2}, Soon()); }},
      {R"(PUT vm.resize-zone {"desired_ram":512,"id":"z"})", [](Api& api) { api.ResizeZone("z", 512, Soon()); }},
      {R"(PUT vm.resize-disk {"desired_size":512,"id":"d"})", [](Api& api) { api.ResizeDisk("d", 512, Soon()); }},
      {R"(PUT vm.add-disk {"id":"d","image_type":"Qcow2","path":"/d"})",
       [](Api& api) { api.AddDisk({.pci = {.id = "d"}, .path = "/d", .image_type = ImageType::kQcow2}, Soon()); }},
      {R"(PUT vm.add-net {"tap":"t0"})", [](Api& api) { api.AddNet({.tap = "t0"}, Soon()); }},
      {R"(PUT vm.add-fs {"socket":"/s","tag":"t"})", [](Api& api) { api.AddFs({.tag = "t", .socket = "/s"}, Soon()); }},
      {R"(PUT vm.add-generic-vhost-user {"device_type":26,"queue_sizes":[128,128],"socket":"/s"})",
       [](Api& api) {
         api.AddGenericVhostUser({.socket = "/s", .queue_sizes = {128, 128}, .device_type = 26}, Soon());
       }},
      {R"(PUT vm.add-pmem {"file":"/p"})", [](Api& api) { api.AddPmem({.file = "/p"}, Soon()); }},
      {R"(PUT vm.add-vsock {"cid":3,"socket":"/v"})", [](Api& api) { api.AddVsock({.socket = "/v"}, Soon()); }},
      {R"(PUT vm.add-vdpa {"path":"/dev/vhost-vdpa-0"})",
       [](Api& api) { api.AddVdpa({.path = "/dev/vhost-vdpa-0"}, Soon()); }},
      {R"(PUT vm.add-device {"path":"/sys/d"})", [](Api& api) { api.AddDevice({.path = "/sys/d"}, Soon()); }},
      {R"(PUT vm.add-user-device {"socket":"/u"})", [](Api& api) { api.AddUserDevice({.socket = "/u"}, Soon()); }},
      {R"(PUT vm.remove-device {"id":"d"})", [](Api& api) { api.RemoveDevice("d", Soon()); }},
      {R"(PUT vm.snapshot {"destination_url":"file:///snap"})", [](Api& api) { api.Snapshot("/snap", Soon()); }},
      {R"(PUT vm.restore {"memory_restore_mode":"OnDemand","resume":true,"source_url":"file:///snap"})",
       [](Api& api) {
         api.Restore(
             {.source_url = "file:///snap", .memory_restore_mode = MemoryRestoreMode::kOnDemand, .resume = true},
             Soon());
       }},
      {R"(PUT vm.coredump {"destination_url":"file:///core"})", [](Api& api) { api.CoreDump("/core", Soon()); }},
      {R"(PUT vm.send-migration {"destination_url":"unix:/m","local":true})",
       [](Api& api) { api.StartMigration({.destination_url = "unix:/m", .local = true}, Soon()); }},
      {R"(PUT vm.receive-migration {"receiver_url":"unix:/m"})",
       [](Api& api) { api.AcceptMigration({.receiver_url = "unix:/m"}, Soon()); }},
  };
  for (const EndpointRow& row : rows) EXPECT_EQ(Sent(row.call), row.sent);
}

TEST_F(ApiRequests, ReadsWhatIsAnswered) {
  EXPECT_EQ(
      Sent([](Api& api) { EXPECT_EQ(api.PingVmm(Soon()).features, (std::vector<std::string>{"io_uring", "kvm"})); },
           Reply("200", kPing)),
      "GET vmm.ping");
  EXPECT_EQ(Sent([](Api& api) { EXPECT_EQ(api.Info(Soon()).state, VmState::kPaused); },
                 Reply("200", R"({"config":{"memory":{"size":512}},"state":"Paused","memory_actual_size":512})")),
            "GET vm.info");
  EXPECT_EQ(Sent([](Api& api) { EXPECT_EQ(api.ReadCounters(Soon())["_disk0"]["read_ops"], 7); },
                 Reply("200", R"({"_disk0":{"read_ops":7,"read_latency_min":18446744073709551615}})")),
            "GET vm.counters");
  Sent([](Api& api) { EXPECT_EQ(api.AddPmem({.file = "/p"}, Soon()), (PciDevice{"_pmem3", "0000:00:06.0"})); },
       Reply("200", R"({"id":"_pmem3","bdf":"0000:00:06.0"})"));
  Sent([](Api& api) { EXPECT_FALSE(api.AddPmem({.file = "/p"}, Soon())) << "nothing is plugged before the boot"; });
}

TEST_F(ApiRequests, DescriptorsGoWithTheRequestAndStayTheCallers) {
  std::vector<ino_t> received;
  ScriptedServer server([&](Peer& peer) {
    while (auto request = peer.Hear()) {
      for (const internal::UniqueFd& descriptor : request->descriptors) {
        struct stat file{};
        fstat(descriptor.get(), &file);
        received.push_back(file.st_ino);
      }
      peer.Say(NoContent());
    }
  });
  internal::TestDirectory directory;
  std::vector<internal::UniqueFd> files;
  std::vector<ino_t> inodes;
  std::vector<int> numbers;
  for (const char* name : {"a", "b"}) {
    files.emplace_back(open((directory / name).c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    struct stat file{};
    ASSERT_EQ(fstat(files.back().get(), &file), 0);
    inodes.push_back(file.st_ino);
    numbers.push_back(files.back().get());
  }
  Api api({.socket = server.path()});
  api.AddNet({.num_queues = 4}, Soon(), numbers);
  EXPECT_EQ(received, inodes);
  received.clear();
  api.AddDevice({}, Soon(), numbers[1]);
  EXPECT_THAT(received, ElementsAre(inodes[1]));
  received.clear();
  api.Restore({.source_url = "file:///s", .net_fds = {{"n", 2}}}, Soon(), numbers);
  EXPECT_EQ(received, inodes);
  EXPECT_GE(fcntl(numbers[0], F_GETFD), 0);
}

TEST_F(ApiRequests, TooLongOrNoTextIsRefusedBeforeItIsSent) {
  ScriptedServer server(Always(NoContent()));
  Api api({.socket = server.path()});
  EXPECT_THAT(
      ErrorOf<BadSpec>([&] { api.Create({.payload = PayloadConfig{.cmdline = std::string(60'000, 'x')}}, Soon()); }),
      HasSubstr("Cloud Hypervisor accepts 51200"));
  EXPECT_THAT(ErrorOf<BadSpec>([&] { api.AddDisk({.path = "/\xff"}, Soon()); }), HasSubstr("not UTF-8"));
  EXPECT_EQ(server.accepted(), 0);
}

TEST_F(ApiRequests, OneConnectionServesManyCalls) {
  ScriptedServer server(Always(NoContent()));
  Api api({.socket = server.path()});
  for (int i = 0; i < 100; ++i) api.Delete(Soon());
  EXPECT_EQ(server.accepted(), 1);
}

TEST_F(ApiRequests, AConnectionThatWasClosedMeanwhileIsReplaced) {
  ScriptedServer server([](Peer& peer) {
    peer.Hear();
    peer.Say(NoContent());
  });
  Api api({.socket = server.path()});
  for (int i = 0; i < 3; ++i) {
    EXPECT_NO_THROW(api.Delete(Soon())) << "call " << i;
    server.AwaitClosed(i + 1);
  }
  EXPECT_EQ(server.accepted(), 3);
}

// --- Refusals -------------------------------------------------------------------------------------------------------

TEST(ApiRefusals, CarryTheChainFromTheRequestToTheCause) {
  ScriptedServer server(
      Always(Reply("500", R"(["Error from API","The VM could not boot","Cannot open kernel","No such file"])")));
  Api api({.socket = server.path()});
  try {
    api.Boot(Soon());
    FAIL() << "no error";
  } catch (const ApiError& error) {
    EXPECT_EQ(error.endpoint(), "vm.boot");
    EXPECT_EQ(error.status(), 500);
    EXPECT_THAT(error.chain(),
                ElementsAre("Error from API", "The VM could not boot", "Cannot open kernel", "No such file"));
    EXPECT_TRUE(error.Says("open kernel"));
    EXPECT_FALSE(error.Says("disk"));
    EXPECT_THAT(error.what(), StartsWith("mayfly: Cloud Hypervisor refused 'vm.boot' (500): No such file\n"));
  }
}

TEST(ApiRefusals, MayBeNoJson) {
  const std::string text = "{ \"error\": \"Invalid header.\nAll previous unanswered requests will be dropped.\" }";
  ScriptedServer server(Always(Reply("400", text)));
  Api api({.socket = server.path()});
  std::string error = ErrorOf<ApiError>([&] { api.Boot(Soon()); });
  EXPECT_THAT(error, HasSubstr("(400): { \"error\": \"Invalid header. All previous"));
}

TEST(ApiRefusals, MayHaveNoBodyOrAnyBytes) {
  const std::vector<std::string> bodies = {"", "[]", "[[[[", "[1,null,{}]", "\xff\xfe\x01", std::string(100'000, '[')};
  for (const std::string& body : bodies) {
    ScriptedServer server(Always(Reply("500", body)));
    Api api({.socket = server.path()});
    std::string error = ErrorOf<ApiError>([&] { api.Boot(Soon()); });
    EXPECT_THAT(error, HasSubstr("refused 'vm.boot' (500)"));
    EXPECT_LT(error.size(), 600);
    EXPECT_NO_THROW(json(error).dump()) << "the message is no UTF-8";
  }
}

TEST(ApiRefusals, ACpuThatHasNotLeftYetIsAskedForAgain) {
  std::atomic<int> asked = 0;
  ScriptedServer server([&](Peer& peer) {
    while (peer.Hear()) peer.Say(++asked < 4 ? Reply("429", R"(["pending"])") : NoContent());
  });
  Api api({.socket = server.path()});
  api.ResizeVm({.desired_vcpus = 1}, Soon());
  EXPECT_EQ(asked, 4);
}

TEST(ApiRefusals, AskingAgainEndsWithTheDeadlineAndTheRefusal) {
  ScriptedServer server(Always(Reply("429", R"(["A vCPU removal is pending"])")));
  Api api({.socket = server.path()});
  EXPECT_THAT(ErrorOf<ApiError>([&] { api.ResizeVm({.desired_vcpus = 1}, Deadline::After(milliseconds(150))); }),
              HasSubstr("A vCPU removal is pending"));
}

TEST(ApiRefusals, OnlyResizeIsAskedAgain) {
  std::atomic<int> asked = 0;
  ScriptedServer server([&](Peer& peer) {
    while (peer.Hear()) {
      ++asked;
      peer.Say(Reply("429", "[]"));
    }
  });
  Api api({.socket = server.path()});
  EXPECT_THROW(api.Boot(Soon()), ApiError);
  EXPECT_EQ(asked, 1);
}

TEST(ApiRefusals, AnEleventhConnectionWaitsForAPlace) {
  constexpr int kCalls = 16;
  std::promise<ScriptedServer*> made;
  std::shared_future<ScriptedServer*> server_made = made.get_future().share();
  ScriptedServer server([&](Peer& peer) {
    while (peer.Hear()) {
      server_made.get()->AwaitTurnedAway();  // so the first ten hold their places until an eleventh has come
      peer.Say(NoContent());
    }
  });
  made.set_value(&server);
  Api api({.socket = server.path()});
  std::vector<std::future<void>> calls;
  calls.reserve(kCalls);
  for (int i = 0; i < kCalls; ++i) calls.push_back(std::async(std::launch::async, [&] { api.Delete(Soon()); }));
  for (auto& call : calls) EXPECT_NO_THROW(call.get());
  EXPECT_GT(server.turned_away(), 0);
}

// --- Answers that are none ------------------------------------------------------------------------------------------

struct NonsenseRow {
  const char* name;
  std::string answer;
  const char* told;
};

class ApiNonsense : public testing::TestWithParam<NonsenseRow> {};

TEST_P(ApiNonsense, IsTold) {
  ScriptedServer server(Always(GetParam().answer));
  Api api({.socket = server.path(), .max_answer = 100'000});
  EXPECT_THAT(ErrorOf<BadAnswer>([&] { api.PingVmm(Soon()); }), HasSubstr(GetParam().told));
}

INSTANTIATE_TEST_SUITE_P(
    Answers, ApiNonsense,
    testing::Values(NonsenseRow{"NoHttp", "SSH-2.0-OpenSSH_9.2\r\n", "no HTTP answer"},
                    NonsenseRow{"OversizedBody", Reply("200", std::string(100'001, ' ')), "more than the 100000 bytes"},
                    NonsenseRow{"OversizedLength", "HTTP/1.1 200 \r\nContent-Length: 99999999999999\r\n\r\n",
                                "more than the 100000"},
                    NonsenseRow{"EndlessHeader", "HTTP/1.1 200 \r\nX: " + std::string(20'000, 'x'), "no HTTP answer"},
                    NonsenseRow{"EndlessFirstLine", std::string(20'000, 'x'), "no HTTP answer"},
                    NonsenseRow{"TwoAnswers", Reply("200", kPing) + NoContent(), "more than one answer"},
                    NonsenseRow{"NoJson", Reply("200", "<html>"), "is no JSON: '<html>'"},
                    NonsenseRow{"WrongType", Reply("200", R"({"pid":"one"})"), R"(pid: "one" is no whole number)"},
                    NonsenseRow{"Deep", Reply("200", std::string(5'000, '[')), "nested too deeply"}),
    [](const auto& row) { return row.param.name; });

TEST(ApiCuts, ABodyThatIsCutIsTheEndOfTheVmm) {
  ScriptedServer server([](Peer& peer) {
    peer.Hear();
    peer.Say("HTTP/1.1 200 \r\nContent-Length: 500\r\n\r\n{\"build");
  });
  Api api({.socket = server.path()});
  std::string error = ErrorOf<VmmDied>([&] { api.PingVmm(Soon()); });
  EXPECT_THAT(error, HasSubstr("ended before it had answered 'vmm.ping'"));
  EXPECT_THAT(error, HasSubstr("its body was to have 500"));
}

TEST(ApiCuts, AnAnswerMayNotEvenBegin) {
  for (const char* answer : {"", "HTTP/1.1 20", "HTTP/1.1 200 \r\nContent-"}) {
    ScriptedServer server([&](Peer& peer) {
      peer.Hear();
      peer.Say(answer);
    });
    Api api({.socket = server.path()});
    EXPECT_THAT(ErrorOf<VmmDied>([&] { api.PingVmm(Soon()); }), HasSubstr("in the middle of an answer")) << answer;
  }
}

TEST(ApiCuts, ABodyThatIsCutByALivingProcessIsNonsense) {
  internal::ChildProcess vmm = Living();
  ScriptedServer server([](Peer& peer) {
    peer.Hear();
    peer.Say("HTTP/1.1 200 \r\nContent-Length: 500\r\n\r\n{\"build");
  });
  Api api({.socket = server.path(), .pidfd = vmm.pidfd()});
  EXPECT_THAT(ErrorOf<BadAnswer>([&] { api.PingVmm(Deadline::After(milliseconds(200))); }),
              HasSubstr("its process lives on"));
}

TEST(ApiCuts, AnAnswerMayComeByteByByte) {
  ScriptedServer server([](Peer& peer) {
    peer.Hear();
    for (char c : Reply("200", kPing)) peer.Say(std::string(1, c));
    peer.AwaitClose();
  });
  Api api({.socket = server.path()});
  EXPECT_EQ(api.PingVmm(Soon()).pid, 77);
}

// --- Long calls and dead VMMs ---------------------------------------------------------------------------------------

TEST(ApiLongCalls, TimeOutAndLeaveTheClientUsable) {
  std::atomic<int> calls = 0;
  ScriptedServer server([&](Peer& peer) {
    while (peer.Hear()) {
      if (++calls == 1) return peer.AwaitClose();
      peer.Say(NoContent());
    }
  });
  internal::ChildProcess vmm = Living();
  Api api({.socket = server.path(), .pidfd = vmm.pidfd()});
  EXPECT_THAT(ErrorOf<Timeout>([&] { api.Boot(Deadline::After(milliseconds(50))); }), HasSubstr("its process lives"));
  EXPECT_NO_THROW(api.Delete(Soon()));
}

TEST(ApiLongCalls, EndWithTheProcess) {
  internal::ChildProcess vmm = Living();
  ScriptedServer server([&](Peer& peer) {
    peer.Hear();
    vmm.Signal(SIGKILL);
    peer.AwaitClose();
  });
  Api api({.socket = server.path(), .pidfd = vmm.pidfd()});
  EXPECT_THAT(ErrorOf<VmmDied>([&] { api.AcceptMigration({.receiver_url = "unix:/m"}, Deadline::Never()); }),
              HasSubstr("ended before it had answered 'vm.receive-migration'"));
}

TEST(ApiLongCalls, ALastWordBeforeTheEndIsHeard) {
  internal::ChildProcess vmm = Living();
  ScriptedServer server([&](Peer& peer) {
    peer.Hear();
    vmm.Kill();
    peer.Say(Reply("200", ""));
  });
  Api api({.socket = server.path(), .pidfd = vmm.pidfd()});
  // The answer and the end race; whichever is seen first is told as what it is.
  try {
    api.ShutdownVmm(Soon());
  } catch (const VmmDied& error) {
    EXPECT_THAT(error.what(), HasSubstr("vmm.shutdown"));
  }
}

TEST(ApiConnect, TellsWhatIsMissing) {
  internal::TestDirectory directory;
  Api nothing({.socket = directory / "none.sock"});
  EXPECT_THAT(ErrorOf<HostLacks>([&] { nothing.PingVmm(Soon()); }), HasSubstr("none.sock': No such file"));
  {
    ScriptedServer server(Always(NoContent()));
    std::filesystem::create_hard_link(server.path(), directory / "stale.sock");
  }
  Api stale({.socket = directory / "stale.sock"});
  EXPECT_THAT(ErrorOf<VmmDied>([&] { stale.PingVmm(Soon()); }), HasSubstr("nobody listens"));
  Api longest({.socket = directory / std::string(200, 'x')});
  EXPECT_THAT(ErrorOf<BadSpec>([&] { longest.PingVmm(Soon()); }), HasSubstr("allowed: at most 107"));
}

}  // namespace
}  // namespace mayfly::ch
