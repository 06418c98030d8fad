// What the helper says, over its socket, while no guest runs. It is built over the facsimile here.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/test_directory.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <future>
#include <optional>
#include <string>

#include "drivers/vz/helper_probe.h"
#include "drivers/vz/helper_process.h"
#include "drivers/vz/request.h"

namespace mayfly::vz {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::StartsWith;

Deadline Soon() { return Deadline::After(Scaled(std::chrono::seconds(20))); }

class VzHelper : public testing::Test {
 protected:
  void SetUp() override {
    try {
      program_ = ProbeHelper().program;
    } catch (const HostLacks& error) {
      GTEST_SKIP() << "not verified here: " << error.what();
    }
    internal::WriteWholeFile(directory_ / "kernel", "kernel");
  }

  HelperProcess& Start() {
    auto on_exit = [this](const HelperExit& exit) { exit_.set_value(exit); };
    return helper_.emplace(
        sandbox_, HelperProcess::Options{.program = program_, .log = sandbox_.Path("vmm.log"), .on_exit = on_exit});
  }

  // What "create" is refused with; empty when it is done.
  std::string Refusal(MachineSpec spec) {
    spec.boot.kernel = directory_ / "kernel";
    CreateRequest request = MakeCreateRequest(spec, {}, sandbox_, {});
    try {
      helper_->Call("create", request.body, request.descriptors, Soon());
    } catch (const Error& error) {
      return std::string(error.kind()) + " " + error.what();
    }
    return "";
  }
  std::string RefusalOf(const std::string& operation, const json& body = json::object()) {
    try {
      helper_->Call(operation, body, {}, Soon());
    } catch (const Error& error) {
      return std::string(error.kind()) + " " + error.what();
    }
    return "";
  }

  internal::TestDirectory directory_;
  Sandbox sandbox_ = Sandbox::Create("vz");
  std::filesystem::path program_;
  std::promise<HelperExit> exit_;
  std::optional<HelperProcess> helper_;  // goes first
};

// A Mac that is played otherwise, by the helpers of one test.
class VzOtherMac : public VzHelper {
 protected:
  void Play(const char* host) { setenv("MAYFLY_VZ_SIMULATED_HOST", host, 1); }  // NOLINT(concurrency-mt-unsafe)
  void TearDown() override { unsetenv("MAYFLY_VZ_SIMULATED_HOST"); }            // NOLINT(concurrency-mt-unsafe)
};

TEST_F(VzHelper, SaysThatItIsSimulated) {
  EXPECT_TRUE(ProbeHelper().simulated);
  EXPECT_THAT(ProbeHelper().Text(), StartsWith("simulated Virtualization.framework of macOS "));
}

TEST_F(VzHelper, MakesOneMachineWithAnIdentifierOfItsOwn) {
  Start();
  CreateRequest request = MakeCreateRequest({.boot = {.kernel = directory_ / "kernel"}}, {}, sandbox_, {});
  json made = helper_->Call("create", request.body, request.descriptors, Soon());
  EXPECT_EQ(made.at("machine_identifier").get_binary().size(), 16U);
  EXPECT_THAT(Refusal({}), HasSubstr("this helper has its machine already"));
}

TEST_F(VzHelper, RefusesWhatComesBeforeTheMachineOrIsNoOperation) {
  Start();
  EXPECT_THAT(RefusalOf("start"), AllOf(StartsWith("BadSpec"), HasSubstr("comes after 'create'")));
  EXPECT_THAT(RefusalOf("create"), AllOf(StartsWith("BadSpec"), HasSubstr("cannot be read")));
  ASSERT_EQ(Refusal({}), "");
  EXPECT_THAT(RefusalOf("dance"), AllOf(StartsWith("BadSpec"), HasSubstr("no operation 'dance'")));
  EXPECT_THAT(RefusalOf("balloon"), HasSubstr("memory"));
}

TEST_F(VzHelper, GivesTheFrameworksOwnWordsForAWrongState) {
  Start();
  ASSERT_EQ(Refusal({}), "");
  EXPECT_THAT(RefusalOf("pause"),
              AllOf(StartsWith("BadSpec"), HasSubstr("cannot pause: Invalid virtual machine state transition."),
                    HasSubstr("from state “stopped” to state “pausing”"), HasSubstr("VZErrorDomain 4")));
  EXPECT_THAT(RefusalOf("request_stop"), HasSubstr("VZErrorDomain 3"));
  EXPECT_EQ(RefusalOf("stop"), "") << "a machine that is stopped is stopped";
}

TEST_F(VzHelper, NamesTheFieldAndItsLimits) {
  Start();
  EXPECT_THAT(Refusal({.cpus = 1000}),
              AllOf(StartsWith("BadSpec"), HasSubstr("cpus: 1000"), HasSubstr("allowed: 1 to")));
  EXPECT_THAT(Refusal({.memory = Bytes((uint64_t{64} << 20) + 4096)}), HasSubstr("multiple of 1 MiB"));
  EXPECT_THAT(Refusal({.nics = {{.id = "a", .mac = "02:00"}}}), HasSubstr("\"02:00\" is no address"));
  EXPECT_THAT(Refusal({.shares = {{.tag = "", .path = "/"}}}), HasSubstr("tag cannot be empty"));
  EXPECT_THAT(Refusal({.shares = {{.tag = "t", .path = "/"}, {.tag = "t", .path = "/"}}}), HasSubstr("duplicate tags"));
}

TEST_F(VzHelper, ADescriptorThatDidNotComeIsTold) {
  Start();
  CreateRequest request = MakeCreateRequest({.boot = {.kernel = directory_ / "kernel"}}, {}, sandbox_, {});
  EXPECT_THAT(RefusalOf("create", request.body), HasSubstr("did not come with it"));
}

TEST_F(VzHelper, EndsWithItsDriver) {
  Start();
  pid_t pid = helper_->pid();
  helper_.reset();
  EXPECT_EQ(kill(pid, 0), -1);
}

TEST_F(VzHelper, ItsEndIsToldWithHowItCame) {
  Start();
  ASSERT_EQ(kill(helper_->pid(), SIGKILL), 0);
  EXPECT_THAT(RefusalOf("start"), AllOf(StartsWith("VmmDied"), HasSubstr("ended before it had answered 'start'")));
  EXPECT_TRUE(helper_->WaitForExit(Soon()));
  EXPECT_EQ(exit_.get_future().get().status.signal, SIGKILL);
}

TEST_F(VzOtherMac, WithoutTheEntitlementSaysHowToSign) {
  Play("no-entitlement");
  Start();
  EXPECT_THAT(Refusal({}), AllOf(StartsWith("HostLacks"), HasSubstr("entitlement"), HasSubstr("codesign --force")));
}

TEST_F(VzOtherMac, ThatCannotVirtualiseSaysSo) {
  Play("no-hardware");
  Start();
  EXPECT_THAT(Refusal({}),
              AllOf(StartsWith("HostLacks"), HasSubstr("Virtualization is not available on this hardware.")));
}

}  // namespace
}  // namespace mayfly::vz
