#include <elf.h>
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/byte_view.h>
#include <mayfly/internal/kernel_modules.h>
#include <mayfly/internal/nearest.h>
#include <mayfly/internal/spec_fault.h>

#include <algorithm>
#include <optional>

namespace mayfly::internal {
namespace {

[[noreturn]] void Refuse(std::string_view origin, std::string_view why) {
  throw BadSpec({.summary = fmt::format("{}: {}", origin, why), .notes = {}, .next_step = {}});
}

// The section .modinfo of an ELF file: "key=value" strings, each with a zero byte at its end.
std::optional<std::string_view> ModInfoSection(std::string_view bytes) {
  auto header = At<Elf64_Ehdr>(bytes, 0);
  if (!header || std::string_view(reinterpret_cast<char*>(header->e_ident), SELFMAG) != ELFMAG) return std::nullopt;
  if (header->e_ident[EI_CLASS] != ELFCLASS64) return std::nullopt;
  auto section = [&](size_t index) { return At<Elf64_Shdr>(bytes, header->e_shoff + index * sizeof(Elf64_Shdr)); };
  auto names_header = section(header->e_shstrndx);
  if (!names_header) return std::nullopt;
  auto names = Slice(bytes, names_header->sh_offset, names_header->sh_size);
  if (!names) return std::nullopt;
  for (size_t i = 0; i < header->e_shnum; ++i) {
    auto row = section(i);
    if (!row || row->sh_name >= names->size()) return std::nullopt;
    std::string_view name = names->substr(row->sh_name);
    if (name.substr(0, name.find('\0')) == ".modinfo") return Slice(bytes, row->sh_offset, row->sh_size);
  }
  return std::nullopt;
}

std::string Normalised(std::string_view name) {
  std::string out(name);
  std::replace(out.begin(), out.end(), '-', '_');
  return out;
}

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    std::string_view part = text.substr(0, text.find(separator));
    text.remove_prefix(std::min(part.size() + 1, text.size()));
    if (!part.empty()) parts.push_back(part);
  }
  return parts;
}

}  // namespace

ModuleInfo ReadModuleInfo(std::string_view bytes, std::string_view origin) {
  auto section = ModInfoSection(bytes);
  if (!section) Refuse(origin, "is no kernel module: it has no section .modinfo");
  ModuleInfo info;
  for (std::string_view line : Split(*section, '\0')) {
    if (line.starts_with("depends=")) {
      for (std::string_view name : Split(line.substr(8), ',')) info.depends.push_back(Normalised(name));
    }
    if (line.starts_with("alias=")) info.aliases.emplace_back(line.substr(6));
  }
  return info;
}

std::string ModuleName(std::string_view path) {
  std::string_view file = path.substr(path.rfind('/') + 1);
  size_t end = file.find(".ko");
  return end == std::string_view::npos ? std::string() : Normalised(file.substr(0, end));
}

void KernelModules::Add(std::string path, std::string_view bytes) {
  ModuleInfo info = ReadModuleInfo(bytes, path);
  std::string name = ModuleName(path);
  modules_[name] = {.path = std::move(path), .info = std::move(info)};
}

void KernelModules::AddBuiltin(std::string_view list) {
  for (std::string_view path : Split(list, '\n')) builtin_.insert(ModuleName(path));
}

void KernelModules::AddInOrder(const std::string& name, std::string_view where, std::vector<std::string>& order,
                               std::set<std::string>& seen) const {
  if (builtin_.contains(name) || !seen.insert(name).second) return;
  auto found = modules_.find(name);
  if (found == modules_.end()) {
    std::vector<std::string_view> known;
    for (const auto& [module, unused] : modules_) known.push_back(module);
    auto nearest = Nearest(name, known);
    Refuse(where, fmt::format("the kernel has no module {}{}", Quoted(name),
                              nearest ? fmt::format("; did you mean \"{}\"?", *nearest) : ""));
  }
  for (const std::string& needed : found->second.info.depends) AddInOrder(needed, where, order, seen);
  order.push_back(found->second.path);
}

std::vector<std::string> KernelModules::LoadOrder(const std::vector<std::string>& names, std::string_view where) const {
  std::vector<std::string> order;
  std::set<std::string> seen;
  for (const std::string& name : names) AddInOrder(Normalised(name), where, order, seen);
  return order;
}

std::string KernelModules::DependencyFile(const std::vector<std::string>& paths) const {
  std::string text;
  for (const std::string& path : paths) {
    std::vector<std::string> needed = LoadOrder({ModuleName(path)}, path);
    text += path + ":";
    // What it needs, the nearest first: modprobe loads them from the end.
    for (auto each = needed.rbegin(); each != needed.rend(); ++each) {
      if (*each != path) text += " " + *each;
    }
    text += '\n';
  }
  return text;
}

std::string KernelModules::AliasFile(const std::vector<std::string>& paths) const {
  std::string text;
  for (const std::string& path : paths) {
    std::string name = ModuleName(path);
    for (const std::string& alias : modules_.at(name).info.aliases) text += fmt::format("alias {} {}\n", alias, name);
  }
  return text;
}

}  // namespace mayfly::internal
