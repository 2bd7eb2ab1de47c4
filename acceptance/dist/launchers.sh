#!/usr/bin/env bash
# Builds the launcher for every architecture that it can be built for here, and says which ones it leaves out, and why:
# launchers.sh <directory> [<architecture>...]; the files are named launcher-linux-<architecture>.
#
# Images of any architecture get them, so they are made the same way on every machine: by musl, whose start is the shortest and
# which needs no libc in the image, by a standard library built for size (the ready-made one makes them larger by half), and by the linker
# that comes with Rust, which knows all architectures.
set -euo pipefail
umask 022
cd "$(dirname "$0")/../.."
directory=$1
shift
wanted=("$@")

# The architecture's name in images, Rust's name of it, and Debian's where Rust has no musl ready for it. Of arm the oldest is
# taken, which runs on all newer ones.
architectures=(
    "386 i686-unknown-linux-musl"
    "amd64 x86_64-unknown-linux-musl"
    "arm armv5te-unknown-linux-musleabi armel"
    "arm64 aarch64-unknown-linux-musl"
    "ppc64le powerpc64le-unknown-linux-musl ppc64el"
    "riscv64 riscv64gc-unknown-linux-musl riscv64"
    "s390x s390x-unknown-linux-musl s390x"
)

say() { echo "launchers: $*" >&2; }
host=$(rustc -vV | sed -n 's/^host: //p')
sysroot=$(rustc --print sysroot)
has() { [[ -e $sysroot/lib/rustlib/$1 ]]; }
# Of what is wanted this machine's is always one.
here() { [[ ${1%%-*} == "${host%%-*}" ]]; }

# The standard library's source: with it any architecture can be built, and small.
has src/rust/library/Cargo.lock || rustup component add rust-src || true
source=
if has src/rust/library/Cargo.lock && has "$host/bin/rust-lld"; then
    source=yes
else
    say "without rust-src and rust-lld (rustup component add rust-src) launchers are larger, and there are fewer of them."
fi

targets=()
built=()
for line in "${architectures[@]}"; do
    read -r architecture target debian <<< "$line"
    if [[ ${#wanted[@]} != 0 && " ${wanted[*]} " != *" $architecture "* ]] && ! here "$target"; then continue; fi
    # Nothing that is said of a path depends on where this is.
    flags="-C target-feature=+crt-static -C relocation-model=static -C force-unwind-tables=no --remap-path-prefix=$PWD=."
    flags+=" --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo --remap-path-prefix=$sysroot/lib/rustlib/src/rust=rust"
    # Functions that are the same to the byte are kept once.
    ! has "$host/bin/rust-lld" || flags+=" -C linker=rust-lld -C link-arg=--icf=all"
    if [[ -z $debian ]]; then
        if ! has "$target/lib/self-contained/libc.a" && ! rustup target add "$target"; then
            say "none for $architecture: rustup has no $target."
            continue
        fi
    elif [[ -z $source ]]; then
        say "none for $architecture: the standard library for $target has to be built from source."
        continue
    elif ! acceptance/debian-package.sh "$debian" musl-dev "out/musl/$architecture"; then
        say "none for $architecture: Debian's musl for $debian is not to be had."
        continue
    else
        # From the workspace's directory, so that no path of this machine is in it. Nothing unwinds, but something is to be linked
        # that could.
        musl=$(echo out/musl/"$architecture"/usr/lib/*-linux-musl*)
        printf '!<arch>\n' > "$musl/libunwind.a"
        flags+=" -C link-self-contained=no -L $musl"
        for object in crt1 crti crtn; do flags+=" -C link-arg=$musl/$object.o"; done
        for name in _Unwind_GetTextRelBase _Unwind_GetDataRelBase; do flags+=" -C link-arg=--defsym=$name=0"; done
    fi
    name=${target^^}
    export "CARGO_TARGET_${name//-/_}_RUSTFLAGS=$flags"
    targets+=(--target "$target")
    built+=("$architecture $target")
done

# Apart from the other executables, so that none of their features gets into app images; and in a directory of its own,
# because a compiler that is allowed to build the standard library makes other build scripts.
build=(cargo build --locked --profile launcher --package launcher --target-dir target/launchers "${targets[@]}")
if [[ -n $source ]]; then
    RUSTC_BOOTSTRAP=1 "${build[@]}" -Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size
elif [[ ${#built[@]} != 0 ]]; then
    "${build[@]}"
fi
for line in "${architectures[@]}"; do
    read -r architecture target _ <<< "$line"
    if here "$target" && [[ " ${built[*]} " != *" $target "* ]]; then
        say "this machine's is built for $host: without $target it starts more slowly."
        name=${host^^}
        export "CARGO_TARGET_${name//-/_}_RUSTFLAGS=-C target-feature=+crt-static --remap-path-prefix=$PWD=."
        cargo build --locked --profile launcher --package launcher --target-dir target/launchers --target "$host"
        built+=("$architecture $host")
    fi
done

rm -rf "$directory"
mkdir -p "$directory"
for line in "${built[@]}"; do
    read -r architecture target <<< "$line"
    install -m 755 "target/launchers/$target/launcher/launcher" "$directory/launcher-linux-$architecture"
done
