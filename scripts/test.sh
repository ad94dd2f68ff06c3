#!/usr/bin/env bash
# Runs every test. `test.sh --help` lists the options; `test.sh WORD` runs the cases whose names contain WORD.
set -euo pipefail
# shellcheck source=setup.sh
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/setup.sh" || exit 5
case " $* " in
  *" --list "* | *" -h "* | *" --help "*) ringside_setup --look || exit 5 ;;
  *) ringside_setup --dev || exit 5 ;;
esac
ringside_tool xtask test "$@"
