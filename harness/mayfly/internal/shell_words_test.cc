#include <mayfly/internal/shell_words.h>

#include <gtest/gtest.h>

#include <cstdio>
#include <string>

namespace mayfly::internal {
namespace {

TEST(ShellWords, LeavesPlainWordsAlone) {
  EXPECT_EQ(ShellWord("/usr/bin/qemu-system-x86_64"), "/usr/bin/qemu-system-x86_64");
  EXPECT_EQ(ShellLine({"-m", "size=128M"}), "-m size=128M");
}

TEST(ShellWords, AreReadBackByAShellAsTheyWere) {
  const std::string strange = "a b\t'c' \"$HOME\" `id` \\ * ~ # ; | & \n é";
  FILE* shell = popen(("printf '[%s]' " + ShellLine({strange, "", "plain", "'"})).c_str(), "r");
  ASSERT_NE(shell, nullptr);
  std::string out(1000, '\0');
  out.resize(fread(out.data(), 1, out.size(), shell));
  EXPECT_EQ(pclose(shell), 0);
  EXPECT_EQ(out, "[" + strange + "][][plain][']");
}

}  // namespace
}  // namespace mayfly::internal
