# Sourced by the scripts of ci/: where things are, and how progress is told.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# What a run leaves stays in build/, which git ignores.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1
export NINJA_STATUS='[%f/%t %es] '
# Words and sort order must not depend on the language of the user.
export LC_ALL=C.UTF-8

jobs=$(nproc)

# step WORDS…: says what begins, with the time since the script began.
step() { printf '\n== %s (%d:%02d)\n' "$*" $((SECONDS / 60)) $((SECONDS % 60)); }

fail() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# build PRESET: configures where that was not done, and builds all of it.
build() {
  step "configure and build, preset $1"
  cmake --preset "$1" >"build/configure-$1.log" 2>&1 || { cat "build/configure-$1.log" >&2; fail "cmake --preset $1"; }
  cmake --build --preset "$1" --parallel "$jobs"
}

# run_tests PRESET CTEST-ARGUMENT…: runs tests side by side; the result is in build/PRESET/tests.xml.
run_tests() {
  local preset=$1
  shift
  ctest --preset "$preset" --parallel "$jobs" --output-junit "$PWD/build/$preset/tests.xml" "$@"
}
mkdir -p build
