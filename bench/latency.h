// The spread of single iterations, which Google Benchmark averages away: counters p50_ms, p90_ms, p99_ms, min_ms and
// max_ms.
//
//   Latency latency(state);
//   for (auto _ : state) latency.Time([&] { … });
//
// The counters are set by the destructor.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <vector>

namespace mayfly::bench {

class Latency {
 public:
  explicit Latency(benchmark::State& state) : state_(state) {}
  Latency(const Latency&) = delete;
  Latency& operator=(const Latency&) = delete;

  ~Latency() {
    if (times_.empty()) return;
    std::sort(times_.begin(), times_.end());
    auto at = [this](double share) {
      return times_[static_cast<size_t>(share * static_cast<double>(times_.size() - 1) + 0.5)];
    };
    state_.counters["p50_ms"] = at(0.5);
    state_.counters["p90_ms"] = at(0.9);
    state_.counters["p99_ms"] = at(0.99);
    state_.counters["min_ms"] = times_.front();
    state_.counters["max_ms"] = times_.back();
  }

  template <typename Function>
  void Time(Function function) {
    auto begin = std::chrono::steady_clock::now();
    function();
    times_.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
  }

 private:
  benchmark::State& state_;
  std::vector<double> times_;
};

}  // namespace mayfly::bench
