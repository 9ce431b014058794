#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Makes this machine ready: distribution packages first, then all that Python can do by itself
# (nicmodel/testbed/setup.py). What is there already is left alone.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(cd "$here/../.." && pwd)
python=${PYTHON:-/usr/bin/python3}

say() { echo "setup: $*" >&2; }
die() {
	say "$*"
	exit 4
}

command -v dpkg-query >/dev/null || die "this needs Debian 12 or 13 (there is no dpkg-query)."

# Prints the packages of the lists that are not installed.
missing() {
	sed 's/#.*//; /^[[:space:]]*$/d' "$here/packages.txt" "$checkout/qemu-plugin/build-packages.txt" |
		sort -u >"$scratch/wanted"
	# shellcheck disable=SC2016 # dpkg-query expands it
	dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' 2>/dev/null |
		sed -n 's/^.i //p' | sort -u >"$scratch/installed"
	comm -23 "$scratch/wanted" "$scratch/installed"
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

install_packages() {
	local as_root=()
	if [ "$(id -u)" -ne 0 ]; then
		sudo -n true 2>/dev/null ||
			die "packages are missing; type: sudo apt-get install --no-install-recommends $*"
		as_root=(sudo -n)
	fi
	say "installing $*"
	# Lists of our own, so that the machine's stay as they are. Package scripts find the stand-ins
	# of no-services first, so that no service is started.
	local lists=$scratch/apt
	mkdir -p "$lists/lists/partial"
	local options=(
		-o "Dir::State::lists=$lists/lists"
		-o "Dir::Cache::pkgcache=" -o "Dir::Cache::srcpkgcache="
		-o "APT::Sandbox::User=root"
		-o "DPkg::Lock::Timeout=300"
		-o "DPkg::Path=$here/no-services:/usr/sbin:/usr/bin:/sbin:/bin"
	)
	"${as_root[@]}" apt-get "${options[@]}" -q update >"$scratch/log" 2>&1 || {
		tail -n 5 "$scratch/log" >&2
		die "the package lists cannot be read: check that apt-get update works."
	}
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
		apt-get "${options[@]}" -q -y install --no-install-recommends "$@" >"$scratch/log" 2>&1 </dev/null || {
		tail -n 15 "$scratch/log" >&2
		die "packages cannot be installed; type: apt-get install --no-install-recommends $*"
	}
}

mapfile -t absent < <(missing)
if [ "${#absent[@]}" -gt 0 ]; then
	install_packages "${absent[@]}"
fi

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
	die "$python is older than 3.11: set PYTHON to a newer one."
cd "$checkout"
exec "$python" -m nicmodel.testbed.setup
