#!/usr/bin/env bash
# Finds or installs what Ringside needs: a Rust toolchain that can build for bare metal, lld, and QEMU. Run or source
# this script. Sourcing it sets RINGSIDE_CARGO, the cargo that builds the host tool. These options make it find or
# install more:
#
#   --dev        what only the tests need: rustfmt, clippy, gdb, a C++ compiler, Chromium, the tools that read traces
#                (babeltrace2 and Perfetto's Python package), and what the next three options find
#   --boot-iso   the tools for CD-ROM images: GRUB for BIOS, xorriso
#   --boot-uefi  UEFI firmware
#   --bochs      Bochs, and the tools for CD-ROM images
#
# With --look it installs nothing and checks only what building the host tool requires. This is enough for commands that
# list or explain.
#
# Every failure here is a host failure, status 5. Status 1 would mean that a program failed. As root on Debian, the
# script installs missing packages without asking. Otherwise it prints the commands to run. It installs Python packages
# for any user, in target/python. If nothing is missing, the script takes a fraction of a second.

ringside_min_rust=95 # the minor version of Cargo.toml's rust-version
# CDPATH is cleared because with it `cd` prints the directory and may choose a different one. `readlink` resolves
# symbolic links to the script.
ringside_root=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.." && pwd) || exit 5
# Where distributions keep UEFI firmware for QEMU.
ringside_firmware=(
  /usr/share/ovmf/OVMF.fd
  /usr/share/OVMF/OVMF_CODE_4M.fd
  /usr/share/edk2/x64/OVMF.4m.fd
  /usr/share/edk2/ovmf/OVMF_CODE.fd
  /usr/share/qemu/ovmf-x86_64.bin
  /usr/share/qemu/edk2-x86_64-code.fd
)
ringside_wheels=(perfetto==0.59.1 protobuf==7.36.2)
# This file exists if these packages are installed.
ringside_python_stamp=$ringside_root/target/python/$(IFS=+; printf '%s' "${ringside_wheels[*]}")

ringside_say() { printf 'setup: %s\n' "$*" >&2; }

ringside_has_firmware() {
  local file
  for file in "${ringside_firmware[@]}"; do
    [ ! -e "$file" ] || return 0
  done
  return 1
}

# Succeeds if PROGRAM runs and is new enough.
ringside_rust_ok() {
  local version
  version=$("$1" --version 2>/dev/null) || return 1
  version=${version#* 1.}
  version=${version%%.*}
  [ "$version" -ge "$ringside_min_rust" ] 2>/dev/null
}

# Checks what is installed. Sets RINGSIDE_CARGO, the cargo for host builds, and the array `missing`, the Debian packages
# to install. Starting a Rust tool takes about 30 ms, so each is started at most once, and not at all if checking for a
# directory is enough.
ringside_probe() {
  local sysroot bare=no host=no tool
  missing=()
  RINGSIDE_CARGO=

  # `core` for bare metal comes from rustup's targets, or from Debian's toolchain with the library source.
  sysroot=$(rustc --print sysroot 2>/dev/null) || sysroot=
  if [ -n "$sysroot" ] && [ -d "$sysroot/lib/rustlib/x86_64-unknown-none/lib" ] &&
    [ -d "$sysroot/lib/rustlib/x86_64-unknown-uefi/lib" ] && ringside_rust_ok rustc; then
    bare=rustup
  elif [ -d /usr/lib/rustlib/src/rust/library/core ] && [ -x /usr/bin/cargo ] && ringside_rust_ok /usr/bin/rustc; then
    bare=debian
  fi
  [ "$bare" != no ] || missing+=(rustc-web cargo-web rust-web-src lld)
  # rustup's targets are linked with rust-lld, which they include. Debian's rustc does not include it.
  [ "$bare" = rustup ] || command -v ld.lld >/dev/null 2>&1 || missing+=(lld)

  # Prefer the user's own cargo to Debian's.
  if ringside_rust_ok cargo; then
    RINGSIDE_CARGO=cargo host=$sysroot
  elif [ "$bare" = debian ] || ringside_rust_ok /usr/bin/cargo; then
    RINGSIDE_CARGO=/usr/bin/cargo host=/usr
  else
    missing+=(rustc-web cargo-web)
  fi
  command -v cc >/dev/null 2>&1 || missing+=(gcc libc6-dev)
  # The user provides the QEMU that RINGSIDE_QEMU names; no package installs it.
  [ -n "${RINGSIDE_QEMU:-}" ] || command -v qemu-system-x86_64 >/dev/null 2>&1 || missing+=(qemu-system-x86)
  if [ "$ringside_dev" = yes ] || [ "$ringside_iso" = yes ]; then
    command -v grub-mkrescue >/dev/null 2>&1 && [ -d /usr/lib/grub/i386-pc ] || missing+=(grub-pc-bin)
    command -v xorriso >/dev/null 2>&1 || missing+=(xorriso)
  fi
  if [ "$ringside_dev" = yes ] || [ "$ringside_bochs" = yes ]; then
    # bochs-term comes first: without it, apt installs a graphical interface for bochs.
    [ -n "$(find /usr/lib -name libbx_term_gui.so -print -quit 2>/dev/null)" ] || missing+=(bochs-term)
    command -v bochs-bin >/dev/null 2>&1 || missing+=(bochs)
    [ -e /usr/share/bochs/BIOS-bochs-latest ] || missing+=(bochsbios)
    [ -e /usr/share/bochs/VGABIOS-lgpl-latest ] || missing+=(vgabios)
  fi
  if [ "$ringside_dev" = yes ] || [ "$ringside_uefi" = yes ]; then
    ringside_has_firmware || missing+=(ovmf)
  fi
  if [ "$ringside_dev" = yes ]; then
    for tool in fmt:rustfmt-web clippy:rust-web-clippy; do
      [ -x "$host/bin/cargo-${tool%:*}" ] || "${RINGSIDE_CARGO:-false}" "${tool%:*}" --version >/dev/null 2>&1 ||
        missing+=("${tool#*:}")
    done
    command -v gdb >/dev/null 2>&1 || missing+=(gdb)
    command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 ||
      command -v google-chrome >/dev/null 2>&1 || command -v google-chrome-stable >/dev/null 2>&1 || missing+=(chromium)
    command -v c++ >/dev/null 2>&1 || missing+=(g++) # libFuzzer is C++
    command -v babeltrace2 >/dev/null 2>&1 || missing+=(babeltrace2)
    [ -e "$ringside_python_stamp" ] || python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || missing+=(python3-venv)
  fi
  if [ ${#missing[@]} -gt 1 ]; then
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | awk '!seen[$0]++')
  fi
  ringside_bare=$bare
  ringside_sysroot=$sysroot
}

# Reports tools that are installed but do not run, for example under a limit of memory or open files. Otherwise only their
# packages would be reported as missing.
ringside_report_broken() {
  local tool message
  for tool in rustc cargo; do
    command -v "$tool" >/dev/null 2>&1 || continue
    message=$("$tool" --version 2>&1) || ringside_say "$tool is in PATH but does not run: $message"
  done
}

# The backports suite of the mirror that the machine already uses contains QEMU 10. Without it, QEMU 7.2 is used.
ringside_enable_backports() {
  local codename=$1 source list=/etc/apt/sources.list.d/ringside-backports.sources
  local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  apt-cache policy 2>/dev/null | grep -q "n=$codename-backports" && return 0
  source=$(apt-get indextargets --format '$(SITE) $(CODENAME) $(COMPONENT) $(CREATED_BY)' 2>/dev/null |
    awk -v c="$codename" '$2 == c && $3 == "main" && $4 == "Packages" { print $1; exit }')
  [ -n "$source" ] || return 0
  {
    printf 'Types: deb\nURIs: %s\nSuites: %s-backports\nComponents: main\n' "$source" "$codename"
    [ ! -e "$keyring" ] || printf 'Signed-By: %s\n' "$keyring"
  } >"$list"
  apt-get update -qq -o Dir::Etc::sourcelist="$list" -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0 \
    >/dev/null 2>&1 || { ringside_say "no $codename-backports on this mirror: installing the QEMU of $codename itself"; rm -f "$list"; }
}

ringside_apt() { apt-get install -y -qq --no-install-recommends "$@" >/dev/null; }

ringside_install() {
  local packages=("$@") package codename
  # shellcheck disable=SC1091 # a system file
  codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
  ringside_say "installing: ${packages[*]}"
  ringside_say "reading package lists ..."
  apt-get update -qq || ringside_say "apt-get update failed; continuing with the existing package lists"
  case " ${packages[*]} " in
    *" qemu-system-x86 "*) [ "$codename" = bookworm ] && ringside_enable_backports "$codename" ;;
  esac
  export DEBIAN_FRONTEND=noninteractive
  for package in "${packages[@]}"; do
    ringside_say "  $package ..."
    case $package in
      qemu-system-x86) ringside_apt -t "$codename-backports" "$package" 2>/dev/null || ringside_apt "$package" || return 1 ;;
      # A library that was installed with QEMU from backports may be too new for a stock package. In that case install
      # the package from backports too.
      *) ringside_apt "$package" 2>/dev/null || ringside_apt -t "$codename-backports" "$package" 2>/dev/null ||
        ringside_apt "$package" || return 1 ;;
    esac
  done
}

# Installs Perfetto's own message definitions in target/python, for the test that reads a trace with them. Nothing in
# the system or the user's home directory changes. Without them only that test fails, so a failed installation is not an
# error.
ringside_python() {
  local folder=$ringside_root/target/python
  [ ! -e "$ringside_python_stamp" ] || return 0
  ringside_say "installing in target/python: ${ringside_wheels[*]}"
  rm -rf "$folder"
  python3 -m venv "$folder" &&
    timeout 120 "$folder/bin/python3" -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 15 \
      "${ringside_wheels[@]}" &&
    : >"$ringside_python_stamp" || ringside_say "the Python packages were not installed: the test trace::perfetto-reads-the-same will fail"
}

ringside_setup() {
  local missing
  ringside_dev=no ringside_iso=no ringside_uefi=no ringside_bochs=no
  case ${1:-} in
    --dev) ringside_dev=yes ;;
    --boot-iso) ringside_iso=yes ;;
    --bochs) ringside_iso=yes ringside_bochs=yes ;;
    --boot-uefi) ringside_uefi=yes ;;
  esac
  ringside_probe
  [ ${#missing[@]} -eq 0 ] || ringside_report_broken
  if [ "${1:-}" = --look ]; then
    if [ -z "$RINGSIDE_CARGO" ] || ! command -v cc >/dev/null 2>&1; then
      ringside_say "missing (Debian's names): ${missing[*]}"
      ringside_say "run ./scripts/setup.sh first: the host tool cannot be built without these packages"
      return 5
    fi
    export RINGSIDE_CARGO
    return 0
  fi
  if [ -n "${RINGSIDE_QEMU:-}" ] && ! command -v "$RINGSIDE_QEMU" >/dev/null 2>&1; then
    ringside_say "RINGSIDE_QEMU=$RINGSIDE_QEMU is not an executable program: correct or unset the variable"
    return 5
  fi
  if [ ${#missing[@]} -gt 0 ] && [ "$ringside_bare" = no ] && command -v rustup >/dev/null 2>&1; then
    ringside_say "trying: rustup target add x86_64-unknown-none x86_64-unknown-uefi"
    if timeout 300 rustup target add x86_64-unknown-none x86_64-unknown-uefi >/dev/null 2>&1; then
      ringside_probe
    else
      ringside_say "rustup could not install these targets; using Debian's toolchain"
    fi
  fi
  if [ ${#missing[@]} -gt 0 ]; then
    if ! command -v apt-get >/dev/null 2>&1; then
      ringside_say "missing (Debian's names): ${missing[*]}"
      ringside_say "install QEMU for x86-64, gcc and rustup with the packages of this system, then run"
      ringside_say "    rustup target add x86_64-unknown-none x86_64-unknown-uefi"
      return 5
    elif [ "$(id -u)" -ne 0 ]; then
      ringside_say "missing: ${missing[*]}. Run:"
      ringside_say "    sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}"
      ringside_say "or run this script as root, which installs QEMU 10 from backports if possible."
      return 5
    fi
    ringside_install "${missing[@]}" || { ringside_say "installation failed; see apt-get's message above"; return 5; }
    ringside_probe
    if [ ${#missing[@]} -gt 0 ]; then
      ringside_say "still missing: ${missing[*]}"
      if [ "$ringside_bare" = no ] && [ -x /usr/bin/rustc ]; then
        ringside_say "Debian's $(/usr/bin/rustc --version) is too old: 1.$ringside_min_rust or later is in Debian's security"
        ringside_say "suite; enable that in the package sources, then run this again"
      fi
      return 5
    fi
  fi
  [ "$ringside_dev" = no ] || ringside_python
  export RINGSIDE_CARGO
}

# Starts the first bare-metal build while the host tool is built, as the tool's build does not always use all cores. The
# tool's build then uses what is finished, waits for the rest, and reports errors. Debian's toolchain is excluded:
# its build of `core` needs options that only the tool knows.
ringside_build_ahead() {
  [ "$ringside_bare" = rustup ] && [ ! -d "$ringside_root/target/bare" ] || return 0
  local program programs=() linker=ld.lld
  for program in "$ringside_root"/user/src/bin/*; do
    program=${program##*/}
    programs+=(--bin "${program%.rs}")
  done
  # The same variables and linker as in the tool (scripts/machine/src), which would otherwise build again.
  compgen -G "$ringside_sysroot/lib/rustlib/*/bin/rust-lld" >/dev/null && linker=rust-lld
  cd "$ringside_root" || return
  # As scripts/machine/src/bare.rs writes it: the last section of bare.toml for each package.
  mkdir -p target && awk 'NR == FNR { if (found) values = values $0 "\n"; found += /^\[profile.release.package."\*"\]/; next }
    /^name = / && !seen[$3]++ { printf "[profile.release.package.%s]\n%s", $3, values }' \
    scripts/bare.toml Cargo.lock >target/bare-packages.toml || return
  exec nice env -u CARGO_INCREMENTAL RUSTC_WORKSPACE_WRAPPER= CARGO_ENCODED_RUSTFLAGS=$'-C\x1fforce-frame-pointers=yes' \
    "$RINGSIDE_CARGO" build --release --locked --config scripts/bare.toml \
    --config target/bare-packages.toml --config "target.x86_64-unknown-none.linker=\"$linker\"" --target x86_64-unknown-none \
    --target-dir target/bare --package user --package kernel --lib "${programs[@]}" \
    </dev/null >/dev/null 2>&1
}

# Builds PACKAGE's host tool if it is out of date, then executes it with the remaining arguments in place of this shell,
# in the user's current directory.
ringside_tool() {
  local package=$1
  shift
  local root=$ringside_root quiet=() cargo=("$RINGSIDE_CARGO") tool ahead=
  # Debian's cargo would use an older rustc that precedes Debian's in PATH.
  [ "$RINGSIDE_CARGO" != /usr/bin/cargo ] || cargo=(env RUSTC=/usr/bin/rustc /usr/bin/cargo)
  # The first build takes long and shows its progress. Later builds are quiet.
  [ ! -d "$root/target/debug/deps" ] || quiet=(--quiet)
  if [ ${#quiet[@]} -eq 0 ]; then
    ringside_build_ahead &
    ahead=$!
    trap 'kill "$ahead" 2>/dev/null || true; exit 130' INT TERM
  fi
  # Only cargo knows the path of the executable: the user's configuration may set a target, which has its own directory.
  # cargo prints the path as JSON on standard output. Progress and errors go to standard error as usual.
  tool=$("${cargo[@]}" build "${quiet[@]}" --locked --manifest-path "$root/Cargo.toml" --target-dir "$root/target" \
    --package "$package" --message-format json-render-diagnostics) || {
    ringside_say "the host tool could not be built; see cargo's message above"
    [ -z "$ahead" ] || kill "$ahead" 2>/dev/null || true
    exit 5
  }
  tool=$(sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' <<<"$tool" | tail -n 1)
  [ -x "$tool" ] || { ringside_say "cargo built no host tool"; exit 5; }
  # The tool's usage line names the script.
  RINGSIDE_SCRIPT=$0 exec "$tool" "$@"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  set -euo pipefail
  case ${1:-} in
    '' | --dev | --look) ;;
    -h | --help)
      echo "usage: setup.sh [--dev]    finds or installs what Ringside needs; with --dev also what its tests need" || exit 5
      exit 0
      ;;
    *)
      ringside_say "unknown option $1; see --help" || exit 5
      exit 2
      ;;
  esac
  ringside_setup "$@" || exit 5
  ringside_say "ready: $("$RINGSIDE_CARGO" --version), $(${RINGSIDE_QEMU:-qemu-system-x86_64} --version | head -n 1)" || exit 5
fi
