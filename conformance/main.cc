// The conformance suite: a test for each cell of the matrix with the backends of this build.
#include <mayfly/errors.h>
#include <mayfly/internal/matrix.h>
#include <mayfly/listener.h>

#include <cstdio>

#include "conformance/cells.h"

int main(int argc, char** argv) {
  mayfly::InitGoogleTest(&argc, argv);
  try {
    mayfly::conformance::RegisterCells(mayfly::internal::LoadMatrix());
  } catch (const mayfly::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
  return mayfly::RunAllTests();
}
