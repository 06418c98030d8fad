#include "daemon/pool_server.h"

#include <mayfly/errors.h>
#include <mayfly/internal/pool_connection.h>
#include <sys/eventfd.h>

#include <system_error>
#include <thread>
#include <utility>

#include "daemon/session.h"

namespace mayfly::internal {

using nlohmann::json;

PoolServer::PoolServer(EventLog& log, HostBudget budget, size_t warm)
    : log_(log),
      admission_(std::move(budget)),
      forks_(log, admission_, warm),
      event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!event_) throw HostLacks({.summary = "cannot make an eventfd", .next_step = "raise the limit of open files"});
  admission_.OnChange([this] { changes_.Bump(); });
  forks_.OnChange([this] { changes_.Bump(); });
}

PoolServer::~PoolServer() { EndAll(); }

void PoolServer::Serve(UniqueFd connection) {
  int id = 0;
  {
    std::lock_guard lock(mutex_);
    id = next_id_++;
    ++threads_;
  }
  try {
    // Detached: nobody joins a thread for each of thousands of leases. EndAll waits for the count.
    std::thread([this, id, fd = std::move(connection)]() mutable { RunSession(id, std::move(fd)); }).detach();
  } catch (const std::system_error& error) {
    log_.Write("no-thread", {{"lease", id}, {"error", error.what()}});
    std::lock_guard lock(mutex_);
    --threads_;
  }
}

void PoolServer::RunSession(int id, UniqueFd connection) {
  std::string how = "closed";
  try {
    Session session(*this, id, std::move(connection));
    {
      std::lock_guard lock(mutex_);
      sessions_[id] = &session;
      if (stopping_) session.CutOff();
    }
    try {
      session.Run();
    } catch (const Error& error) {
      how = error.text().summary;
    } catch (const std::exception& error) {
      how = error.what();
    }
    std::lock_guard lock(mutex_);
    sessions_.erase(id);
  } catch (const std::exception& error) {
    how = error.what();
  }
  log_.Write("connection-ended", {{"lease", id}, {"how", how}});
  std::lock_guard lock(mutex_);
  if (--threads_ == watchers_) Notify();
  changes_.Bump();
  changed_.notify_all();
}

void PoolServer::Notify() const { eventfd_write(event_.get(), 1); }

bool PoolServer::stop_requested() const {
  std::lock_guard lock(mutex_);
  return stopping_;
}

bool PoolServer::idle() const {
  std::lock_guard lock(mutex_);
  return threads_ == watchers_;
}

void PoolServer::AddWatcher() {
  std::lock_guard lock(mutex_);
  if (++watchers_ == threads_) Notify();
}

void PoolServer::RemoveWatcher() {
  std::lock_guard lock(mutex_);
  --watchers_;
}

void PoolServer::RequestStop() {
  std::lock_guard lock(mutex_);
  stopping_ = true;
  Notify();
}

void PoolServer::EndAll() {
  std::unique_lock lock(mutex_);
  stopping_ = true;
  for (auto& [id, session] : sessions_) session->CutOff();
  changed_.wait(lock, [this] { return threads_ == 0; });
}

json PoolServer::Status() const {
  uint64_t change = changes_.value();  // before what it stands for: at worst somebody looks once too often
  std::lock_guard lock(mutex_);
  json leases = json::array();
  for (const auto& [id, session] : sessions_) {
    json info = session->Info();
    if (info.contains("directory")) leases.push_back(std::move(info));
  }
  return {{"change", change},
          {"version", MAYFLY_VERSION},
          {"pid", getpid()},
          {"seconds", std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count()},
          {"leases", std::move(leases)},
          {"forks", forks_.Status()},
          {"admission", admission_.Info()}};
}

void ServeInThisProcess(UniqueFd connection) {
  // Lives as long as the process: what its leases hold goes with the process, by PDEATHSIG and the janitor.
  static auto* log = new EventLog;
  static auto* pool =
      new PoolServer(*log, HostBudget(HostBudget::FromEnvironment()), ForksKeptReady(/*in_daemon=*/false));
  pool->Serve(std::move(connection));
}

}  // namespace mayfly::internal
