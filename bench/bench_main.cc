// main() of every Google Benchmark program here: as benchmark_main, and leaves no guest behind.
#include <benchmark/benchmark.h>
#include <mayfly/errors.h>
#include <mayfly/sandbox.h>

#include <cstdio>

#include "bench/guest.h"

int main(int argc, char** argv) {
  mayfly::CleanUpOnSignals();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  int status = 0;
  try {
    benchmark::RunSpecifiedBenchmarks();
  } catch (const mayfly::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    status = 1;
  }
  mayfly::bench::ReleaseGuest();
  benchmark::Shutdown();
  return status;
}
