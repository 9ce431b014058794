#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Example for any CI that runs a script, as root: run.sh CONFIG RESULTS [PART/PARTS].
# NICMODEL is a clone of nicmodel. Exit status 0: passed, 1: failed, 4: this machine lacks something.
# RESULTS has vm.tap, vm.xml (JUnit) and run/ with consoles, captures, events, versions and seed;
# of a matrix, a folder of these for each run, and table.md.
set -eu

config=$(realpath "$1")
results=$(realpath -m "$2")
shard=${3:-1/1}

cd "${NICMODEL:?is the path of a clone of nicmodel}"
make setup
exec build/venv/bin/python -m nicmodel test --config "$config" --shard "$shard" --results "$results"
