#!/bin/bash
# Compiles duka-node and duka-gateway, and nothing else, with the counters that libFuzzer reads. Cargo calls it as
# RUSTC_WORKSPACE_WRAPPER, so that dependencies are those of every other build.
set -euo pipefail
case " $* " in
  *" --crate-name duka_node "* | *" --crate-name duka_gateway "*)
    exec "$@" -Cpasses=sancov-module -Ccodegen-units=1 \
      -Cllvm-args=-sanitizer-coverage-level=4 \
      -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
      -Cllvm-args=-sanitizer-coverage-pc-table \
      -Cllvm-args=-sanitizer-coverage-trace-compares ;;
  *) exec "$@" ;;
esac
