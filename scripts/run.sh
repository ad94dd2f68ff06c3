#!/usr/bin/env bash
# Builds everything and runs it under QEMU. `run.sh --help` lists the options.
set -euo pipefail
# shellcheck source=setup.sh
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/setup.sh" || exit 5
case ${1:-} in
  # Words after a program's name are its arguments, so only the first word can be one of these options.
  --list | -h | --help) ringside_setup --look || exit 5 ;;
  *) ringside_setup || exit 5 ;;
esac
ringside_xtask run "$@"
