#include <mayfly/internal/agent_transcript.h>

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <string>

#include <fmt/format.h>

namespace mayfly::internal {
namespace {

constexpr size_t kTranscriptLimit = 4 << 20;

}  // namespace

Transcript::Transcript(const std::filesystem::path& path) {
  if (!path.empty()) file_.Reset(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
}

void Transcript::Line(std::string_view text) {
  if (!file_) return;
  std::string line = fmt::format("{:9.3f} {}\n", std::chrono::duration<double>(Clock::now() - start_).count(), text);
  written_ += line.size();
  bool full = written_ > kTranscriptLimit;
  if (full) line = "(the rest is left out: this file is full)\n";
  // A transcript that cannot be written is not worth a failure.
  if (write(file_.get(), line.data(), line.size()) < 0 || full) file_.Reset();
}

}  // namespace mayfly::internal
