#include "drivers/vz/helper_probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>

#include <nlohmann/json.hpp>
#include <string>

namespace mayfly::vz {
namespace {

using testing::HasSubstr;

nlohmann::json Answer() {
  return {
      {"protocol", 1},       {"simulated", true}, {"supported", true}, {"entitled", true},    {"macos", "15.1"},
      {"guests_by", "QEMU"}, {"minimum_cpus", 1}, {"maximum_cpus", 8}, {"minimum_memory", 1}, {"maximum_memory", 16},
  };
}

std::string Refusal(const std::string& text) {
  try {
    ParseProbe(text, "/opt/mayfly-vz");
  } catch (const HostLacks& error) {
    return error.what();
  }
  return "";
}

TEST(VzHelperProbe, WhatIsSimulatedSaysSoFirst) {
  HelperProbe probe = ParseProbe(Answer().dump(), "/opt/mayfly-vz");
  EXPECT_EQ(probe.Text(), "simulated Virtualization.framework of macOS 15.1");
  EXPECT_EQ(probe.maximum_cpus, 8U);
}

TEST(VzHelperProbe, AProgramThatIsNoHelperIsNamedWithWhatItPrinted) {
  EXPECT_THAT(Refusal("usage: true\n"), AllOf(HasSubstr("/opt/mayfly-vz"), HasSubstr("usage: true")));
  EXPECT_THAT(Refusal(""), HasSubstr("MAYFLY_VZ"));
}

TEST(VzHelperProbe, AnotherProtocolOrAMissingFactIsRefused) {
  nlohmann::json other = Answer();
  other["protocol"] = 2;
  EXPECT_THAT(Refusal(other.dump()), HasSubstr("it speaks protocol 2, wanted is 1"));
  other = Answer();
  other.erase("macos");
  EXPECT_THAT(Refusal(other.dump()), HasSubstr("macos"));
}

}  // namespace
}  // namespace mayfly::vz
