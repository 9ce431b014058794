#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Builds the plug-in for the installed qemu-system-x86_64, once for each version and source.
set -euo pipefail

usage() {
    cat <<'TXT'
usage: build.sh [--print-path | --constants | --help]

Builds pci-vhost-user.so for the installed qemu-system-x86_64 and keeps it in the cache; a second
run finds it there. QEMU's headers come from the source package of the installed version, through
the machine's own package sources; QEMU itself is not built, and nothing is written to /etc.

  --print-path  print only the path of the .so on standard output (and build it if need be)
  --constants   print the numbers of protocol.h, "name value" a line; needs only a C compiler

environment:
  SANITIZE=1      build with the address and undefined behaviour sanitizers
  NICMODEL_CACHE  where results are kept (default: ${XDG_CACHE_HOME:-~/.cache}/nicmodel)
  QEMU            QEMU binary to build for (default: qemu-system-x86_64)
  QEMU_SOURCE     unpacked source tree of that QEMU, instead of the source package
TXT
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${NICMODEL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/nicmodel}
qemu=${QEMU:-qemu-system-x86_64}
packages="xargs apt-get install -y < $here/build-packages.txt"

say() { echo "qemu-plugin: $*" >&2; }
die() {
    say "$*"
    exit 1
}

print_path=
case "${1-}" in
'') ;;
--print-path) print_path=1 ;;
--help)
    usage
    exit 0
    ;;
--constants)
    program=$(mktemp)
    trap 'rm -f "$program"' EXIT
    "${CC:-gcc}" -std=gnu11 -Wall -Wextra -Werror -o "$program" "$here/constants.c" ||
        die "constants.c does not compile: install a C compiler with '$packages'"
    "$program"
    exit 0
    ;;
*)
    usage >&2
    exit 1
    ;;
esac

command -v "$qemu" >/dev/null || die "$qemu is missing: install it with '$packages'"
command -v dpkg-query >/dev/null || die "this build needs a Debian system (dpkg-query is missing)"
version=$("$qemu" --version | sed -n 's/^QEMU emulator version \([0-9.]*\).*/\1/p')
if [ -n "${QEMU_SOURCE-}" ]; then
    # Headers of one tree must not serve another one of the same version.
    source_version=$version-$(realpath "$QEMU_SOURCE" | sha256sum | cut -c1-12)
else
    # shellcheck disable=SC2016 # dpkg-query expands it
    source_version=$(dpkg-query -W -f '${source:Version}' qemu-system-x86 2>/dev/null) ||
        die "$qemu is not the distribution's: set QEMU_SOURCE to its unpacked source tree"
fi

cflags=(-std=gnu11 -O2 -g -fPIC -Wall -Wextra -Werror -D_GNU_SOURCE)
flavour=plain
if [ "${SANITIZE-}" = 1 ]; then
    cflags+=(-fsanitize=address -fsanitize=undefined -fno-omit-frame-pointer)
    flavour=sanitize
fi

sources=("$here"/channel.c "$here"/memtable.c "$here"/pci-vhost-user.c)
headers=("$here"/channel.h "$here"/memtable.h "$here"/protocol.h "$here"/qemu-compat.h)
key=$(cat "${sources[@]}" "${headers[@]}" "$here/build.sh" | sha256sum | cut -c1-16)
home=$cache/qemu-$version
tree=$home/headers-${source_version//[^A-Za-z0-9.+~-]/_}
output=$home/plugin-$key-$flavour/pci-vhost-user.so

finish() {
    if [ -n "$print_path" ]; then
        echo "$output"
    else
        say "ready: $output"
    fi
    exit 0
}
[ ! -e "$output" ] || finish

mkdir -p "$home" || die "cannot write to $home: set NICMODEL_CACHE to a writable folder"
exec 9>"$home/lock"
if ! flock -n 9; then
    say "another build for QEMU $version is running, waiting for it"
    flock 9
fi
[ ! -e "$output" ] || finish

for tool in gcc pkg-config; do
    command -v "$tool" >/dev/null || die "$tool is missing: install it with '$packages'"
done
# We have the lock: what is here was left by a build that was killed.
rm -rf "$home"/work.*
work=$(mktemp -d "$home/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

# Run a step with its output in a log that is shown only when it fails.
step() {
    local sentence=$1
    shift
    "$@" >"$work/log" 2>&1 </dev/null && return
    tail -n 20 "$work/log" >&2
    die "$sentence"
}

# Fetch the source package into $work/source with an apt state of our own.
fetch_source() {
    local apt=$work/apt file
    mkdir -p "$apt/parts" "$apt/state/lists/partial" "$apt/cache/archives/partial" "$apt/download"
    # The machine's own sources, asked for source packages.
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ ! -e "$file" ] ||
            sed -n 's/^deb[[:space:]]/deb-src /p' "$file" >"$apt/parts/$(basename "$file" .list).list"
    done
    for file in /etc/apt/sources.list.d/*.sources; do
        [ ! -e "$file" ] ||
            sed 's/^Types:.*/Types: deb-src/' "$file" >"$apt/parts/$(basename "$file")"
    done
    local options=(
        -o "Dir::State=$apt/state" -o "Dir::Cache=$apt/cache"
        -o "Dir::Etc::sourcelist=/dev/null" -o "Dir::Etc::sourceparts=$apt/parts"
        -o "Dir::State::status=/var/lib/dpkg/status" -o "APT::Sandbox::User=$(id -un)"
    )
    say "fetching the source package qemu $source_version"
    step "package lists cannot be fetched: check that 'apt-get update' works" \
        apt-get "${options[@]}" update
    cd "$apt/download"
    step "the source package qemu $source_version is not to be had: run 'apt-get update && apt-get install qemu-system-x86' so that the installed QEMU is the one offered, or set QEMU_SOURCE" \
        apt-get "${options[@]}" source --download-only "qemu=$source_version"
    step "the source package does not unpack: check the free space in $cache" \
        dpkg-source --no-check -x "$apt/download/"*.dsc "$work/source"
    cd "$work"
}

# Leave configured headers of the installed QEMU in $tree.
make_headers() {
    local source=$work/source
    if [ -n "${QEMU_SOURCE-}" ]; then
        source=$(realpath "$QEMU_SOURCE")
    else
        fetch_source
    fi
    local options=(
        --target-list=x86_64-softmmu --without-default-features --enable-system --enable-tcg
        --enable-plugins --disable-docs --disable-install-blobs
    )
    say "configuring QEMU $version for its headers"
    mkdir -p "$work/build"
    cd "$work/build"
    # The distribution's meson belongs to the distribution's python3, whatever PATH says.
    step "QEMU's configure failed: install what it needs with '$packages'" \
        env PATH="/usr/bin:/bin:$PATH" "$source/configure" "${options[@]}"
    step "QEMU's headers cannot be generated: install what is needed with '$packages'" \
        ninja config-poison.h qapi/qapi-builtin-types.h
    cd "$work"
    mkdir -p "$work/headers/build"
    cp -a "$source/include" "$work/headers/include"
    (cd build && find . -name '*.h' -exec cp --parents -t "$work/headers/build" {} +)
    mv "$work/headers" "$tree"
}

[ -e "$tree" ] || make_headers

say "compiling for QEMU $version ($flavour)"
mkdir -p "$work/out"
glib=$(pkg-config --cflags glib-2.0) || die "glib's headers are missing: install them with '$packages'"
# shellcheck disable=SC2086 # several words
step "the plug-in does not compile against QEMU $version" \
    gcc "${cflags[@]}" -shared -I"$here" \
    -isystem "$tree/build" -isystem "$tree/build/qapi" -isystem "$tree/include" $glib \
    "${sources[@]}" -o "$work/out/pci-vhost-user.so"
mv "$work/out" "$(dirname "$output")"
finish
