// A process that serves one client and ends with it, for a client that comes again: started anew whenever it has ended.
//
//   auto listener = std::make_shared<UniqueFd>(ListenOn(socket));
//   std::unique_ptr<Process> server = std::make_unique<LastingServer>([=] { return StartVirtiofsd(listener->get()); });
//
// Who holds the listener lets nobody down: a client that connects between two of them waits for the next. One that ends
// as soon as it is started, three times in a row, is not started again. The destructor ends it.
#pragma once

#include <mayfly/internal/process.h>
#include <mayfly/internal/unique_fd.h>

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

namespace mayfly::internal {

class LastingServer final : public Process {
 public:
  // `start` is called here, and throws what it throws; then on a thread of its own.
  explicit LastingServer(std::function<std::unique_ptr<Process>()> start);
  ~LastingServer() override;

  // Of the one that runs now. Nothing while it lasts.
  std::optional<ExitStatus> Poll() override;
  void Signal(int signal) override;

 private:
  void Watch();
  // False when this is to end.
  bool AwaitEnd(const Process& server) const;

  const std::function<std::unique_ptr<Process>()> start_;
  UniqueFd stop_;  // an eventfd
  std::mutex mutex_;
  std::unique_ptr<Process> server_;  // null: given up
  std::thread watch_;                // last: uses the members above
};

}  // namespace mayfly::internal
