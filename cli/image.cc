// mayfly image: guest images, built from recipes and kept in a cache.
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/image.h>
#include <mayfly/internal/nearest.h>
#include <mayfly/internal/spec_fault.h>
#include <mayfly/sandbox.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/output.h"
#include "cli/status_line.h"

namespace mayfly::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kFooter =
    "Images are built when they are first used; `build` does it ahead, for a CI cache. The cache is "
    "$MAYFLY_CACHE_DIR,\n"
    "else $XDG_CACHE_HOME/mayfly, else ~/.cache/mayfly.\n\n"
    "Examples:\n"
    "  mayfly image list\n"
    "  mayfly image build --all\n"
    "  mayfly run --kernel \"$(mayfly image path tiny kernel)\" -- uname -r\n\n"
    "Exit codes: 0; 1 when it could not be done; 2 for a wrong command line.";

struct Flags {
  std::vector<std::string> names{};
  std::string file{};
  bool all = false;
  bool force = false;
  bool json = false;
  bool quiet = false;
  bool verbose = false;
};

// The files of an image, by the words that `image path` takes.
std::vector<std::pair<std::string, fs::path>> FilesOf(const Image& image) {
  std::vector<std::pair<std::string, fs::path>> files = {
      {"kernel", image.kernel}, {"initramfs", image.initramfs}, {"root_disk", image.root_disk}};
  std::erase_if(files, [](const auto& file) { return file.second.empty(); });
  return files;
}

Json JsonOf(const ImageInfo& info) {
  Json json = {{"name", info.name}, {"description", info.description}, {"built", info.built}};
  if (info.built) {
    json["hash"] = info.hash;
    json["size"] = info.size.count();
  }
  return json;
}

ImageInfo InfoOf(const ImageStore& store, const std::string& name) {
  std::vector<ImageInfo> all = store.List();
  std::vector<std::string_view> known;
  for (const ImageInfo& info : all) {
    if (info.name == name) return info;
    known.push_back(info.name);
  }
  throw BadSpec(
      {.summary = fmt::format("there is no image {}{}", internal::Quoted(name), internal::DidYouMean(name, known)),
       .next_step = "see: mayfly image list"});
}

int List(const Flags& flags) {
  std::vector<ImageInfo> all = ImageStore().List();
  if (flags.json) {
    Json json = Json::array();
    for (const ImageInfo& info : all) json.push_back(JsonOf(info));
    Print(json.dump(2) + "\n");
    return 0;
  }
  size_t width = 0;
  for (const ImageInfo& info : all) width = std::max(width, Width(info.name));
  for (const ImageInfo& info : all) {
    if (flags.quiet) {
      Print(info.name + "\n");
      continue;
    }
    std::string state = info.built ? fmt::format("built, {}", ForPeople(info.size)) : "not built";
    Print(fmt::format("{}  {}  {}\n", Padded(info.name, width), Padded(state, 16), info.description));
  }
  return 0;
}

int Show(const Flags& flags) {
  ImageStore store;
  ImageInfo info = InfoOf(store, flags.names.at(0));
  Json json = JsonOf(info);
  if (info.built) {
    Image image = store.Find(info.name);
    for (const auto& [file, path] : FilesOf(image)) json[file] = path.string();
    json["command_line"] = image.command_line;
    json["agent"] = image.agent;
  }
  if (flags.json) {
    Print(json.dump(2) + "\n");
    return 0;
  }
  if (info.built) json["size"] = ForPeople(info.size);
  for (const auto& [key, value] : json.items()) {
    std::string text = value.is_string() ? value.get<std::string>() : value.is_boolean() ? (value ? "yes" : "no") : "";
    Print(fmt::format("{}  {}\n", Padded(key, 12), text));
  }
  if (!info.built) Print(fmt::format("build it: mayfly image build {}\n", info.name));
  return 0;
}

int Build(const Flags& flags) {
  if (flags.all == !flags.names.empty()) {
    throw BadSpec({.summary = "image build: which image? Give names, or --all and no name",
                   .next_step = "see: mayfly image list"});
  }
  ImageStore store;
  std::vector<std::string> names;
  for (const std::string& name : flags.names) names.push_back(InfoOf(store, name).name);
  if (flags.all) {
    for (const ImageInfo& info : store.List()) names.push_back(info.name);
  }
  static StatusLine& status = *new StatusLine(StatusLine::ModeFor(flags.verbose));
  CleanUpOnSignals([](int) { status.Clear(); });
  Json built = Json::array();
  try {
    for (const std::string& name : names) {
      Clock::time_point start = Clock::now();
      Progress progress = [&name](std::string_view step) { status.Step(fmt::format("image {}: {}", name, step)); };
      Image image = flags.force ? store.Build(name, progress) : store.Find(name, progress);
      status.Clear();
      built.push_back({{"name", name}, {"hash", image.hash}});
      if (flags.json) continue;
      Print(fmt::format("{}  {}  {}\n", name, image.hash, ForPeople(Duration(Clock::now() - start))));
      FlushOutput();
    }
  } catch (...) {
    status.Clear();
    throw;
  }
  if (flags.json) Print(built.dump(2) + "\n");
  return 0;
}

int Path(const Flags& flags) {
  ImageStore store;
  std::string name = InfoOf(store, flags.names.at(0)).name;
  static StatusLine& status = *new StatusLine(StatusLine::ModeFor(flags.verbose));
  CleanUpOnSignals([](int) { status.Clear(); });
  Image image = store.Find(name, [](std::string_view step) { status.Step(step); });
  status.Clear();
  std::vector<std::string_view> known;
  std::vector<std::pair<std::string, fs::path>> files = FilesOf(image);
  for (const auto& [file, path] : files) {
    if (flags.file.empty()) Print(fmt::format("{}  {}\n", Padded(file, 10), path.string()));
    if (flags.file == file) Print(path.string() + "\n");
    known.push_back(file);
  }
  if (flags.file.empty() || std::count(known.begin(), known.end(), flags.file) > 0) return 0;
  throw BadSpec({.summary = fmt::format("image {} has no file {}{}", name, internal::Quoted(flags.file),
                                        internal::DidYouMean(flags.file, known))});
}

}  // namespace

void AddImage(CLI::App& app, Action& chosen) {
  auto flags = std::make_shared<Flags>();
  CLI::App& image = *app.add_subcommand("image", "Guest images: list, show, build");
  image.require_subcommand(1);
  image.footer(kFooter);

  auto add = [&](const char* name, const char* description, int (*function)(const Flags&)) -> CLI::App& {
    CLI::App& sub = *image.add_subcommand(name, description);
    sub.callback([flags, function, &chosen] { chosen = [flags, function] { return function(*flags); }; });
    return sub;
  };
  auto verbose = [&](CLI::App& sub) {
    sub.add_flag("-v,--verbose", flags->verbose, "Tell each step and its time on standard error");
  };
  CLI::App& list = add("list", "All images and whether they are built", List);
  list.add_flag("-q,--quiet", flags->quiet, "Names only");
  list.add_flag("--json", flags->json, "As JSON");
  CLI::App& show = add("show", "All about one image", Show);
  show.add_option("NAME", flags->names, "The image")->required()->expected(1)->type_name("");
  show.add_flag("--json", flags->json, "As JSON");
  CLI::App& build = add("build", "Build images that are not built yet", Build);
  build.add_option("NAME", flags->names, "The images")->type_name("");
  build.add_flag("--all", flags->all, "All images");
  build.add_flag("--force", flags->force, "Build even what is built");
  build.add_flag("--json", flags->json, "As JSON");
  verbose(build);
  CLI::App& path = add("path", "Where the files of an image are; builds it when it is not built yet", Path);
  path.add_option("NAME", flags->names, "The image")->required()->expected(1)->type_name("");
  path.add_option("FILE", flags->file, "kernel, initramfs or root_disk: prints only this one's path")->type_name("");
  verbose(path);
}

}  // namespace mayfly::cli
