// Forks, snapshots and clones: VMs that go on from another one.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <link.h>
#include <mayfly/driver.h>
#include <mayfly/errors.h>
#include <mayfly/image.h>
#include <mayfly/internal/content_hash.h>
#include <mayfly/internal/entry_manifest.h>
#include <mayfly/internal/guest_identity.h>
#include <mayfly/internal/lease.h>
#include <mayfly/internal/template_store.h>
#include <mayfly/internal/vm_impl.h>
#include <mayfly/snapshot.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

namespace mayfly {
namespace {

namespace fs = std::filesystem;
using internal::BuiltTemplate;
using internal::ContentHash;
using internal::TemplateStore;

// Raised when what lies in a template changes its meaning.
constexpr std::string_view kTemplateFormat = "1";

bool ForksAreOff() {
  const char* value = std::getenv("MAYFLY_FORK");  // NOLINT(concurrency-mt-unsafe): nothing here sets it
  std::string_view mode = value != nullptr && *value != '\0' ? value : "on";
  if (mode == "on" || mode == "off") return mode == "off";
  throw BadSpec({.summary = fmt::format("MAYFLY_FORK: \"{}\" is not a mode; allowed: on, off", mode)});
}

void AddFile(ContentHash& hash, const fs::path& file) {
  if (!file.empty()) hash.Add(file.native()).Add(internal::FileStamp(file).dump());
}

// All that a guest which was booted from this spec depends on.
std::string KeyOfBoot(const Driver& driver, const MachineSpec& asked, const MachineSpec& resolved) {
  ContentHash hash;
  hash.Add(kTemplateFormat).Add(driver.Name()).Add(driver.CopyIdentity(resolved)).Add(CanonicalHash(asked));
  hash.Add(resolved.boot.command_line);
  AddFile(hash, resolved.boot.kernel);
  AddFile(hash, resolved.boot.initramfs);
  for (const Disk& disk : resolved.disks) AddFile(hash, disk.path);
  return hash.Digest();
}

// The program that runs and the libraries that come with it: where the code of a preparation is. The system's own
// change with its packages, seldom, and never what a test's author wrote.
std::string KeyOfProgram() {
  ContentHash hash;
  AddFile(hash, fs::read_symlink("/proc/self/exe"));
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* into) {
        std::string_view name = info->dlpi_name;
        bool own = name.starts_with("/") && !name.starts_with("/usr/") && !name.starts_with("/lib");
        if (own) AddFile(*static_cast<ContentHash*>(into), name);
        return 0;
      },
      &hash);
  return hash.Digest();
}

std::string LabelOf(const MachineSpec& spec) { return spec.image.empty() ? "vm" : spec.image; }

std::vector<fs::path> FilesUnder(const std::vector<fs::path>& paths) {
  std::vector<fs::path> files;
  std::error_code error;
  for (const fs::path& path : paths) {
    files.push_back(path);
    if (!fs::is_directory(path, error)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(path, error)) files.push_back(entry.path());
  }
  return files;
}

// How the VM of a test is come by.
struct Source {
  bool copied = true;        // from a template
  bool booted_ahead = true;  // where it is not copied: by the pool, which keeps some ready
  bool prepared = false;     // so the preparation need not run in it
  std::string why_not{};     // it is no copy, or one that was not prepared
};

bool WritesToItsImages(const MachineSpec& spec) {
  return std::any_of(spec.disks.begin(), spec.disks.end(),
                     [](const Disk& disk) { return !disk.readonly && !disk.clone && !disk.path.empty(); });
}

Source SourceOf(const Driver& driver, const MachineSpec& spec, const MachineSpec& resolved) {
  Source source{.why_not = driver.WhyNoCopies(resolved)};
  if (!spec.agent) source.why_not = "the guest has no agent, which would give a copy its own clock and random numbers";
  if (ForksAreOff()) source.why_not = "MAYFLY_FORK is off";
  source.copied = source.why_not.empty();
  // Nobody but this test may have what the spec names for it alone.
  source.booted_ahead = spec.agent && !ForksAreOff() && !WritesToItsImages(resolved);
  return source;
}

}  // namespace

// A machine that shall become a template: its memory is in files of `place`.
class TemplateBuilder {
 public:
  TemplateBuilder(Driver& driver, MachineSpec asked, const MachineSpec& resolved)
      : driver_(driver), asked_(std::move(asked)), resolved_(resolved) {
    asked_.name = LabelOf(asked_);
    resolved_.name = asked_.name;
  }

  BuiltTemplate Boot(const fs::path& place) const {
    Vm::Impl vm(driver_.Create(resolved_, internal::SandboxFor(resolved_)), asked_);
    vm.machine().KeepMemoryIn(place / "memory");
    vm.Boot();
    vm.Save(place / "snapshot");
    return {};
  }

  BuiltTemplate Prepare(const fs::path& base, const Preparation& prepare, const fs::path& place) const {
    internal::UniqueFd in_use = TemplateStore::Use(base);
    SnapshotInfo info = ReadSnapshot(base);
    MachineSpec spec = SpecOfCopy(info, asked_.name);
    auto impl = std::make_unique<Vm::Impl>(driver_.Create(spec, internal::SandboxFor(spec)), asked_);
    impl->machine().KeepMemoryIn(place / "memory");
    impl->GoOnFrom(base, internal::IdentityOfCopy(info, impl->machine().spec()));
    impl->WatchUploads();
    Vm vm(std::move(impl));
    if (!prepare.run(vm)) return {.same_as = base};
    vm.impl_->Save(place / "snapshot");
    return {.base = base, .files = FilesUnder(vm.impl_->uploads())};
  }

 private:
  Driver& driver_;
  MachineSpec asked_;
  MachineSpec resolved_;
};

Vm Vm::Fork(MachineSpec spec, const Preparation& prepare, const Progress& progress) {
  MachineSpec asked = spec;
  if (asked.name.empty()) asked.name = LabelOf(asked);
  Validate(asked);
  Driver& driver = FindDriver(spec.driver);
  MachineSpec resolved = ResolveImage(asked, progress);
  resolved.name.clear();
  Source source = SourceOf(driver, spec, resolved);
  TemplateBuilder builder(driver, asked, resolved);
  TemplateStore store;
  fs::path from;
  try {
    if (source.copied) {
      from = store.Get({.label = LabelOf(asked),
                        .key = KeyOfBoot(driver, asked, resolved),
                        .build = [&](const fs::path& place) { return builder.Boot(place); }},
                       progress);
    }
    if (source.copied && prepare.run) {
      ContentHash hash;
      hash.Add(from.filename().native()).Add(KeyOfProgram()).Add(prepare.identity);
      from = store.Get({.label = LabelOf(asked) + "-prepared",
                        .key = hash.Digest(),
                        .build = [&](const fs::path& place) { return builder.Prepare(from, prepare, place); }},
                       progress);
      source.prepared = true;
    }
  } catch (const Unsupported& error) {
    if (error.capability() != Capability::kStateSnapshot) throw;
    source.why_not = error.reason();
    source.copied = !from.empty();  // what was booted could be saved, what was prepared cannot
  }

  std::optional<internal::Lease::Fork> fork;
  if (source.copied) {
    fork = internal::Lease::OpenFork(from, asked.name);
  } else if (source.booted_ahead) {
    fork = internal::Lease::OpenBooted(driver, resolved);
  }
  Vm vm = fork ? Vm(Impl::Adopt(driver, std::move(*fork), std::move(spec))) : Create(std::move(spec), progress);
  if (!source.why_not.empty()) vm.machine().timeline().Add("mayfly", "no-fork", source.why_not);
  if (!fork) vm.Boot();
  if (prepare.run && !source.prepared) prepare.run(vm);
  return vm;
}

std::unique_ptr<Vm::Impl> Vm::Impl::Adopt(Driver& driver, internal::Lease::Fork fork, MachineSpec spec) {
  fork.machine.name = spec.name;
  std::unique_ptr<Machine> machine = driver.Adopt(std::move(fork.machine), std::move(fork.agent));
  bool named = !spec.name.empty();
  spec.name = machine->name();
  auto impl = std::make_unique<Impl>(std::move(machine), std::move(spec));
  impl->TakeOver(std::move(fork.session));
  if (named) impl->FixUp({.hostname = impl->machine().name()});
  return impl;
}

void Vm::Snapshot(std::string_view name) {
  bool good = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  });
  if (!good) {
    throw BadSpec(
        {.summary = fmt::format("{}: \"{}\" is no name for a snapshot; allowed: [a-zA-Z0-9_-]", impl_->Title(), name)});
  }
  impl_->Save(impl_->SnapshotDirectory(name));
}

void Vm::Revert(std::string_view name) {
  fs::path directory = impl_->SnapshotDirectory(name);
  if (!fs::exists(directory / "snapshot.json")) {
    constexpr std::string_view kPrefix = "snapshot-";
    std::vector<std::string> known;
    for (const auto& entry : fs::directory_iterator(directory.parent_path())) {
      std::string file = entry.path().filename();
      if (file.starts_with(kPrefix)) known.push_back(file.substr(kPrefix.size()));
    }
    throw BadSpec({.summary = fmt::format("{}: there is no snapshot \"{}\"; there are: {}", impl_->Title(), name,
                                          known.empty() ? "none" : fmt::format("{}", fmt::join(known, ", ")))});
  }
  SnapshotInfo info = ReadSnapshot(directory);
  MachineSpec spec = SpecOfCopy(info, impl_->machine().name());
  spec.nics = info.spec.nics;  // it is the same VM: its addresses stay
  impl_->machine().Kill();
  impl_->Replace(FindDriver(info.driver).Create(spec, impl_->NextSandbox()));
  impl_->GoOnFrom(directory, {});
}

Vm Vm::Clone() {
  MachineSpec asked = impl_->asked();
  asked.name = fmt::format("{}-{}", impl_->machine().name().substr(0, 50), internal::RandomDigits(4));
  Sandbox sandbox = internal::SandboxForCopy(asked);
  fs::path origin = sandbox.Path("origin");
  impl_->Save(origin);
  SnapshotInfo info = ReadSnapshot(origin);
  std::unique_ptr<Machine> machine = FindDriver(info.driver).Create(SpecOfCopy(info, asked.name), std::move(sandbox));
  auto impl = std::make_unique<Impl>(std::move(machine), std::move(asked));
  impl->GoOnFrom(origin, internal::IdentityOfCopy(info, impl->machine().spec()));
  return Vm(std::move(impl));
}

}  // namespace mayfly
