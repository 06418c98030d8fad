// How a fault in a spec is told: file or origin, path of the field, value, what is allowed.
//
//   SpecPath path = SpecPath("spec.json").Key("disks").Index(1).Key("cache");
//   path.Refuse("\"fast\" is not allowed", "unsafe, writeback, none, writethrough");
//     // BadSpec: spec.json: disks[1].cache: "fast" is not allowed; allowed: unsafe, writeback, none, writethrough
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace mayfly::internal {

// `text` in double quotes on one line, escaped as in JSON and cut after `longest` bytes; bytes that are no UTF-8 show
// as "�".
std::string Quoted(std::string_view text, size_t longest = 100);

bool IsUtf8(std::string_view text);

// A place in a spec.
class SpecPath {
 public:
  // `origin` begins every message: the file that the spec was read from, or "spec".
  explicit SpecPath(std::string_view origin) : origin_(origin) {}

  SpecPath Key(std::string_view key) const;
  SpecPath Index(size_t index) const;
  const std::string& field() const { return field_; }  // "disks[1].cache"; empty: the spec itself

  // Throws BadSpec: "<origin>: <field>: <fault>; allowed: <allowed>", without the last part when `allowed` is empty.
  [[noreturn]] void Refuse(std::string_view fault, std::string_view allowed = {}) const;

 private:
  std::string origin_;
  std::string field_;
};

}  // namespace mayfly::internal
