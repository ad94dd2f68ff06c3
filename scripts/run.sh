#!/usr/bin/env bash
# Builds everything and runs it under QEMU. `run.sh --help` lists the options.
set -euo pipefail
scripts=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
. "$scripts/setup.sh"
ringside_setup || exit 5
ringside_xtask run "$@"
