// Real forks in the budget of the pool: each VM that is alive has its part of it, and warm ones give way.
#include <gmock/gmock.h>
#include <mayfly/vm.h>

#include <future>
#include <nlohmann/json.hpp>
#include <string>

#include "daemon/pool_fixture.h"

namespace mayfly::internal {
namespace {

using literals::operator""_MiB;
using nlohmann::json;
using testing::HasSubstr;

class ForkAdmission : public PoolFixture {
 protected:
  void SetUp() override {
    PoolFixture::SetUp();
    Set("MAYFLY_POOL_WARM", "0");
  }

  static Vm Fork() { return Vm::Fork({.memory = 128_MiB}); }
  static uint64_t Promised() { return Status().at("admission").at("memory").at("promised"); }
};

TEST_F(ForkAdmission, AForkHasATicketAsLongAsItLives) {
  EXPECT_EQ(Promised(), 0U);
  {
    Vm vm = Fork();
    EXPECT_GT(Promised(), (25_MiB).count());
    EXPECT_LT(Promised(), (224_MiB).count()) << "less than all that it could take";
    vm.Snapshot("here");
    uint64_t before = Promised();
    vm.Revert("here");
    EXPECT_LT(Promised(), before * 2) << "the VM that it went back from has gone";
    EXPECT_EQ(Status().at("leases").size(), 1U);
  }
  EXPECT_EQ(Promised(), 0U);
}

TEST_F(ForkAdmission, AForkWaitsForRoomAndIsToldForWhose) {
  Fork();                               // the template is there
  Set("MAYFLY_POOL_MEMORY", "230MiB");  // one of them, which may grow to all that it could take
  auto held = Lease::Open({.name = "held", .memory = 128_MiB});
  Set("MAYFLY_POOL_WAIT", "0");
  try {
    Fork();
    FAIL() << "there is no room";
  } catch (const Timeout& error) {
    EXPECT_THAT(error.what(), HasSubstr("holds 1 VM with 128 MiB"));
  }
  held.reset();
  Vm vm = Fork();
  EXPECT_EQ(vm.Exec("echo alive").OrThrow().out, "alive\n");
}

TEST_F(ForkAdmission, AStartedVmmServesTheLeaseForWhichNoForkIsWarm) {
  Fork();  // the template is there
  Set("MAYFLY_POOL_WARM", "1");
  Vm first = Fork();
  Await("warm", 1);
  Await("started", 1);
  // Both have an idle ticket, and those who get them the tickets of any fork.
  EXPECT_EQ(Status().at("admission").at("cpus").at("promised"), 1.0 / 16);
  Vm warm = Fork(), started = Fork();
  EXPECT_EQ(started.Exec("hostname").OrThrow().out, started.name() + "\n");
  EXPECT_NE(started.name(), warm.name());
  EXPECT_EQ(Status().at("admission").at("cpus").at("promised"), 3.0 / 16);
  Await("warm", 1);
  Await("started", 1);
}

TEST_F(ForkAdmission, ACloneCountsAsAForkDoes) {
  Vm vm = Fork();
  EXPECT_EQ(Status().at("admission").at("cpus").at("promised"), 1.0 / 16);
  Vm clone = vm.Clone();
  EXPECT_EQ(Status().at("admission").at("cpus").at("promised"), 2.0 / 16);
  EXPECT_LT(Promised(), 2 * (224_MiB).count()) << "less than all that both could take";
  EXPECT_EQ(clone.Exec("echo alive").OrThrow().out, "alive\n");
}

TEST_F(ForkAdmission, WarmForksHoldIdleTicketsAndGiveWay) {
  Fork();  // the template is there
  Set("MAYFLY_POOL_WARM", "2");
  Set("MAYFLY_POOL_MEMORY", "700MiB");
  Fork();
  Await("warm", 2);
  json memory = Status().at("admission").at("memory");
  EXPECT_GT(memory.at("idle"), 2 * (25_MiB).count());
  EXPECT_EQ(memory.at("idle"), memory.at("promised"));

  auto large = Lease::Open({.name = "large", .memory = 600_MiB});  // with its VMM all that there is
  EXPECT_EQ(Status().at("forks").at("warm"), 0U);
  EXPECT_EQ(Promised(), (696_MiB).count());
  large.reset();

  {
    Vm cold = Fork();  // from then on there are warm ones again
    Await("warm", 2);
  }
  Vm warm = Fork();
  EXPECT_EQ(Status().at("admission").at("cpus").at("promised"), 1.0 / 16);
  EXPECT_EQ(warm.Exec("echo alive").OrThrow().out, "alive\n");
}

}  // namespace
}  // namespace mayfly::internal
