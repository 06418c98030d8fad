// What holds for every spec. Specs are generated and changed by walking the field tables, so a new field is covered as
// soon as it has its row.
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/spec_fields.h>
#include <mayfly/spec.h>

#include <array>
#include <concepts>
#include <limits>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace mayfly {
namespace {

using internal::ForEachField;
using internal::Identity;
using internal::SpecEnum;
using internal::SpecList;
using internal::SpecOptional;
using internal::SpecStruct;

constexpr uint64_t kSeed = 20240817;

constexpr std::array<std::string_view, 12> kTexts = {"",
                                                     "data",
                                                     "/var/lib/images/root.img",
                                                     "52:54:00:12:34:56",
                                                     "#cloud-config\nusers: []\n",
                                                     "\"quoted\\\"",
                                                     "null",
                                                     "1GiB",
                                                     "tab\tbell\x07 delete\x7f",
                                                     "größe",
                                                     "🦟",
                                                     "</script>"};

class Generator {
 public:
  explicit Generator(uint64_t seed) : random_(seed) {}

  template <class T>
  void Fill(T& value) {
    if constexpr (std::same_as<T, bool>) {
      value = Below(2) == 1;
    } else if constexpr (std::same_as<T, std::string>) {
      value.clear();
      for (uint64_t parts = Below(3); parts > 0; --parts) value += kTexts[Below(kTexts.size())];
    } else if constexpr (std::same_as<T, Bytes>) {
      value = Bytes(Number(UINT64_MAX));
    } else if constexpr (std::same_as<T, std::chrono::milliseconds>) {
      value = std::chrono::milliseconds(Number(INT64_MAX));
    } else if constexpr (SpecEnum<T>) {
      value = static_cast<T>(Below(internal::kEnumNames<T>.size()));
    } else if constexpr (SpecStruct<T>) {
      ForEachField(value, [this](const auto& /*field*/, auto& member) {
        if (Below(2) == 1) Fill(member);
      });
    } else if constexpr (SpecList<T>) {
      value.resize(Below(4));
      for (auto& element : value) Fill(element);
    } else if constexpr (SpecOptional<T>) {
      value.reset();
      if (Below(2) == 1) Fill(value.emplace());
    } else {
      value = static_cast<T>(Number(std::numeric_limits<T>::max()));
    }
  }

 private:
  uint64_t Below(uint64_t end) { return random_() % end; }

  // Small numbers, powers of two and their neighbours, the limits.
  uint64_t Number(uint64_t most) {
    switch (Below(4)) {
      case 0:
        return Below(5);
      case 1:
        return most - Below(2);
      case 2:
        return std::min(most, (uint64_t{1} << Below(64)) - Below(2));
      default:
        return most == UINT64_MAX ? random_() : Below(most + 1);
    }
  }

  std::mt19937_64 random_;
};

// Calls visit(path, identity, leaf) for every value in a spec that has no parts of its own.
template <class T, class Visit>
void Walk(T& value, const std::string& path, Identity identity, Visit&& visit) {
  if constexpr (SpecStruct<T>) {
    ForEachField(value, [&](const auto& field, auto& member) {
      bool in_hash = identity == Identity::kYes && field.identity == Identity::kYes;
      Walk(member, path + "/" + std::string(field.name), in_hash ? Identity::kYes : Identity::kNo, visit);
    });
  } else if constexpr (SpecList<T>) {
    for (auto& element : value) Walk(element, path + "/0", identity, visit);
  } else if constexpr (SpecOptional<T>) {
    if (value) Walk(*value, path, identity, visit);
  } else {
    visit(path, identity, value);
  }
}

// Gives every list an element and every optional a value.
template <class T>
void MakeFull(T& value) {
  if constexpr (SpecStruct<T>) {
    ForEachField(value, [](const auto& /*field*/, auto& member) { MakeFull(member); });
  } else if constexpr (SpecList<T>) {
    value.resize(1);
    MakeFull(value[0]);
  } else if constexpr (SpecOptional<T>) {
    MakeFull(value.emplace());
  }
}

template <class T>
void Change(T& leaf) {
  if constexpr (std::same_as<T, bool>) {
    leaf = !leaf;
  } else if constexpr (std::same_as<T, std::string>) {
    leaf += "x";
  } else if constexpr (std::same_as<T, Bytes>) {
    leaf = leaf + Bytes(1);
  } else if constexpr (std::same_as<T, std::chrono::milliseconds>) {
    leaf += std::chrono::milliseconds(1);
  } else if constexpr (SpecEnum<T>) {
    leaf = static_cast<T>((static_cast<size_t>(leaf) + 1) % internal::kEnumNames<T>.size());
  } else {
    ++leaf;
  }
}

struct ChangedSpec {
  std::string path;
  Identity identity = Identity::kYes;
  MachineSpec spec;
};

// A copy of `spec` for each of its leaves, with that one changed.
std::vector<ChangedSpec> EachLeafChanged(MachineSpec spec) {
  std::vector<ChangedSpec> all;
  size_t leaves = 0;
  Walk(spec, "", Identity::kYes, [&](const auto&...) { ++leaves; });
  for (size_t n = 0; n < leaves; ++n) {
    ChangedSpec changed{.path = "", .spec = spec};
    size_t i = 0;
    Walk(changed.spec, "", Identity::kYes, [&](const std::string& path, Identity identity, auto& leaf) {
      if (i++ != n) return;
      changed.path = path;
      changed.identity = identity;
      Change(leaf);
    });
    all.push_back(changed);
  }
  return all;
}

TEST(SpecProperty, EverySpecComesBackFromItsJson) {
  constexpr int kSpecs = 3000;
  Generator generator(kSeed);
  for (int i = 0; i < kSpecs; ++i) {
    MachineSpec spec;
    generator.Fill(spec);
    std::string text = ToJson(spec, i % 3);
    ASSERT_EQ(SpecFromJson(text, "generated"), spec) << "spec " << i << ": " << text;
    ASSERT_EQ(ToJson(SpecFromJson(text, "generated"), i % 3), text);
  }
}

TEST(SpecProperty, EqualSpecsHaveOneHashAndUnequalOnesNever) {
  constexpr int kSpecs = 1000;
  Generator generator(kSeed);
  std::set<std::string> texts;
  std::set<std::string> hashes;
  for (int i = 0; i < kSpecs; ++i) {
    MachineSpec spec;
    generator.Fill(spec);
    ASSERT_EQ(CanonicalHash(SpecFromJson(ToJson(spec), "generated")), CanonicalHash(spec));
    spec.name.clear();
    spec.driver.clear();
    spec.boot_timeout = {};
    texts.insert(ToJson(spec));
    hashes.insert(CanonicalHash(spec));
  }
  EXPECT_EQ(hashes.size(), texts.size());
}

TEST(SpecProperty, EveryFieldIsInTheJson) {
  MachineSpec full;
  MakeFull(full);
  const std::vector<ChangedSpec> changes = EachLeafChanged(full);
  EXPECT_GE(changes.size(), 70U);
  for (const ChangedSpec& changed : changes) {
    EXPECT_NE(changed.spec, full) << changed.path;
    EXPECT_EQ(SpecFromJson(ToJson(changed.spec), "changed"), changed.spec) << changed.path;
  }
}

TEST(SpecProperty, EveryFieldIsInTheHashButNameDriverAndTimeout) {
  MachineSpec full;
  MakeFull(full);
  std::set<std::string> hashes = {CanonicalHash(full)};
  std::set<std::string> outside;
  for (const ChangedSpec& changed : EachLeafChanged(full)) {
    bool is_new = hashes.insert(CanonicalHash(changed.spec)).second;
    EXPECT_EQ(is_new, changed.identity == Identity::kYes) << changed.path;
    if (!is_new) outside.insert(changed.path);
  }
  EXPECT_EQ(outside, (std::set<std::string>{"/name", "/driver", "/boot_timeout"}));
}

// A byte of valid JSON changed, dropped or doubled gives either a spec or a BadSpec: never a crash or another error.
TEST(SpecProperty, DamagedJsonIsReadOrRefused) {
  constexpr int kSpecs = 400;
  Generator generator(kSeed);
  std::mt19937_64 random(kSeed);
  int refused = 0;
  for (int i = 0; i < kSpecs; ++i) {
    MachineSpec spec;
    generator.Fill(spec);
    std::string text = ToJson(spec, i % 2);
    size_t at = random() % text.size();
    switch (i % 3) {
      case 0:
        text[at] = static_cast<char>(random());
        break;
      case 1:
        text.erase(at, 1);
        break;
      default:
        text.insert(at, 1, text[at]);
    }
    try {
      SpecFromJson(text, "damaged");
    } catch (const BadSpec&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, kSpecs / 4);
}

}  // namespace
}  // namespace mayfly
