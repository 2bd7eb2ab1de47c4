#!/usr/bin/env bash
# Unpacks a Debian package of whatever architecture into a directory: debian-package.sh <architecture> <package> <directory>.
# apt keeps what it needs for that in a state of its own beside the directory, so this machine's packages, sources and
# architectures stay as they are, and it need not be root. What is there already is not downloaded again.
set -euo pipefail
umask 022
architecture=$1 package=$2 directory=$3
# It has every architecture, and its keys are in the keyring of the release before.
suite=trixie

[[ ! -d $directory ]] || exit 0
for program in apt-get dpkg-deb; do
    command -v $program > /dev/null || { echo "$package for $architecture: $program is missing" >&2; exit 1; }
done
mkdir -p "$(dirname "$directory")"
state=$(mktemp --directory "$(dirname "$(realpath "$directory")")/apt-XXXXXX")
trap 'rm -rf "$state"' EXIT
mkdir -p "$state"/{lists,cache}/partial "$state/root"
: > "$state/status"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [arch=$architecture signed-by=$keyring] http://deb.debian.org/debian $suite main" > "$state/sources.list"
apt() {
    apt-get --quiet=2 -o APT::Architecture="$architecture" -o APT::Architectures="$architecture" \
        -o APT::Sandbox::User="$(id -un)" -o Dir::State="$state" -o Dir::State::status="$state/status" \
        -o Dir::Cache="$state/cache" -o Dir::Etc::sourcelist="$state/sources.list" -o Dir::Etc::sourceparts=- \
        -o Dir::Etc::preferences=- -o Dir::Etc::preferencesparts=- \
        -o Acquire::Languages=none -o Acquire::Retries=3 -o APT::Update::Error-Mode=any "$@"
}
# Of warnings there are many; of interest is what it says where it fails.
quietly() { "$@" > "$state/log" 2>&1 || { echo "$package for $architecture: $*" >&2; cat "$state/log" >&2; exit 1; }; }
echo "+ apt-get download $package:$architecture ($suite)"
quietly apt update
cd "$state"
quietly apt download "$package"
dpkg-deb --extract "$package"_*.deb "$state/root"
cd - > /dev/null
mv "$state/root" "$directory"
