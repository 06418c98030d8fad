#include <mayfly/internal/debian_packages.h>

#include <gtest/gtest.h>
#include <mayfly/errors.h>

namespace mayfly::internal {
namespace {

TEST(DebianPackages, ARecordIsRead) {
  PackageRecord read = ReadPackageRecord(
      "Package: busybox-static\nVersion: 1:1.35.0-4\nArchitecture: amd64\nSize: 928188\nDepends: libc6\n\nPackage: x\n",
      "busybox-static");
  EXPECT_EQ(read.package.ToString(), "busybox-static 1:1.35.0-4 amd64");
  EXPECT_EQ(read.package.size, Bytes(928188));
  EXPECT_EQ(read.kernel, "");
}

TEST(DebianPackages, AMetaPackageLeadsToItsKernel) {
  PackageRecord read = ReadPackageRecord(
      "N: some notice\nPackage: linux-image-cloud-amd64\nVersion: 6.1.192-2\n"
      "Depends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)\n",
      "linux-image-cloud-amd64");
  EXPECT_EQ(read.kernel, "linux-image-6.1.0-56-cloud-amd64");
}

TEST(DebianPackages, WhatIsNoRecordNamesThePackage) {
  for (const char* text : {"", "garbage", "Package: x\n", "Version: 1\n"}) {
    EXPECT_THROW(ReadPackageRecord(text, "x"), HostLacks) << text;
  }
}

TEST(DebianPackages, AnAbsurdSizeIsNotTakenForASmallOne) {
  PackageRecord read = ReadPackageRecord("Package: x\nVersion: 1\nSize: 99999999999999999999999\n", "x");
  EXPECT_GE(read.package.size, Bytes(1 << 30));
}

}  // namespace
}  // namespace mayfly::internal
