// The service: tells whoever connects to port 8080 which visitor it is.
//
// The count is kept in a file. Version 1 writes a bare number. Version 2 writes "format 2, visits N" and takes over
// what version 1 has left. A version that does not know the format of the file does not start and leaves it alone.
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>

namespace {

const std::string kState = "/var/lib/visits/state";
const std::string kFormat2 = "format 2, visits ";

int Load() {
  std::ifstream file(kState);
  std::string line;
  if (!std::getline(file, line)) return 0;
  bool is_format_2 = line.rfind(kFormat2, 0) == 0;
  if (is_format_2 && VERSION < 2) throw std::runtime_error("the state has format 2, which version 1 does not know");
  return std::stoi(is_format_2 ? line.substr(kFormat2.size()) : line);
}

void Save(int visits) {
  std::ofstream(kState + ".new") << (VERSION < 2 ? "" : kFormat2) << visits << '\n';
  int fd = open((kState + ".new").c_str(), O_RDONLY);
  if (fd < 0 || fsync(fd) != 0) throw std::runtime_error("cannot write " + kState + ".new");
  close(fd);
  std::filesystem::rename(kState + ".new", kState);
}

int Listen(uint16_t port) {
  int server = socket(AF_INET, SOCK_STREAM, 0);
  int yes = 1;
  setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  if (bind(server, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || listen(server, 16) != 0) {
    throw std::runtime_error("cannot listen on port " + std::to_string(port));
  }
  return server;
}

// Only now does systemd call the unit active (Type=notify): one that does not get here has failed to start.
void TellSystemdThatItIsReady() {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr) return;  // started by hand
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  int channel = socket(AF_UNIX, SOCK_DGRAM, 0);
  sendto(channel, "READY=1", 7, 0, reinterpret_cast<sockaddr*>(&address), sizeof address);
  close(channel);
}

}  // namespace

int main() try {
  int visits = Load();
  Save(visits);  // in this version's format
  int server = Listen(8080);
  TellSystemdThatItIsReady();
  while (true) {
    int client = accept(server, nullptr, nullptr);
    Save(++visits);
    dprintf(client, "visits %d: you are visitor %d\n", VERSION, visits);
    close(client);
  }
} catch (const std::exception& error) {
  std::cerr << "visits: " << error.what() << '\n';
  return 1;
}
