#!/usr/bin/env bash
# Builds everything and runs it under QEMU. `run.sh --help` lists the options.
set -euo pipefail
# shellcheck source=setup.sh
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/setup.sh" || exit 5
case ${1:-} in
  # Words after a program's name are its arguments, so only the first word can be one of these options.
  --list | -h | --help) ringside_setup --look || exit 5 ;;
  *)
    # Words after the program may also match. The only effect is that packages are installed that this run does not need.
    case " $* " in
      *" --emulator bochs "* | *" --emulator=bochs "*) ringside_setup --bochs || exit 5 ;;
      *" --boot iso "* | *" --boot=iso "*) ringside_setup --boot-iso || exit 5 ;;
      *" --firmware "* | *" --firmware="*) ringside_setup || exit 5 ;;
      *" --boot uefi "* | *" --boot=uefi "* | *" --boot image "* | *" --boot=image "*) ringside_setup --boot-uefi || exit 5 ;;
      *) ringside_setup || exit 5 ;;
    esac
    ;;
esac
ringside_tool runner "$@"
