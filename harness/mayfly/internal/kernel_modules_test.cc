#include <mayfly/internal/kernel_modules.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/test_archives.h>

#include <string>

namespace mayfly::internal {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::string Info(const std::string& depends, const std::string& alias = "") {
  std::string text = "license=GPL" + std::string(1, '\0') + "depends=" + depends + std::string(1, '\0');
  if (!alias.empty()) text += "alias=" + alias + std::string(1, '\0');
  return MakeModule(text);
}

KernelModules Some() {
  KernelModules modules;
  modules.Add("kernel/ring.ko", Info(""));
  modules.Add("kernel/virtio.ko", Info("ring"));
  modules.Add("kernel/virtio-rng.ko", Info("virtio,rng-core", "virtio:d00000004v*"));
  modules.AddBuiltin("kernel/drivers/rng-core.ko\n");
  return modules;
}

TEST(KernelModules, LoadAfterWhatTheyNeed) {
  EXPECT_THAT(Some().LoadOrder({"virtio_rng"}, "recipe"),
              ElementsAre("kernel/ring.ko", "kernel/virtio.ko", "kernel/virtio-rng.ko"));
}

TEST(KernelModules, WhatIsBuiltInNeedsNothing) { EXPECT_THAT(Some().LoadOrder({"rng_core"}, "recipe"), IsEmpty()); }

TEST(KernelModules, AMissingOneIsToldWithTheNearest) {
  try {
    Some().LoadOrder({"virtio_rgn"}, "recipe");
    FAIL() << "expected BadSpec";
  } catch (const BadSpec& error) {
    EXPECT_EQ(error.text().summary, "recipe: the kernel has no module \"virtio_rgn\"; did you mean \"virtio_rng\"?");
  }
}

TEST(KernelModules, ThatNeedEachOtherDoNotHang) {
  KernelModules modules;
  modules.Add("a.ko", Info("b"));
  modules.Add("b.ko", Info("a"));
  EXPECT_THAT(modules.LoadOrder({"a"}, "recipe"), ElementsAre("b.ko", "a.ko"));
}

TEST(KernelModules, ModprobeFindsThemByNameAndAlias) {
  KernelModules modules = Some();
  EXPECT_EQ(modules.DependencyFile({"kernel/virtio-rng.ko"}),
            "kernel/virtio-rng.ko: kernel/virtio.ko kernel/ring.ko\n");
  EXPECT_EQ(modules.AliasFile({"kernel/virtio-rng.ko"}), "alias virtio:d00000004v* virtio_rng\n");
}

TEST(KernelModules, FilesThatAreNoneAreRefused) {
  EXPECT_THROW(ReadModuleInfo("", "x.ko"), BadSpec);
  EXPECT_THROW(ReadModuleInfo(MakeKernelElf(1), "x.ko"), BadSpec);
  std::string module = Info("virtio");
  for (size_t at = 0; at < module.size(); ++at) {
    std::string broken = module;
    broken.replace(at, 1, "\xff");
    for (const std::string& bytes : {broken, module.substr(0, at)}) {
      try {
        ReadModuleInfo(bytes, "x.ko");
      } catch (const BadSpec& error) {
        EXPECT_EQ(error.text().summary, "x.ko: is no kernel module: it has no section .modinfo");
      }
    }
  }
}

}  // namespace
}  // namespace mayfly::internal
