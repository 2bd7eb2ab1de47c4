#!/usr/bin/env bash
# Installs what the tests and the demo use, where it is missing: a registry, judges of images, a container runtime,
# the programs of which run image and build environment are made, and what builds and runs executables of the other architecture. Says
# what it does.
set -euo pipefail
# What packages leave is for all to read, whatever umask the caller has.
umask 022

# Phases are run as other users, file systems are mounted, and containers are started.
if [[ $(id -u) != 0 ]]; then
    echo "The tests and the demo need root: run them as root (in a container, for instance)." >&2
    exit 1
fi

# What is looked for, and the Debian package that has it.
needed=(
    cc:gcc
    docker-registry:docker-registry
    file:file
    htpasswd:apache2-utils
    jq:jq
    mount:mount
    openssl:openssl
    runc:runc
    setpriv:util-linux
    skopeo:skopeo
    umoci:umoci
    /bin/bash-static:bash-static
    /bin/busybox:busybox-static
)

# Between amd64 and arm64, each other's compiler and emulation.
case $(uname -m) in
    x86_64)
        other=arm64
        needed+=(aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu /usr/aarch64-linux-gnu/lib/libc.a:libc6-dev-arm64-cross)
        needed+=(qemu-aarch64-static:qemu-user-static)
        ;;
    aarch64)
        other=amd64
        needed+=(x86_64-linux-gnu-gcc:gcc-x86-64-linux-gnu /usr/x86_64-linux-gnu/lib/libc.a:libc6-dev-amd64-cross)
        needed+=(qemu-x86_64-static:qemu-user-static)
        ;;
    *) other= ;;
esac

missing=()
for pair in "${needed[@]}"; do
    [[ -e ${pair%%:*} ]] || command -v "${pair%%:*}" > /dev/null || missing+=("${pair##*:}")
done
# busybox has to run where no libc is.
if [[ -x /bin/busybox ]] && ! file -L /bin/busybox | grep -q 'statically linked'; then
    missing+=(busybox-static)
fi

if [[ ${#missing[@]} -gt 0 ]]; then
    install=(apt-get install --yes --no-install-recommends "${missing[@]}")
    if ! command -v apt-get > /dev/null; then
        echo "These packages are missing; install them (on Debian: ${install[*]})" >&2
        exit 1
    fi
    echo "+ apt-get update"
    apt-get update --quiet=2
    echo "+ ${install[*]}"
    DEBIAN_FRONTEND=noninteractive "${install[@]}" --quiet=2 > /dev/null
fi

if [[ -n $other ]]; then
    cd "$(dirname "$0")/.."
    for package in busybox-static bash-static; do
        acceptance/debian-package.sh $other $package out/debian/$other/$package ||
            echo "Without it tests in builders of $other are left out." >&2
    done
fi
