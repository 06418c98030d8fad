// Specs as JSON: the form, and the message for each wrong input.
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/spec.h>

#include <ostream>
#include <string>
#include <string_view>

namespace mayfly {
namespace {

using literals::operator""_GiB;
using literals::operator""_MiB;

std::string Refusal(std::string_view json) {
  try {
    SpecFromJson(json, "spec.json");
  } catch (const BadSpec& error) {
    return error.text().summary;
  }
  return "accepted";
}

TEST(SpecJson, LeavesDefaultsOut) {
  EXPECT_EQ(ToJson(MachineSpec()), "{}");
  EXPECT_EQ(SpecFromJson("{}", "spec.json"), MachineSpec());
}

TEST(SpecJson, IsWhatAPersonWouldWrite) {
  MachineSpec spec{.cpus = 2, .memory = 512_MiB};
  spec.boot.command_line = "quiet";
  spec.balloon = Balloon{};
  spec.disks = {{.id = "data", .size = 1_GiB, .cache = DiskCache::kNone}};
  spec.nics = {{.id = "lan", .kind = NicKind::kVhostUser, .source = "/run/lan.sock"}};
  spec.boot_timeout = std::chrono::seconds(90);
  EXPECT_EQ(ToJson(spec, 0),
            R"({"cpus":2,"memory":"512MiB","boot":{"command_line":"quiet"},"balloon":{},)"
            R"("disks":[{"id":"data","size":"1GiB","cache":"none"}],)"
            R"("nics":[{"id":"lan","kind":"vhost-user","source":"/run/lan.sock"}],"boot_timeout":90000})");
  EXPECT_EQ(ToJson({.cpus = 4, .image = ""}), "{\n  \"cpus\": 4,\n  \"image\": \"\"\n}");
}

TEST(SpecJson, TakesSizesInAnyUnitAndKeysInAnyOrder) {
  MachineSpec spec = SpecFromJson(R"({"memory": 536870912, "cpus": 2, "disks": [{"size": "0.5GiB", "id": "d"}]})", "s");
  EXPECT_EQ(spec.cpus, 2U);
  EXPECT_EQ(spec.memory, 512_MiB);
  ASSERT_EQ(spec.disks.size(), 1U);
  EXPECT_EQ(spec.disks[0].size, 512_MiB);
}

TEST(SpecJson, RefusesTextThatIsNotUtf8WhenWriting) {
  MachineSpec spec;
  spec.disks = {{.id = "data", .path = "/images/\xff.img"}};
  try {
    ToJson(spec);
    FAIL() << "written";
  } catch (const BadSpec& error) {
    EXPECT_EQ(error.text().summary, "spec: disks[0].path: \"/images/\uFFFD.img\" is not allowed; allowed: UTF-8");
  }
}

struct WrongJson {
  std::string_view name;
  std::string_view json;
  std::string_view message;
};

void PrintTo(const WrongJson& wrong, std::ostream* out) { *out << wrong.name; }

class WrongSpecJson : public testing::TestWithParam<WrongJson> {};

TEST_P(WrongSpecJson, IsRefusedWithItsFieldAndWhatIsAllowed) {
  EXPECT_EQ(Refusal(GetParam().json), GetParam().message);
}

constexpr WrongJson kWrongJson[] = {
    {"UnknownKey", R"({"memroy": "1GiB"})", R"(spec.json: unknown key "memroy"; did you mean "memory"?)"},
    {"UnknownKeyInAPart", R"({"disks": [{"id": "a"}, {"cach": "none"}]})",
     R"(spec.json: disks[1]: unknown key "cach"; did you mean "cache"?)"},
    {"UnknownKeyLikeNoOther", R"({"vsock": {"port": 1}})", R"(spec.json: vsock: unknown key "port"; known: cid)"},
    {"TextForANumber", R"({"cpus": "two"})",
     R"(spec.json: cpus: "two" is not allowed; allowed: a whole number from 0 to 4294967295)"},
    {"Fraction", R"({"cpus": 1.5})",
     "spec.json: cpus: 1.5 is not allowed; allowed: a whole number from 0 to 4294967295"},
    {"NegativeNumber", R"({"cpus": -1})",
     "spec.json: cpus: -1 is not allowed; allowed: a whole number from 0 to 4294967295"},
    {"NumberThatWouldWrap", R"({"cpus": 4294967297})",
     "spec.json: cpus: 4294967297 is not allowed; allowed: a whole number from 0 to 4294967295"},
    {"SizeWithAnUnknownUnit", R"({"memory": "2GiBs"})",
     R"(spec.json: memory: "2GiBs" is not allowed; allowed: a size such as "512MiB", or a number of bytes)"},
    {"NegativeSize", R"({"memory": -5})",
     R"(spec.json: memory: -5 is not allowed; allowed: a size such as "512MiB", or a number of bytes)"},
    {"UnknownEnumValue", R"({"disks": [{"cache": "fast"}]})",
     R"(spec.json: disks[0].cache: "fast" is not allowed; allowed: "unsafe", "writeback", "none", "writethrough")"},
    {"NumberForAnEnum", R"({"serial": 1})", R"(spec.json: serial: 1 is not allowed; allowed: "file", "pty", "socket")"},
    {"TextForABool", R"({"rng": "yes"})", R"(spec.json: rng: "yes" is not allowed; allowed: true or false)"},
    {"NumberForText", R"({"image": 7})", "spec.json: image: 7 is not allowed; allowed: a string"},
    {"NullForAnObject", R"({"seed": null})", "spec.json: seed: null is not allowed; allowed: an object"},
    {"ObjectForAList", R"({"disks": {"id": "a"}})", "spec.json: disks: {…} is not allowed; allowed: a list"},
    {"ListForTheSpec", "[]", "spec.json: [] is not allowed; allowed: an object"},
    {"NegativeDuration", R"({"boot_timeout": -1})",
     "spec.json: boot_timeout: -1 is not allowed; allowed: a whole number of milliseconds"},
    {"DurationWithAUnit", R"({"boot_timeout": "60s"})",
     R"(spec.json: boot_timeout: "60s" is not allowed; allowed: a whole number of milliseconds)"},
    {"DuplicateKey", R"({"cpus": 1, "cpus": 2})", "spec.json: cpus: the key is there twice; allowed: once"},
    {"DuplicateKeyInAPart", R"({"disks": [{"id": "a"}, {"limit": {}, "id": "b", "limit": {}}]})",
     "spec.json: disks[1].limit: the key is there twice; allowed: once"},
    {"NestedTooDeeply", R"({"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{)",
     "spec.json: a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a: is nested too deeply; allowed: 16 levels"},
    {"MissingComma", "{\n  \"cpus\": 1\n  \"memory\": 2\n}",
     "spec.json: is not JSON: line 3, column 10: syntax error while parsing object - unexpected string literal; "
     "expected '}'"},
    {"Empty", "",
     "spec.json: is not JSON: line 1, column 1: syntax error while parsing value - unexpected end of input; "
     "expected '[', '{', or a literal"},
    {"CutOff", "{\"cpus\": 1",
     "spec.json: is not JSON: line 1, column 11: syntax error while parsing object - unexpected end of input; "
     "expected '}'"},
    {"TextAfterTheEnd", "{} x",
     "spec.json: is not JSON: line 1, column 4: syntax error while parsing value - invalid literal; last read: '{} x'; "
     "expected end of input"},
    {"NoUtf8", "{\"image\": \"\xff\"}",
     "spec.json: is not JSON: line 1, column 12: syntax error while parsing value - invalid string: ill-formed UTF-8 "
     "byte; last read: '\"\uFFFD'"},
    {"NumberBeyondAnything", R"({"cpus": 1e999})", "spec.json: is not JSON: number overflow parsing '1e999'"},
};

INSTANTIATE_TEST_SUITE_P(, WrongSpecJson, testing::ValuesIn(kWrongJson),
                         [](const auto& param_info) { return std::string(param_info.param.name); });

TEST(SpecJson, RefusesMoreThanOneMebibyte) {
  std::string text = "{\"name\": \"" + std::string(1 << 20, 'x') + "\"}";
  EXPECT_EQ(Refusal(text), "spec.json: 1 MiB of JSON are too much; allowed: 1MiB");
  EXPECT_EQ(Refusal(std::string(100000, '[')),
            "spec.json: [0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]: is nested too deeply; allowed: 16 levels");
}

TEST(SpecJson, LongValuesAreCutInMessages) {
  std::string message = Refusal("{\"serial\": \"" + std::string(500, 'x') + "\"}");
  EXPECT_EQ(message, "spec.json: serial: \"" + std::string(100, 'x') +
                         "…\" is not allowed; allowed: \"file\", \"pty\", \"socket\"");
}

// A change of these values makes every stored template and cache entry useless: change them only with a field's
// meaning.
TEST(CanonicalHash, IsStable) {
  EXPECT_EQ(CanonicalHash(MachineSpec()), "dc7048f8f8747f561349cde127705c16");
  MachineSpec spec{.cpus = 2, .memory = 512_MiB, .image = "tiny-disk"};
  spec.disks = {{.id = "data", .size = 1_GiB}};
  EXPECT_EQ(CanonicalHash(spec), "0944e51c7aab23b2d1cc2d720c1cc7c0");
}

TEST(CanonicalHash, IgnoresWhatDoesNotChangeTheGuest) {
  MachineSpec spec;
  spec.name = "kv";
  spec.driver = "qemu";
  spec.boot_timeout = std::chrono::seconds(5);
  EXPECT_EQ(CanonicalHash(spec), CanonicalHash(MachineSpec()));
}

}  // namespace
}  // namespace mayfly
