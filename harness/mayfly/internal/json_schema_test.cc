#include <mayfly/internal/json_schema.h>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>

#include <string>
#include <vector>

namespace mayfly::internal {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const json& Schema() {
  static const json& schema = *new json(json::parse(R"({
    "type": "object", "required": ["disks"], "additionalProperties": false,
    "properties": {
      "name": {"type": "string", "pattern": "^[a-z]+$", "description": "lower case letters"},
      "disks": {"type": "array", "minItems": 1, "description": "a list of disks", "items": {"$ref": "#/definitions/disk"}},
      "labels": {"type": "object", "additionalProperties": {"$ref": "#/definitions/label"}}
    },
    "definitions": {
      "disk": {"type": "object", "required": ["id", "size"], "additionalProperties": false,
               "properties": {"id": {"type": "string"}, "size": {"type": "integer", "minimum": 1},
                              "cache": {"enum": ["unsafe", "writeback"]}}},
      "label": {"type": "array", "uniqueItems": true, "description": "texts, each once", "items": {"type": "string"}}
    }})"));
  return schema;
}

std::vector<std::string> Faults(const char* text) {
  std::vector<std::string> faults;
  for (const SchemaFault& fault : FaultsAgainst(Schema(), json::parse(text))) {
    faults.push_back(fmt::format("{}: {}", fmt::join(fault.path, "/"), fault.text));
  }
  return faults;
}

TEST(JsonSchema, FindsNothingInWhatIsAsItShouldBe) {
  EXPECT_THAT(
      Faults(R"({"name": "a", "disks": [{"id": "d", "size": 1, "cache": "unsafe"}], "labels": {"x": ["a", "b"]}})"),
      IsEmpty());
}

TEST(JsonSchema, NamesTheValueAndWhatIsAllowed) {
  EXPECT_THAT(
      Faults(R"({"disks": [{"id": "a", "size": 1}, {"id": "d", "size": 1, "cache": "writebakc"}]})"),
      ElementsAre(
          "disks/1/cache: \"writebakc\" is not allowed; allowed: unsafe, writeback; did you mean \"writeback\"?"));
  EXPECT_THAT(Faults(R"({"disks": [{"id": 7, "size": 1, "cache": 7}]})"),
              ElementsAre("disks/0/cache: 7 is not allowed; allowed: unsafe, writeback",
                          "disks/0/id: 7 is not allowed; allowed: string"));
  EXPECT_THAT(Faults(R"({"name": "A", "disks": [{"id": "a", "size": 1}]})"),
              ElementsAre("name: \"A\" is not allowed; allowed: lower case letters"));
  EXPECT_THAT(Faults(R"({"disks": []})"), ElementsAre("disks: [] is not allowed; allowed: a list of disks"));
  EXPECT_THAT(Faults(R"({"disks": {}})"), ElementsAre("disks: {} is not allowed; allowed: a list of disks"));
  EXPECT_THAT(Faults(R"({"disks": [{"id": "a", "size": 1}], "labels": {"x": ["a", "a"]}})"),
              ElementsAre("labels/x: […] is not allowed; allowed: texts, each once"));
}

TEST(JsonSchema, NamesWhatIsMissingAndWhatIsUnknown) {
  EXPECT_THAT(Faults("{}"), ElementsAre(": \"disks\" is missing"));
  EXPECT_THAT(Faults(R"({"disks": [{}]})"), ElementsAre("disks/0: \"id\", \"size\" are missing"));
  EXPECT_THAT(
      Faults(R"({"disks": [{"id": "a", "size": 1, "cach": "unsafe", "zzz": 1}]})"),
      ElementsAre(
          "disks/0: unknown key \"cach\"; did you mean \"cache\"?; unknown key \"zzz\"; known: cache, id, size"));
}

TEST(JsonSchema, TellsOfAConstraintThatHasNoWordsOfOurs) {
  EXPECT_THAT(Faults(R"({"disks": [{"id": "a", "size": 0}]})"), ElementsAre(HasSubstr("disks/0/size: 0: ")));
}

TEST(JsonSchema, FindsAllFaultsAtOnce) {
  EXPECT_EQ(Faults(R"({"name": 1, "disks": [{"id": 1, "size": 1}, {"size": 1}], "x": 1})").size(), 4U);
}

TEST(JsonSchema, RefusesASchemaThatIsNone) {
  EXPECT_THROW(FaultsAgainst(json::parse(R"({"type": 7})"), json::object()), BadSpec);
}

}  // namespace
}  // namespace mayfly::internal
