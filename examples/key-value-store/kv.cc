// A key-value store with a file for each key: kv put KEY VALUE, kv get KEY. What `put` has accepted is on the disk.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>

namespace {

const std::filesystem::path kStore = "/var/lib/kv";

void Flush(const std::filesystem::path& path) {
  int fd = open(path.c_str(), O_RDONLY);
  if (fd < 0 || fsync(fd) != 0) throw std::runtime_error("cannot flush " + path.string());
  close(fd);
}

void Put(const std::string& key, const std::string& value) {
  std::filesystem::create_directories(kStore);
  Flush(kStore.parent_path());
  std::filesystem::path fresh = kStore / (key + ".new");
  if (!(std::ofstream(fresh) << value << '\n' << std::flush))
    throw std::runtime_error("cannot write " + fresh.string());
  Flush(fresh);
  std::filesystem::rename(fresh, kStore / key);  // the old value or the new one, never half of one
  Flush(kStore);
}

void Get(const std::string& key) {
  std::ifstream file(kStore / key);
  if (!file) throw std::runtime_error("no such key: " + key);
  std::cout << file.rdbuf();
}

}  // namespace

int main(int argc, char** argv) try {
  std::string command = argc > 1 ? argv[1] : "";
  if (command == "put" && argc == 4) {
    Put(argv[2], argv[3]);
  } else if (command == "get" && argc == 3) {
    Get(argv[2]);
  } else {
    throw std::runtime_error("usage: kv put KEY VALUE, kv get KEY");
  }
} catch (const std::exception& error) {
  std::cerr << "kv: " << error.what() << '\n';
  return 1;
}
