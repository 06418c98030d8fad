#include "daemon/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/message_socket.h>
#include <mayfly/internal/test_host.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <random>
#include <thread>

namespace mayfly::internal {
namespace {

using literals::operator""_GiB;
using literals::operator""_MiB;
using std::chrono::hours;
using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;

// Notices come at once, so that a test learns that somebody waits; hopeless waits end soon, where a test wants them to.
constexpr Admission::Times kTimes{.first_notice = {}, .next_notice = hours(1), .hopeless = hours(1)};
constexpr Admission::Times kSoonHopeless{.first_notice = {}, .next_notice = hours(1), .hopeless = milliseconds(1)};
constexpr Admission::Times kOftenLooking{.first_notice = {}, .next_notice = milliseconds(1), .hopeless = hours(1)};

Holder Process(pid_t pid, const std::string& name = "vm") {
  return {.program = "test", .process = pid, .thread = pid, .name = name};
}

// An Enter on a thread of its own.
class Request {
 public:
  Request(Admission& admission, Demand demand, const Holder& holder, Deadline deadline = Deadline::Never(),
          int hang_up = -1)
      : result_(std::async(std::launch::async, [=, this, &admission] {
          Admission::Patience patience{.deadline = deadline, .hang_up = hang_up, .on_wait = [this](const auto& notice) {
                                         if (!told_.exchange(true)) waiting_.set_value(notice);
                                       }};
          return admission.Enter(demand, holder, patience);
        })) {}

  // Returns when it waits.
  Admission::Notice Waits() { return waiting_.get_future().get(); }
  Admission::Ticket Get() { return result_.get(); }
  std::string Error() {
    try {
      result_.get();
    } catch (const mayfly::Error& error) {
      return std::string(error.kind()) + ": " + error.what();
    }
    return "admitted";
  }

 private:
  std::atomic<bool> told_ = false;
  std::promise<Admission::Notice> waiting_;
  std::future<Admission::Ticket> result_;
};

// A host of 16 GiB, of which VMs may have 15, and 4 CPUs, so 32 virtual ones.
class AdmissionTest : public testing::Test {
 protected:
  AdmissionTest() {
    SetAvailable(16_GiB);
    host_.Write("proc/self/status", "Cpus_allowed_list:\t0-3\n");
  }

  void SetAvailable(Bytes available) const {
    host_.Write("proc/meminfo.new",
                "MemTotal: 16777216 kB\nMemAvailable: " + std::to_string(available.count() >> 10) + " kB\n");
    std::filesystem::rename(host_.root() / "proc/meminfo.new", host_.root() / "proc/meminfo");
  }
  void SetPrivateMemory(pid_t pid, Bytes memory) const {
    uint64_t pages = memory.count() / static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    host_.Write("proc/" + std::to_string(pid) + "/statm", "999999 " + std::to_string(pages) + " 0 0 0 0 0\n");
  }
  HostBudget Budget() const { return HostBudget({.root = host_.root()}); }
  static uint64_t Available(const Admission& admission) { return admission.Info()["memory"]["available"]; }

  TestHost host_;
};

TEST_F(AdmissionTest, AdmitsWhatFitsAtOnceAndTakesItBack) {
  Admission admission(Budget(), kTimes);
  {
    Admission::Ticket ticket = admission.Enter({.memory = 4_GiB, .overhead = 1_GiB}, Process(1), {});
    EXPECT_TRUE(ticket);
    EXPECT_EQ(Available(admission), (10_GiB).count());
    Admission::Ticket moved = std::move(ticket);
    ticket = {};
    EXPECT_EQ(Available(admission), (10_GiB).count());
  }
  EXPECT_EQ(Available(admission), (15_GiB).count());
}

TEST_F(AdmissionTest, RefusesAtOnceWhatCanNeverBeHad) {
  Admission admission(Budget(), kTimes);
  Request request(admission, {.memory = 16_GiB, .overhead = 100_MiB}, Process(1, "kv"));
  std::string error = request.Error();
  EXPECT_THAT(error, HasSubstr("BadSpec: mayfly: 'kv': memory: \"16GiB\" is more than all VMs together may have here "
                               "(15 GiB); allowed: up to 15260MiB"));
  EXPECT_THAT(error, HasSubstr("100 MiB of it are for the VMM"));
  EXPECT_THAT(error, HasSubstr("MAYFLY_POOL_MEMORY"));
}

TEST_F(AdmissionTest, SumsThatOverflowAreRefused) {
  Admission admission(Budget(), kTimes);
  EXPECT_THROW(admission.Enter({.memory = Bytes(UINT64_MAX), .overhead = 1_GiB}, Process(1), {}), BadSpec);
  EXPECT_THROW(admission.Enter({.memory = 1_GiB, .overhead = Bytes(UINT64_MAX)}, Process(1), {}), BadSpec);
}

TEST_F(AdmissionTest, WaitsForRoomAndSaysWhoIsInTheWay) {
  Admission admission(Budget(), kTimes);
  Admission::Ticket a = admission.Enter({.memory = 4_GiB}, Process(4242), {});
  Admission::Ticket b = admission.Enter({.memory = 5_GiB}, Process(4242), {});
  Admission::Ticket c = admission.Enter({.memory = 2_GiB}, Process(7), {});
  Request request(admission, {.memory = 6_GiB}, Process(9, "kv"));
  Admission::Notice notice = request.Waits();
  EXPECT_EQ(notice.Text(), "waiting for 6 GiB: test (4242) holds 2 VMs with 9 GiB, test (7) holds 1 VM with 2 GiB");
  nlohmann::json json = notice.ToJson();
  EXPECT_EQ(json["holders"].size(), 3u);
  EXPECT_EQ(json["holders"][1]["memory"], (5_GiB).count());
  EXPECT_EQ(json["available"], (4_GiB).count());
  EXPECT_EQ(admission.Info()["waiting"][0]["name"], "kv");
  c = {};
  EXPECT_TRUE(request.Get());
  EXPECT_TRUE(admission.Info()["waiting"].empty());
}

TEST_F(AdmissionTest, NamesTheLargestHoldersOnly) {
  Admission admission(Budget(), kTimes);
  std::vector<Admission::Ticket> held;
  for (pid_t pid = 1; pid <= 5; ++pid) {
    held.push_back(admission.Enter({.memory = 1_GiB * static_cast<uint64_t>(pid)}, Process(pid), {}));
  }
  Request first(admission, {.memory = 1_GiB}, Process(8));
  first.Waits();
  Request second(admission, {.memory = 1_GiB}, Process(9));
  EXPECT_EQ(second.Waits().Text(),
            "waiting for 1 GiB: test (5) holds 1 VM with 5 GiB, test (4) holds 1 VM with 4 GiB, test (3) holds 1 VM "
            "with 3 GiB, and 2 others hold more; 1 waits before it");
  held.clear();
}

TEST_F(AdmissionTest, CountsPromisedMemoryUntilItIsUsed) {
  Admission admission(Budget(), kTimes);
  SetAvailable(12_GiB);
  Admission::Ticket ticket = admission.Enter({.memory = 8_GiB}, Process(1), {});
  ticket.AddProcess(100);
  EXPECT_EQ(Available(admission), (3_GiB).count()) << "12 free, 1 in reserve, 8 promised";
  SetPrivateMemory(100, 6_GiB);
  SetAvailable(6_GiB);
  EXPECT_EQ(Available(admission), (3_GiB).count()) << "6 free, 1 in reserve, 2 still to be used";
  SetPrivateMemory(100, 10_GiB);
  SetAvailable(2_GiB);
  EXPECT_EQ(Available(admission), (1_GiB).count()) << "it took more than it asked for";
  ticket.RemoveProcess(100);
  EXPECT_EQ(Available(admission), 0u) << "a process that has ended has nothing any more";
}

TEST_F(AdmissionTest, IsFirstComeFirstServed) {
  Admission admission(Budget(), kTimes);
  Admission::Ticket all = admission.Enter({.memory = 10_GiB}, Process(1), {});
  Request large(admission, {.memory = 12_GiB}, Process(2));
  large.Waits();
  Request small(admission, {.memory = 4_GiB}, Process(3));
  EXPECT_EQ(small.Waits().ahead, 1u) << "it would fit, but a large one came first";
  all = {};
  Admission::Ticket ticket = large.Get();
  EXPECT_EQ(admission.Info()["waiting"].size(), 1u);
  ticket = {};
  EXPECT_TRUE(small.Get());
}

TEST_F(AdmissionTest, ServesThoseFirstWhoseEndMakesRoom) {
  Admission admission(Budget(), kTimes);
  Admission::Ticket first = admission.Enter({.memory = 10_GiB}, Process(1), {});
  Request newcomer(admission, {.memory = 12_GiB}, Process(2));
  newcomer.Waits();
  // Behind the newcomer it would wait for the newcomer, and the newcomer for it.
  Admission::Ticket second = admission.Enter({.memory = 4_GiB}, Process(1), {});
  first = {};
  second = {};
  EXPECT_TRUE(newcomer.Get());
}

TEST_F(AdmissionTest, GivesUpAtTheDeadlineWithTheReason) {
  Admission admission(Budget(), kTimes);
  Admission::Ticket ticket = admission.Enter({.memory = 10_GiB}, Process(4242), {});
  Request request(admission, {.memory = 6_GiB}, Process(2, "kv"), Deadline::After(milliseconds(5)));
  std::string error = request.Error();
  EXPECT_THAT(error, HasSubstr("Timeout: mayfly: 'kv' waited "));
  EXPECT_THAT(error, HasSubstr(" for 6 GiB in vain"));
  EXPECT_THAT(error, HasSubstr("test (4242) holds 1 VM with 10 GiB"));
  EXPECT_TRUE(admission.Info()["waiting"].empty());
}

TEST_F(AdmissionTest, ForgetsAWaiterThatHangsUp) {
  Admission admission(Budget(), kTimes);
  Admission::Ticket ticket = admission.Enter({.memory = 10_GiB}, Process(1), {});
  auto [ours, theirs] = SocketPair();
  Request first(admission, {.memory = 12_GiB}, Process(2), Deadline::Never(), ours.get());
  first.Waits();
  Request second(admission, {.memory = 4_GiB}, Process(3));
  second.Waits();
  theirs.Reset();
  EXPECT_THAT(first.Error(), HasSubstr("the lease ended while it waited"));
  EXPECT_TRUE(second.Get()) << "its turn has come";
}

TEST_F(AdmissionTest, RefusesOneWhenAllThatHoldWaitForMore) {
  Admission admission(Budget(), kSoonHopeless);
  Admission::Ticket a = admission.Enter({.memory = 7_GiB}, Process(1), {});
  Admission::Ticket b = admission.Enter({.memory = 7_GiB}, Process(2), {});
  Request bystander(admission, {.memory = 4_GiB}, Process(3));
  bystander.Waits();
  Request first(admission, {.memory = 4_GiB}, Process(1));
  first.Waits();
  Request second(admission, {.memory = 4_GiB}, Process(2, "kv"));
  std::string error = second.Error();
  EXPECT_THAT(error, HasSubstr("HostLacks: mayfly: 'kv' waited "));
  EXPECT_THAT(error, HasSubstr("all of them wait for more, so that none would ever make room"));
  b = {};  // its test has failed
  Admission::Ticket more = first.Get();
  EXPECT_TRUE(more);
  more = {};
  a = {};
  EXPECT_TRUE(bystander.Get());
}

TEST_F(AdmissionTest, IsNotHopelessWhileSomebodyWhoHoldsGoesOn) {
  Admission admission(Budget(), kSoonHopeless);
  Admission::Ticket a = admission.Enter({.memory = 7_GiB}, Process(1), {});
  Admission::Ticket b = admission.Enter({.memory = 7_GiB}, Process(2), {});
  Request first(admission, {.memory = 4_GiB}, Process(1));
  first.Waits();
  b = {};
  EXPECT_TRUE(first.Get());
}

TEST_F(AdmissionTest, RefusesWhatOtherProgramsHaveTaken) {
  Admission admission(Budget(), kSoonHopeless);
  SetAvailable(3_GiB);
  Request request(admission, {.memory = 6_GiB}, Process(1));
  std::string error = request.Error();
  EXPECT_THAT(error, HasSubstr("HostLacks"));
  EXPECT_THAT(error, HasSubstr("other programs leave 2 GiB free"));
}

TEST_F(AdmissionTest, SeesWhatOtherProgramsGiveBack) {
  Admission admission(Budget(), kOftenLooking);
  SetAvailable(3_GiB);
  Request request(admission, {.memory = 6_GiB}, Process(1));
  request.Waits();
  SetAvailable(8_GiB);
  EXPECT_TRUE(request.Get());
}

TEST_F(AdmissionTest, IdleOnesGiveWay) {
  Admission admission(Budget(), kTimes);
  std::vector<Admission::Ticket> warm;
  std::vector<uint64_t> asked;
  admission.OnNeed([&](Bytes lacking) {
    asked.push_back(lacking.count());
    warm.pop_back();
  });
  for (int i = 0; i < 3; ++i) warm.push_back(admission.TryEnterIdle({.memory = 4_GiB}, "fork"));
  EXPECT_FALSE(admission.TryEnterIdle({.memory = 4_GiB}, "fork")) << "it never waits";
  EXPECT_EQ(admission.Info()["memory"]["idle"], (12_GiB).count());
  EXPECT_TRUE(admission.Enter({.memory = 10_GiB}, Process(1), {}));
  EXPECT_THAT(asked, ElementsAre((7_GiB).count(), (3_GiB).count())) << "until it fits";
}

TEST_F(AdmissionTest, IdleOnesAreLeftAloneWhenTheyWouldNotHelp) {
  Admission admission(Budget(), kTimes);
  bool asked = false;
  admission.OnNeed([&](Bytes) { asked = true; });
  Admission::Ticket warm = admission.TryEnterIdle({.memory = 1_GiB}, "fork");
  Admission::Ticket held = admission.Enter({.memory = 10_GiB}, Process(1), {});
  Request request(admission, {.memory = 6_GiB}, Process(2));
  request.Waits();
  EXPECT_FALSE(asked);
  EXPECT_FALSE(admission.TryEnterIdle({.memory = 1_GiB}, "fork")) << "somebody waits for it";
  held = {};
  EXPECT_TRUE(request.Get());
}

TEST_F(AdmissionTest, IdleOnesMayEndLater) {
  Admission admission(Budget(), kSoonHopeless);
  std::promise<void> asked;
  admission.OnNeed([&, told = false](Bytes) mutable {
    if (!std::exchange(told, true)) asked.set_value();
  });
  Admission::Ticket warm = admission.TryEnterIdle({.memory = 10_GiB}, "fork");
  Request request(admission, {.memory = 6_GiB}, Process(2));
  asked.get_future().wait();
  warm = {};
  EXPECT_TRUE(request.Get());
}

TEST_F(AdmissionTest, AnIdleOneBecomesALease) {
  Admission admission(Budget(), kTimes);
  Admission::Ticket warm = admission.TryEnterIdle({.memory = 10_GiB, .cpus = 2}, "fork");
  EXPECT_EQ(admission.Info()["cpus"]["promised"], 0.0);
  warm.HandOver(Process(5, "kv"));
  EXPECT_EQ(admission.Info()["cpus"]["promised"], 2.0);
  EXPECT_EQ(admission.Info()["memory"]["idle"], 0u);
  Request request(admission, {.memory = 6_GiB}, Process(2));
  EXPECT_THAT(request.Waits().Text(), HasSubstr("test (5) holds 1 VM with 10 GiB"));
  warm = {};
  EXPECT_TRUE(request.Get());
}

TEST_F(AdmissionTest, AForkIsKeptWhatItHasTakenAndAQuarterOfTheRest) {
  Admission admission(Budget(), kTimes);
  Demand demand{.memory = 7_GiB, .overhead = 1_GiB, .share = 0.25};
  Admission::Ticket fork = admission.Enter(demand, Process(1), {});
  EXPECT_EQ(Available(admission), (13_GiB).count()) << "2 of its 8";
  fork.AddProcess(100);
  SetPrivateMemory(100, 4_GiB);
  SetAvailable(12_GiB);
  EXPECT_EQ(Available(admission), (10_GiB).count()) << "12 free, 1 in reserve, 1 of the 4 that it could still take";
  SetPrivateMemory(100, 8_GiB);
  SetAvailable(8_GiB);
  EXPECT_EQ(Available(admission), (7_GiB).count()) << "8 free, 1 in reserve, and it can take no more";
}

TEST_F(AdmissionTest, WhatAForkHasTakenCountsAgainstAFixedBudgetToo) {
  Admission admission(HostBudget({.memory = 10_GiB, .root = host_.root()}), kTimes);
  Admission::Ticket fork = admission.Enter({.memory = 8_GiB, .share = 0.25}, Process(1), {});
  fork.AddProcess(100);
  EXPECT_EQ(Available(admission), (8_GiB).count());
  SetPrivateMemory(100, 6_GiB);
  EXPECT_EQ(Available(admission), (3500_MiB + 84_MiB).count()) << "6 taken, 0.5 of 2 set aside";
}

TEST_F(AdmissionTest, AForkThatCouldNotBeHadAloneIsRefused) {
  Admission admission(Budget(), kTimes);
  EXPECT_THROW(admission.Enter({.memory = 16_GiB, .share = 0.25}, Process(1), {}), BadSpec);
}

// The figure that mayfly promises: 200 forks of 128 MiB on 24 GiB and two CPUs, each with what an idle one was measured
// to take, and still room.
TEST_F(AdmissionTest, TwoHundredSmallForksFitOnASmallHost) {
  host_.Write("proc/meminfo", "MemTotal: 25165824 kB\nMemAvailable: 22000000 kB\n");
  host_.Write("proc/self/status", "Cpus_allowed_list:\t0-1\n");
  Admission admission(Budget(), kTimes);
  std::vector<Admission::Ticket> forks;
  for (pid_t pid = 1; pid <= 200; ++pid) {
    SetPrivateMemory(pid, 25_MiB);
    host_.Write("proc/meminfo", "MemTotal: 25165824 kB\nMemAvailable: " +
                                    std::to_string(22'000'000 - pid * (25_MiB).count() / 1024) + " kB\n");
    forks.push_back(admission.Enter(DemandOfFork(128_MiB, 1), Process(pid), {}));
    forks.back().AddProcess(pid);
  }
  EXPECT_GT(Available(admission), (1_GiB).count());
  Request booted(admission, DemandOfBooted(8_GiB, 1), Process(1000));
  EXPECT_THAT(booted.Waits().Text(), HasSubstr("and 197 others hold more")) << "all could not be taken back";
  forks.clear();
  EXPECT_TRUE(booted.Get());
}

TEST_F(AdmissionTest, LooksAgainWhenAnIdleOneCanGiveWay) {
  Admission admission(Budget(), kTimes);
  bool can_give_way = false;
  std::promise<void> asked;
  Admission::Ticket warm;
  admission.OnNeed([&, told = false](Bytes) mutable {
    if (!std::exchange(told, true)) asked.set_value();
    if (can_give_way) warm = {};
  });
  warm = admission.TryEnterIdle({.memory = 10_GiB}, "fork");  // is being made
  Request request(admission, {.memory = 6_GiB}, Process(2));
  asked.get_future().wait();
  request.Waits();
  can_give_way = true;
  admission.LookAgain();
  EXPECT_TRUE(request.Get());
}

TEST_F(AdmissionTest, SharesCpusButNotWithoutEnd) {
  Admission admission(Budget(), kTimes);
  Admission::Ticket first = admission.Enter({.cpus = 31.5}, Process(1), {});
  Admission::Ticket fork = admission.Enter({.cpus = 0.5}, Process(2), {});
  Request second(admission, {.cpus = 1}, Process(3));
  EXPECT_EQ(second.Waits().Text(),
            "waiting for 1 CPU: test (1) holds 1 VM with 31.5 CPUs, test (2) holds 1 VM with 0.5 CPUs");
  first = {};
  EXPECT_TRUE(second.Get());
}

TEST_F(AdmissionTest, AdmitsAVmWithMoreCpusThanThereAreWhenItIsAlone) {
  Admission admission(Budget(), kTimes);
  Admission::Ticket other = admission.Enter({.cpus = 1}, Process(1), {});
  Request wide(admission, {.cpus = 255}, Process(2));
  wide.Waits();
  other = {};
  EXPECT_TRUE(wide.Get());
}

// Many threads ask for, hold and return at random; some lose patience, some hang up, idle ones come and go. At no time
// is more promised than there is, and everybody is served or leaves.
TEST_F(AdmissionTest, NeverPromisesMoreThanThereIs) {
  constexpr int kThreads = 8;
  constexpr int kRounds = 60;
  Admission admission(Budget(), kTimes);
  std::mutex warm_mutex;
  std::vector<Admission::Ticket> warm;
  admission.OnNeed([&](Bytes) {
    std::vector<Admission::Ticket> ending;
    std::lock_guard lock(warm_mutex);
    ending.swap(warm);
  });
  std::atomic<int64_t> promised = 0;
  std::atomic<int> served = 0, left = 0;
  auto run = [&](int thread) {
    std::mt19937 random(static_cast<unsigned>(thread));
    for (int round = 0; round < kRounds; ++round) {
      Demand demand{.memory = 1_GiB * (random() % 8), .overhead = 1_GiB, .cpus = static_cast<double>(random() % 20)};
      auto bytes = static_cast<int64_t>((demand.memory + demand.overhead).count());
      Deadline deadline = random() % 4 == 0 ? Deadline::After(milliseconds(random() % 2)) : Deadline::Never();
      auto [ours, theirs] = SocketPair();
      if (random() % 8 == 0) theirs.Reset();
      try {
        Admission::Ticket ticket =
            admission.Enter(demand, Process(thread), {.deadline = deadline, .hang_up = ours.get()});
        EXPECT_LE(promised += bytes, static_cast<int64_t>((15_GiB).count()));
        ++served;
        std::this_thread::yield();
        promised -= bytes;
      } catch (const Error&) {
        ++left;
      }
      Admission::Ticket idle = admission.TryEnterIdle({.memory = 1_GiB}, "fork");
      std::lock_guard lock(warm_mutex);
      if (idle) warm.push_back(std::move(idle));
    }
  };
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) threads.emplace_back(run, thread);
  for (std::thread& thread : threads) thread.join();
  warm.clear();
  EXPECT_EQ(served + left, kThreads * kRounds);
  EXPECT_GT(served, kRounds);
  EXPECT_EQ(Available(admission), (15_GiB).count());
  EXPECT_TRUE(admission.Info()["waiting"].empty());
}

}  // namespace
}  // namespace mayfly::internal
