// The conformance suite: a test for each cell of the matrix with the backends of this build.
//
//   mayfly-conformance --gtest_filter=conformance.qemu.cpu.*
//   mayfly-conformance --list-cases                             what there is, as JSON
#include <mayfly/errors.h>
#include <mayfly/internal/matrix.h>
#include <mayfly/listener.h>

#include <cstdio>
#include <cstring>

#include "conformance/cells.h"

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "--list-cases") == 0) {
    try {
      std::puts(mayfly::conformance::ListCells(mayfly::internal::LoadMatrix()).dump().c_str());
      return 0;
    } catch (const mayfly::Error& error) {
      std::fprintf(stderr, "%s\n", error.what());
      return 2;
    }
  }
  mayfly::InitGoogleTest(&argc, argv);
  try {
    mayfly::conformance::RegisterCells(mayfly::internal::LoadMatrix());
  } catch (const mayfly::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
  return mayfly::RunAllTests();
}
