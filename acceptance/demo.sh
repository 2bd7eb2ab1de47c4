#!/usr/bin/env bash
# A real app image, end to end: a run image and a build environment are made from Debian packages, a sample app is built by
# the phases of the lifecycle, its image is started by runc and asked for its page, and then it is built again.
#
# Everything is made under out/demo. Each step's command is printed as it can be typed (in the build environment: by
# somebody who has done `chroot out/demo/builder`). Needs root, because it makes file systems and starts a container.
set -euo pipefail
# What is made here is for all to read, whatever umask the caller has.
umask 022
cd "$(dirname "$0")/.."

top=$PWD
case $(uname -m) in
    x86_64) architecture=amd64 ;;
    aarch64) architecture=arm64 ;;
    *) architecture=$(uname -m) ;;
esac
demo=$top/out/demo
# Where the app listens: the first of these ports that nobody has.
port=8080
while (echo > "/dev/tcp/127.0.0.1/$port") 2> /dev/null; do port=$((port + 1)); done

heading() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
say() { printf '   %s\n' "$*"; }
show() { printf '\033[36m$ %s\033[0m\n' "$*"; }
run() { show "$@"; "$@"; }

fail() { echo "demo: $*" >&2; exit 1; }
[[ $(id -u) == 0 ]] || fail "run it as root"
tarball=$(realpath "${LIFECYCLE_TARBALL:-}") && [[ -f $tarball ]] || \
    fail "LIFECYCLE_TARBALL has to be this machine's tarball; \`make demo\` makes it"

registry_process=
container=lifecycle-demo-$$
finish() {
    code=$?
    trap - EXIT
    runc --root "$demo/runc" delete --force "$container" > /dev/null 2>&1 || true
    [[ -z $registry_process ]] || kill "$registry_process" 2> /dev/null || true
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

rm -rf "$demo"
mkdir -p "$demo"

# Of modes only what git keeps of them: who checked the samples out may have had another umask.
copy() {
    cp -R "$1" "$2"
    chmod -R u=rwX,go=rX "$2"
}

# A root file system with a shell and small programs, none of which needs a libc: this machine's, or those that are named.
base_system() {
    mkdir -p "$1"/{bin,dev,etc,proc,tmp,usr/bin,home/cnb}
    chmod 1777 "$1/tmp"
    cp "${2-/bin/busybox}" "$1/bin/busybox"
    cp "${3-/bin/bash-static}" "$1/bin/bash"
    for applet in basename cat chmod cp cut dirname env grep head httpd ls mkdir mv printf rm sed sh sleep tr uname wget; do
        ln -s busybox "$1/bin/$applet"
    done
    ln -s ../../bin/env "$1/usr/bin/env"
    printf 'root:x:0:0::/root:/bin/sh\ncnb:x:1000:1000::/home/cnb:/bin/bash\n' > "$1/etc/passwd"
    printf 'root:x:0:\ncnb:x:1000:\n' > "$1/etc/group"
    printf '127.0.0.1 localhost\n' > "$1/etc/hosts"
    printf 'ID=demo\nVERSION_ID=1\n' > "$1/etc/os-release"
    chown 1000:1000 "$1/home/cnb"
}

heading "A run image, from busybox-static and bash-static"
base_system "$demo/run-root"
images=$demo/images
run umoci init --layout "$images"
run umoci new --image "$images:run"
run umoci insert --image "$images:run" "$demo/run-root" /
run umoci config --image "$images:run" --os=linux --architecture="$architecture" --config.user=1000:1000 \
    --config.env=PATH=/usr/bin:/bin --config.label=io.buildpacks.base.distro.name=demo \
    --config.label=io.buildpacks.base.distro.version=1

heading "A registry with the run image"
printf 'version: 0.1\nhttp: { addr: "127.0.0.1:0" }\nstorage: { filesystem: { rootdirectory: "%s" } }\n' \
    "$demo/registry" > "$demo/registry.yml"
show docker-registry serve "$demo/registry.yml"
docker-registry serve "$demo/registry.yml" > "$demo/registry.log" 2>&1 &
registry_process=$!
for _ in $(seq 100); do
    registry=$(sed -n 's/.*listening on \([0-9.:]*\).*/\1/p' "$demo/registry.log")
    [[ -z $registry ]] || break
    kill -0 "$registry_process" || fail "docker-registry ended: $(cat "$demo/registry.log")"
    sleep 0.1
done
[[ -n $registry ]] || fail "docker-registry does not say where it listens: $(cat "$demo/registry.log")"
registry=localhost:${registry##*:}
run skopeo copy --quiet --dest-tls-verify=false "oci:$images:run" "docker://$registry/run"

heading "A build environment: the same system, the lifecycle, two buildpacks"
builder=$demo/builder
base_system "$builder"
mkdir -p "$builder"/cnb/buildpacks "$builder"/{layers,workspace,cache,layouts,platform/env}
run tar -xzf "$tarball" -C "$builder/cnb" --no-same-owner
for pair in server:1.2.3 site:0.1.0; do
    to=$builder/cnb/buildpacks/samples_${pair%%:*}/${pair##*:}
    mkdir -p "$to"
    copy "$top/acceptance/samples/buildpacks/${pair%%:*}/." "$to"
done
cat > "$builder/cnb/order.toml" <<'TOML'
[[order]]
group = [
    { id = "samples/server", version = "1.2.3" },
    { id = "samples/site", version = "0.1.0" },
]
TOML
printf '[[images]]\nimage = "%s/run"\n' "$registry" > "$builder/cnb/run.toml"
copy "$top/acceptance/samples/web/." "$builder/workspace"
chown -R 1000:1000 "$builder"/{layers,workspace,cache,layouts}
say "order.toml, run.toml and the buildpacks are in $builder/cnb, the app is in $builder/workspace."

# Runs a command in the build environment, as a platform does in a container of its builder image: as the build image's user, with
# the variables that a platform sets.
common=(CNB_PLATFORM_API=0.15 CNB_USER_ID=1000 CNB_GROUP_ID=1000 CNB_CACHE_DIR=/cache HOME=/home/cnb PATH=/usr/bin:/bin)
platform=("${common[@]}")
in_builder() {
    show "$@"
    # shellcheck disable=SC2016 # the inner shell is to expand it
    env -i "${platform[@]}" /usr/bin/unshare --mount /bin/bash -euc '
        root=$1; shift
        mount --rbind /dev "$root/dev"
        mount -t proc proc "$root/proc" 2> /dev/null || mount --rbind /proc "$root/proc"
        exec /usr/sbin/chroot --userspec=1000:1000 --groups=1000 "$root" "$@"' - "$builder" "$@"
}

five_phases() {
    in_builder /cnb/lifecycle/analyzer "$1"
    in_builder /cnb/lifecycle/detector
    in_builder /cnb/lifecycle/restorer
    in_builder /cnb/lifecycle/builder
    in_builder /cnb/lifecycle/exporter "$1"
}

# As a platform does between two builds: the cache stays, everything else is new.
new_build() {
    rm -rf "$builder"/layers "$builder"/workspace
    copy "$top/acceptance/samples/web" "$builder/workspace"
    mkdir "$builder/layers"
    chown -R 1000:1000 "$builder"/{layers,workspace}
}

# How an unpacked image is run: on the host's network, so that it can be asked; without what some machines do not let a
# container have.
prepare_bundle() {
    jq --arg port "PORT=$port" '
        .process.terminal = false
        | .process.env += [$port]
        | .linux.namespaces |= map(select(.type != "network"))
        | .linux.resources = {}
        | .mounts |= map(select(.type != "cgroup" and .type != "sysfs"))' \
        "$demo/bundle/config.json" > "$demo/config.json"
    mv "$demo/config.json" "$demo/bundle/config.json"
}
page() { busybox wget -q -O - "http://127.0.0.1:$port/${1-}"; }
start() {
    runc --root "$demo/runc" "$@" run --bundle "$demo/bundle" --detach "$container" < /dev/null > "$demo/app.log" 2>&1
}
# Starts the app and shows its page, and another one if it is named.
ask_app() {
    show runc run --bundle "$demo/bundle" --detach "$container"
    start || start --rootless true || fail "runc: $(cat "$demo/app.log")"
    for _ in $(seq 100); do
        page > /dev/null 2>&1 && break
        sleep 0.1
    done
    show wget -O - "http://127.0.0.1:$port/"
    page "" || fail "the app does not answer: $(cat "$demo/app.log")"
    [[ -n $1 ]] || return 0
    show wget -O - "http://127.0.0.1:$port/$1"
    page "$1"
}
stop_app() { runc --root "$demo/runc" delete --force "$container"; }

heading "The app image, in an OCI layout"
say "The specification calls layouts experimental, so they have to be allowed."
mkdir -p "$builder/layouts/example.com/run"
run skopeo copy --quiet "oci:$images:run" "oci:$builder/layouts/example.com/run/latest"
chown -R 1000:1000 "$builder/layouts"
platform+=(CNB_EXPERIMENTAL_MODE=quiet CNB_USE_LAYOUT=true CNB_LAYOUT_DIR=/layouts CNB_RUN_IMAGE=example.com/run)
say "In the build environment, with ${platform[*]}:"
five_phases example.com/app
run skopeo inspect --format '{{.Digest}} {{len .Layers}} layers' "oci:$builder/layouts/example.com/app/latest"

heading "The app image, in the registry"
platform=("${common[@]}")
say "In the build environment, with ${platform[*]}; which run image is said by run.toml:"
new_build
rm -rf "${builder:?}"/cache
mkdir "$builder/cache"
chown 1000:1000 "$builder/cache"
five_phases "$registry/app"
run skopeo inspect --tls-verify=false --format '{{.Digest}} {{len .Layers}} layers' "docker://$registry/app"

heading "The app, started"
run skopeo copy --quiet --src-tls-verify=false "docker://$registry/app" "oci:$images:app"
run umoci unpack --image "$images:app" "$demo/bundle"
prepare_bundle
say "The entry point is $(jq -c '.process.args' "$demo/bundle/config.json")."
ask_app cgi-bin/environment
stop_app

heading "Built again"
before=$(skopeo inspect --tls-verify=false --format '{{.Digest}}' "docker://$registry/app")
new_build
five_phases "$registry/app" | tee "$demo/again.log"
after=$(skopeo inspect --tls-verify=false --format '{{.Digest}}' "docker://$registry/app")

heading "What was reused"
grep -E '^Reusing|is there from the build before' "$demo/again.log"
say "The image before: $before"
say "The image now:    $after"
[[ $before == "$after" ]] || fail "the same inputs gave another image"

# shellcheck source=acceptance/demo-architectures.sh
source "$top/acceptance/demo-architectures.sh"
