# Tests and benchmarks. Sourced by ./kijko.
# shellcheck shell=bash
command_test() { misuse "not yet"; }
command_bench() { misuse "not yet"; }
