#include <mayfly/mayfly.h>

using mayfly::ExitsWith;
using mayfly::Prints;
using mayfly::PrintsError;
using mayfly::literals::operator""_MiB;

class KeyValueStore : public mayfly::VmFixture {
 protected:
  mayfly::MachineSpec Spec() const override { return {.cpus = 2, .memory = 256_MiB, .image = "tiny-disk"}; }

  void Prepare(mayfly::Vm& vm) override {
    vm.Upload(KV_BINARY, "/usr/bin/kv");
    vm.Sync();  // on the disk, so that a power cut leaves it there
  }
};

TEST_F(KeyValueStore, SurvivesAPowerCut) {
  vm().Exec("kv put colour blue").OrThrow();
  vm().Kill();  // the power cut: whatever was only in the guest's memory is gone
  vm().Boot();
  EXPECT_THAT(vm().Exec("kv get colour"), Prints("blue\n"));
}

TEST_F(KeyValueStore, SaysThatAKeyIsMissing) {
  EXPECT_THAT(vm().Exec("kv get colour"), AllOf(ExitsWith(1), PrintsError("kv: no such key: colour\n")));
}
