// A guest's TPM 2.0, spoken to by its commands as bytes: small guests have no tools for it.
#include <fmt/format.h>

#include <cstdint>
#include <vector>

#include "conformance/scenario.h"

namespace mayfly::conformance {
namespace {

using namespace std::string_literals;  // NOLINT(google-build-using-namespace)

// Generic kernels have its driver.
constexpr const char* kGeneric = "tiny-generic";

constexpr uint32_t kOwner = 0x40000001;
constexpr uint32_t kNvDefineSpace = 0x12a;
constexpr uint32_t kCreatePrimary = 0x131;
constexpr uint32_t kNvWrite = 0x137;
constexpr uint32_t kNvRead = 0x14e;
constexpr uint32_t kCreate = 0x153;
constexpr uint32_t kLoad = 0x157;
constexpr uint32_t kUnseal = 0x15e;

std::string Number16(size_t value) { return {static_cast<char>(value >> 8), static_cast<char>(value)}; }
std::string Number32(uint32_t value) { return Number16(value >> 16) + Number16(value & 0xffff); }
uint32_t Value(std::string_view bytes) {
  uint32_t value = 0;
  for (char c : bytes) value = value << 8 | static_cast<unsigned char>(c);
  return value;
}
// Bytes behind their number, as a TPM has them.
std::string Sized(const std::string& bytes) { return Number16(bytes.size()) + bytes; }

struct Answer {
  uint32_t code = 0;   // 0: done
  std::string body{};  // what follows it
};

// Throws GuestFailed without a TPM.
Answer Send(Vm& vm, const std::string& tag, const std::string& body) {
  vm.WriteFile("/run/command", tag + Number32(static_cast<uint32_t>(body.size()) + 6) + body);
  Out(vm,
      "exec 3<>/dev/tpm0; dd if=/run/command bs=4096 count=1 2>/dev/null >&3 && "
      "dd bs=4096 count=1 2>/dev/null <&3 > /run/answer");
  std::string answer = vm.ReadFile("/run/answer");
  constexpr size_t kHead = 10;  // tag, size, code
  if (answer.size() < kHead) return {.code = UINT32_MAX};
  return {.code = Value(answer.substr(6, 4)), .body = answer.substr(kHead)};
}

// A command with the empty password for its first handle.
Answer Ask(Vm& vm, uint32_t code, const std::vector<uint32_t>& handles, const std::string& parameters) {
  std::string body = Number32(code);
  for (uint32_t handle : handles) body += Number32(handle);
  return Send(vm, "\x80\x02", body + "\0\0\0\x09\x40\0\0\x09\0\0\0\0\0"s + parameters);
}

// A TPM has room for three objects.
void Flush(Vm& vm, uint32_t handle) {
  constexpr uint32_t kFlushContext = 0x165;
  EXPECT_EQ(Send(vm, "\x80\x01", Number32(kFlushContext) + Number32(handle)).code, 0U);
}

// The primary key of the owner, which is the same at each boot of one TPM: of P-256, for storage. Returns its handle.
uint32_t MakePrimary(Vm& vm) {
  const std::string kSensitive = Sized(Sized("") + Sized(""));
  const std::string kPublic = Sized("\0\x23\0\x0b\0\x03\0\x72"s + Sized("") + "\0\x06\0\x80\0\x43"s + "\0\x10"s +
                                    "\0\x03"s + "\0\x10"s + Sized("") + Sized(""));
  Answer answer = Ask(vm, kCreatePrimary, {kOwner}, kSensitive + kPublic + Sized("") + Number32(0));
  EXPECT_EQ(answer.code, 0U);
  return Value(answer.body.substr(0, 4));
}

// What the TPM gives out for a secret: only this TPM makes the secret of it again.
std::string Seal(Vm& vm, const std::string& secret) {
  const std::string kPublic = Sized("\0\x08\0\x0b\0\0\0\x52"s + Sized("") + "\0\x10"s + Sized(""));
  uint32_t primary = MakePrimary(vm);
  Answer answer = Ask(vm, kCreate, {primary}, Sized(Sized("") + Sized(secret)) + kPublic + Sized("") + Number32(0));
  EXPECT_EQ(answer.code, 0U);
  Flush(vm, primary);
  // After the size of the parameters: the private part and the public part, each behind its size.
  size_t end = 4;
  for (int part = 0; part < 2; ++part) end += 2 + Value(answer.body.substr(end, 2));
  return answer.body.substr(4, end - 4);
}

// The secret; or this, when the TPM says that it has not sealed it so.
constexpr const char* kNotSealedHere = "not sealed here";
std::string Unseal(Vm& vm, const std::string& sealed) {
  uint32_t primary = MakePrimary(vm);
  Answer loaded = Ask(vm, kLoad, {primary}, sealed);
  Flush(vm, primary);
  // Without the bits that number the parameter.
  constexpr uint32_t kKind = 0xbf;
  constexpr uint32_t kIntegrity = 0x9f;
  if ((loaded.code & kKind) == kIntegrity) return kNotSealedHere;
  EXPECT_EQ(loaded.code, 0U);
  uint32_t handle = Value(loaded.body.substr(0, 4));
  Answer answer = Ask(vm, kUnseal, {handle}, "");
  EXPECT_EQ(answer.code, 0U);
  Flush(vm, handle);
  return answer.body.substr(6, Value(answer.body.substr(4, 2)));
}

// Four bytes at a place of the TPM's memory.
constexpr uint32_t kPlace = 0x01500000;
void Keep(Vm& vm, const std::string& word) {
  Ask(vm, kNvDefineSpace, {kOwner}, "\0\0\0\x0e\x01\x50\0\0\0\x0b\0\x02\0\x02\0\0\0\x04"s);
  Ask(vm, kNvWrite, {kOwner, kPlace}, Sized(word) + Number16(0));
}
std::string Kept(Vm& vm) { return Ask(vm, kNvRead, {kOwner, kPlace}, Number16(4) + Number16(0)).body; }

SCENARIO_FOR(kPlatformTpm,
             "what a TPM 2.0 has sealed and kept it gives back after reboot and power cut, to its guest only") {
  MachineSpec spec{.image = kGeneric, .tpm = Tpm{}};
  Vm& vm = Boot(spec);
  vm.WaitForFile("/dev/tpm0", Scaled(kSoon));
  EXPECT_THAT(vm.Exec("cat /sys/class/tpm/tpm0/tpm_version_major"), Prints("2\n"));
  EXPECT_THAT(Kept(vm), Not(HasSubstr("blue")));
  Keep(vm, "blue");
  std::string sealed = Seal(vm, "the secret");
  EXPECT_THAT(sealed, Not(HasSubstr("the secret")));
  EXPECT_EQ(Unseal(vm, sealed), "the secret");
  vm.Reboot();
  EXPECT_EQ(Unseal(vm, sealed), "the secret");
  vm.Kill();
  vm.Boot();
  EXPECT_EQ(Unseal(vm, sealed), "the secret");
  EXPECT_THAT(Kept(vm), HasSubstr("blue"));
  std::string changed = sealed;
  changed[8] ^= 1;  // in the private part
  EXPECT_EQ(Unseal(vm, changed), kNotSealedHere);
  Vm& other = Boot(spec);
  EXPECT_EQ(Unseal(other, sealed), kNotSealedHere) << "it is another guest's TPM";
  EXPECT_THAT(Kept(other), Not(HasSubstr("blue")));
}

REFUSAL_FOR(kPlatformTpm, "a guest without one has none") {
  Vm& vm = Boot({.machine = MachineKind::kPc});
  EXPECT_FALSE(vm.Stat("/sys/class/tpm/tpm0"));
}

}  // namespace
}  // namespace mayfly::conformance
