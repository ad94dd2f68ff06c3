#!/usr/bin/env bash
# Runs every test. `test.sh --help` lists the options; `test.sh WORD` runs the cases whose names have WORD.
set -euo pipefail
scripts=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
. "$scripts/setup.sh"
ringside_setup --dev || exit 5
ringside_xtask test "$@"
