#include <fcntl.h>

#include <csignal>

#include "cli/command_line.h"

namespace {

// A closed standard stream would be given to the next file that is opened: a sandbox's log would get the guest's
// output. It gets /dev/null instead, opened the wrong way round so that using it fails as it should.
void HoldStandardStreams() {
  for (int fd = 0; fd <= 2; ++fd) {
    if (fcntl(fd, F_GETFD) < 0) open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
  }
}

}  // namespace

int main(int argc, char** argv) {
  HoldStandardStreams();
  std::signal(SIGPIPE, SIG_IGN);  // a reader that goes away is an error of write(2), so that the VM is cleaned up
  return mayfly::cli::Mayfly({argv + 1, argv + argc});
}
