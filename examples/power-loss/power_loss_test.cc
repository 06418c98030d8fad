// Does SQLite keep its promise over power cuts? Each test cuts the power of a machine in the middle of its work, boots
// it from the disk that is left, and looks at the database.
#include <mayfly/mayfly.h>

#include <array>

using mayfly::Prints;
using mayfly::Succeeds;
using mayfly::literals::operator""_MiB;
using std::chrono::seconds;

struct Settings {
  std::string name;
  std::vector<std::string> pragmas;
};
void PrintTo(const Settings& settings, std::ostream* out) { *out << settings.name; }

class PowerLoss : public mayfly::VmFixture, public testing::WithParamInterface<Settings> {
 protected:
  // The root disk of tiny-disk is ext4 with a journal. What the guest flushes is still there after Kill(); what it has
  // only in its memory is not.
  mayfly::MachineSpec Spec() const override { return {.memory = 128_MiB, .image = "tiny-disk"}; }

  void Prepare(mayfly::Vm& vm) override {
    vm.Upload(LEDGER_BINARY, "/usr/bin/ledger");
    vm.Exec("ledger create").OrThrow();
    vm.Sync();
  }

  void SetUp() override {
    VmFixture::SetUp();
    BeStrict();
  }

  // From now on the kernel writes nothing back by itself: only what the program flushes reaches the disk.
  void BeStrict() { vm().Exec("sysctl -w vm.dirty_writeback_centisecs=0 && mount -o remount,commit=1000 /").OrThrow(); }

  std::vector<std::string> Transfer(int count) const {
    std::vector<std::string> command = {"ledger", "transfer", std::to_string(count)};
    command.insert(command.end(), GetParam().pragmas.begin(), GetParam().pragmas.end());
    return command;
  }

  void CutThePower() {
    vm().Kill();
    vm().Boot();
    BeStrict();
  }

  mayfly::ExecResult Query(const std::string& sql) { return vm().Exec({"ledger", "query", sql}); }

  // The last transfer in the database, which must be sound.
  int LastTransfer() {
    EXPECT_THAT(Query("PRAGMA integrity_check"), Prints("ok\n"));
    EXPECT_THAT(Query("SELECT sum(balance) FROM account"), Prints("0\n"));
    return std::stoi(Query("SELECT max(number) FROM transfer").OrThrow().out);
  }
};

// The number of the last transfer that the program has called "begun" or "committed".
int LastNumber(const std::string& what, const std::string& output) {
  size_t last = output.rfind(what + " ");
  return last == std::string::npos ? 0 : std::stoi(output.substr(last + what.size()));
}

class Durable : public PowerLoss {};

TEST_P(Durable, KeepsEveryAcknowledgedTransfer) {
  constexpr int kCuts = 9;
  constexpr std::array kMoments = {"begun", "written", "committed"};
  int last = 0;
  int unfinished = 0;
  for (int cut = 0; cut < kCuts; ++cut) {
    SCOPED_TRACE("power cut " + std::to_string(cut));
    mayfly::GuestProcess ledger = vm().Start(Transfer(1'000'000));
    ledger.WaitForOutput(kMoments[cut % kMoments.size()] + (" " + std::to_string(last + 3)), seconds(60));
    CutThePower();
    int acknowledged = LastNumber("committed", ledger.out());
    if (LastNumber("begun", ledger.out()) > acknowledged) ++unfinished;
    last = LastTransfer();
    ASSERT_GE(last, acknowledged) << "a transfer that was acknowledged is gone";
  }
  EXPECT_GT(unfinished, 0) << "no cut came in the middle of a transfer";
}
INSTANTIATE_TEST_SUITE_P(Sqlite, Durable,
                         testing::Values(Settings{"RollbackJournal", {"journal_mode = delete", "synchronous = extra"}},
                                         Settings{"WriteAheadLog", {"journal_mode = wal", "synchronous = full"}}),
                         [](const auto& tested) { return tested.param.name; });

// The proof that these cuts hurt. These settings promise a sound database and no more, and no more is what they keep:
// the first is SQLite's default, which does not flush the removal of its journal.
class NotDurable : public PowerLoss {};

TEST_P(NotDurable, LosesTheLastTransferAndStaysSound) {
  EXPECT_THAT(vm().Exec(Transfer(5)), Succeeds());
  EXPECT_EQ(LastTransfer(), 5);
  CutThePower();
  EXPECT_LT(LastTransfer(), 5);
}
INSTANTIATE_TEST_SUITE_P(Sqlite, NotDurable,
                         testing::Values(Settings{"Default", {"journal_mode = delete", "synchronous = full"}},
                                         Settings{"LazyWriteAheadLog", {"journal_mode = wal", "synchronous = normal"}}),
                         [](const auto& tested) { return tested.param.name; });
