#include <mayfly/internal/matrix.h>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/capability.h>
#include <mayfly/errors.h>
#include <mayfly/internal/files.h>

#include <nlohmann/json.hpp>
#include <set>
#include <string>

namespace mayfly::internal {
namespace {

using nlohmann::json;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A small matrix without a fault.
json Small() {
  return json::parse(R"({
    "drivers": [
      {"id": "qemu", "title": "QEMU", "about": "runs anywhere", "versions": "QEMU", "needs": ["qemu"]},
      {"id": "ch", "title": "Cloud Hypervisor", "about": "lean", "versions": "v", "modes": ["api", "cli"], "needs": ["kvm"],
       "why": "its driver is not there yet", "api": ["vm.resize"]}],
    "groups": [{"id": "cpu", "title": "CPU"}, {"id": "memory", "title": "Memory"}],
    "needs": [{"id": "qemu", "means": "QEMU", "fix": "install it"}, {"id": "kvm", "means": "KVM", "fix": "use it"}],
    "capabilities": [
      {"id": "cpu.count", "group": "cpu", "title": "vCPU count", "gives": "as many as asked for", "drivers": {
        "qemu": {"status": "supported", "api": ["-smp"]}, "ch": {"status": "planned", "api": ["--cpus"]}}},
      {"id": "memory.hotplug", "group": "memory", "title": "memory hotplug", "gives": "more memory", "drivers": {
        "qemu": {"status": "not_possible", "why": "no slots"},
        "ch": {"status": "planned", "since": "v0.5.0", "modes": ["api"], "api": ["PUT vm.resize desired_ram"]}}}]})");
}

std::vector<std::string> Faults(const json& document) { return MatrixFaults(document.dump(), "m.json"); }

// Small, after a change.
template <class Function>
json But(Function change) {
  json document = Small();
  change(document);
  return document;
}

json& Cell(json& document, int row, const char* driver) { return document["capabilities"][row]["drivers"][driver]; }

TEST(Matrix, ReadsWhatTheFileSays) {
  Matrix matrix = MatrixFromJson(Small().dump(), "m.json");
  ASSERT_EQ(matrix.rows.size(), 2U);
  const MatrixRow* row = matrix.Find("memory.hotplug");
  ASSERT_NE(row, nullptr);
  EXPECT_EQ(row->gives, "more memory");
  EXPECT_EQ(row->cells.at("qemu").status, CellStatus::kNotPossible);
  EXPECT_EQ(row->cells.at("qemu").why, "no slots");
  EXPECT_EQ(row->cells.at("ch").since, "v0.5.0");
  EXPECT_THAT(row->cells.at("ch").modes, ElementsAre("api"));
  EXPECT_EQ(matrix.Find("memory.hotplugs"), nullptr);
  EXPECT_EQ(matrix.FindNeed("kvm")->fix, "use it");
}

TEST(Matrix, GivesPlannedCellsTheReasonOfTheirDriver) {
  EXPECT_EQ(MatrixFromJson(Small().dump(), "m.json").Find("cpu.count")->cells.at("ch").why,
            "its driver is not there yet");
}

TEST(Matrix, ThrowsTheFirstFaultWithTheOthersAsNotes) {
  json document = But([](json& d) {
    Cell(d, 0, "qemu")["status"] = "suported";
    d["capabilities"][1]["gives"] = 7;
  });
  try {
    MatrixFromJson(document.dump(), "m.json");
    FAIL() << "accepted";
  } catch (const BadSpec& error) {
    EXPECT_THAT(error.text().summary, HasSubstr("cpu.count: drivers.qemu.status"));
    EXPECT_THAT(error.text().notes, ElementsAre(HasSubstr("memory.hotplug: gives")));
  }
}

// --- What is refused
// --------------------------------------------------------------------------------------------------

TEST(MatrixFaults, AreNoneInAGoodOne) { EXPECT_THAT(Faults(Small()), IsEmpty()); }

TEST(MatrixFaults, OfTextThatIsNoJsonTellLineAndColumn) {
  try {
    MatrixFaults("{\"drivers\": [,]}", "m.json");
    FAIL() << "accepted";
  } catch (const BadSpec& error) {
    EXPECT_THAT(error.what(), HasSubstr("m.json: is not JSON: line 1, column 14"));
  }
}

TEST(MatrixFaults, OfAKeyThatIsThereTwiceNameIt) {
  std::string text = Small().dump();
  text.replace(text.find("\"title\":\"vCPU count\""), 0, "\"title\":\"x\",");
  try {
    MatrixFaults(text, "m.json");
    FAIL() << "accepted";
  } catch (const BadSpec& error) {
    EXPECT_THAT(error.what(), HasSubstr("m.json: capabilities[0].title: the key is there twice"));
  }
}

struct Wrong {
  const char* name;
  void (*change)(json&);
  const char* fault;
};

class WrongMatrix : public testing::TestWithParam<Wrong> {};

TEST_P(WrongMatrix, IsRefusedWithFileRowFieldValueAndWhatIsAllowed) {
  json document = Small();
  GetParam().change(document);
  EXPECT_THAT(Faults(document), Contains(GetParam().fault));
}

INSTANTIATE_TEST_SUITE_P(
    Inputs, WrongMatrix,
    testing::Values(
        Wrong{"AStatus", [](json& d) { Cell(d, 0, "qemu")["status"] = "suported"; },
              "m.json: cpu.count: drivers.qemu.status: \"suported\" is not allowed; allowed: supported, planned, "
              "not_possible, not_wrapped, not_planned, not_applicable; did you mean \"supported\"?"},
        Wrong{"AType", [](json& d) { Cell(d, 0, "qemu")["api"] = "-smp"; },
              "m.json: cpu.count: drivers.qemu.api: \"-smp\" is not allowed; allowed: a list of texts, each once"},
        Wrong{"ADocument", [](json& d) { d = json::array(); }, "m.json: [] is not allowed; allowed: object"},
        Wrong{"AnId", [](json& d) { d["capabilities"][0]["id"] = "CPU"; },
              "m.json: CPU: id: \"CPU\" is not allowed; allowed: the group, a dot and a word, such as \"cpu.hotplug\""},
        Wrong{"ARowWithoutId", [](json& d) { d["capabilities"][1].erase("id"); },
              "m.json: capabilities[1]: \"id\" is missing"},
        Wrong{"AnUnknownKey", [](json& d) { Cell(d, 0, "qemu")["note"] = "x"; },
              "m.json: cpu.count: drivers.qemu: unknown key \"note\"; did you mean \"notes\"?"},
        Wrong{"ANoteWithoutSource", [](json& d) { Cell(d, 0, "qemu")["notes"] = {{{"text", "x"}}}; },
              "m.json: cpu.count: drivers.qemu.notes[0]: \"source\" is missing"},
        Wrong{"AnEmptyText", [](json& d) { d["capabilities"][0]["gives"] = ""; },
              "m.json: cpu.count: gives: \"\" is not allowed; allowed: one line of text without a space at its ends"},
        Wrong{"AnArchitecture", [](json& d) { Cell(d, 0, "qemu")["arch"] = {"amd64"}; },
              "m.json: cpu.count: drivers.qemu.arch[0]: \"amd64\" is not allowed; allowed: x86_64, arm64"},
        Wrong{"AVersion", [](json& d) { Cell(d, 0, "qemu")["since"] = "lately"; },
              "m.json: cpu.count: drivers.qemu.since: \"lately\" is not allowed; allowed: a version, such as \"QEMU "
              "7.2\", "
              "\"v0.5.0\" or \"macOS 14\""},
        Wrong{"AVersionOfAnother", [](json& d) { Cell(d, 0, "qemu")["since"] = "macOS 14"; },
              "m.json: cpu.count: drivers.qemu.since: \"macOS 14\" is no version of this driver; allowed: \"QEMU\" and "
              "a number"},
        Wrong{"AnIdTwice", [](json& d) { d["capabilities"][1]["id"] = "cpu.count"; },
              "m.json: capabilities: id: \"cpu.count\" is there twice"},
        Wrong{"ADriver", [](json& d) { Cell(d, 0, "quemu") = Cell(d, 0, "qemu"); },
              "m.json: cpu.count: drivers: \"quemu\" is no driver; did you mean \"qemu\"?"},
        Wrong{"ACellIsMissing", [](json& d) { d["capabilities"][0]["drivers"].erase("ch"); },
              "m.json: cpu.count: drivers: \"ch\" is missing"},
        Wrong{"AGroup", [](json& d) { d["capabilities"][0]["group"] = "cpus"; },
              "m.json: cpu.count: group: \"cpus\" is no group; did you mean \"cpu\"?"},
        Wrong{"AnIdOfAnotherGroup", [](json& d) { d["capabilities"][0]["group"] = "memory"; },
              "m.json: cpu.count: id: \"cpu.count\" does not begin with its group; allowed: \"memory.\" and a word"},
        Wrong{"AnOrder", [](json& d) { std::swap(d["capabilities"][0], d["capabilities"][1]); },
              "m.json: cpu.count: group: the row stands after those of \"memory\"; allowed: with its group, in the "
              "order of "
              "groups"},
        Wrong{"ANeed", [](json& d) { Cell(d, 0, "qemu")["needs"] = {"kmv"}; },
              "m.json: cpu.count: drivers.qemu.needs: \"kmv\" is no need; did you mean \"kvm\"?"},
        Wrong{"ANeedOfADriver", [](json& d) { d["drivers"][0]["needs"] = {"qmeu"}; },
              "m.json: drivers.qemu: needs: \"qmeu\" is no need; did you mean \"qemu\"?"},
        Wrong{"ANeedThatNothingNeeds",
              [](json& d) { d["needs"].push_back({{"id", "tpm"}, {"means", "x"}, {"fix", "y"}}); },
              "m.json: needs.tpm: nothing needs it"},
        Wrong{"AMode", [](json& d) { Cell(d, 0, "ch")["modes"] = {"gui"}; },
              "m.json: cpu.count: drivers.ch.modes: \"gui\" is no mode of this driver; known: api, cli"},
        Wrong{"ARefusalWithoutWhy", [](json& d) { Cell(d, 1, "qemu").erase("why"); },
              "m.json: memory.hotplug: drivers.qemu.why is missing: what is not_possible says why"},
        Wrong{"PlannedWithoutWhy", [](json& d) { Cell(d, 0, "qemu")["status"] = "planned"; },
              "m.json: cpu.count: drivers.qemu.why is missing: what is planned says why"},
        Wrong{"SupportedWithWhy", [](json& d) { Cell(d, 0, "qemu")["why"] = "x"; },
              "m.json: cpu.count: drivers.qemu.why: \"x\" is not allowed: what is supported needs no reason"},
        Wrong{"SupportedWithoutApi", [](json& d) { Cell(d, 0, "qemu").erase("api"); },
              "m.json: cpu.count: drivers.qemu.api is missing: what is supported names the backend's call"},
        Wrong{"ARefusalWithNeeds", [](json& d) { Cell(d, 1, "qemu")["needs"] = {"kvm"}; },
              "m.json: memory.hotplug: drivers.qemu.needs: \"kvm\" is not allowed: what is not_possible needs nothing"},
        Wrong{"ACallInNoCell", [](json& d) { Cell(d, 1, "ch")["api"] = {"PUT vm.resize-zone"}; },
              "m.json: drivers.ch: api: no capability names \"vm.resize\" in its own api"}),
    [](const auto& row) { return row.param.name; });

// --- The matrix of this repository
// --------------------------------------------------------------------------------------

TEST(TheMatrix, HasNoFault) { EXPECT_THAT(MatrixFaults(ReadWholeFile(MatrixFile(), 1 << 20), "m.json"), IsEmpty()); }

TEST(TheMatrix, IsWhatTheEnumWasMadeFrom) {
  Matrix matrix = LoadMatrix();
  ASSERT_EQ(matrix.rows.size(), kCapabilityCount);
  for (Capability capability : AllCapabilities()) {
    const MatrixRow& row = matrix.rows[static_cast<size_t>(capability)];
    EXPECT_EQ(row.id, ToString(capability));
    EXPECT_EQ(row.title, Title(capability));
  }
}

TEST(TheMatrix, HasAStatusForEachThatTheSchemaAllows) {
  json schema = json::parse(ReadWholeFile(MatrixFile().replace_filename("capabilities.schema.json"), 1 << 20));
  std::set<std::string> in_schema = schema.at("/definitions/cell/properties/status/enum"_json_pointer);
  std::set<std::string> in_code;
  for (const CellStatusRow& row : kCellStatuses) in_code.insert(std::string(row.name));
  EXPECT_EQ(in_schema, in_code);
}

}  // namespace
}  // namespace mayfly::internal
