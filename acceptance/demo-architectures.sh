# shellcheck shell=bash
# The second half of the demo, read by demo.sh, whose functions, registry and build environment it uses: the same app for two
# architectures under one tag, built in every way that this machine can, started, and rebased.

own=$(case $(uname -m) in x86_64) echo amd64 ;; aarch64) echo arm64 ;; *) uname -m ;; esac)
case $own in
    amd64) other=arm64 machine=aarch64 ;;
    arm64) other=amd64 machine=x86_64 ;;
    *) say "There are executables for amd64 and arm64 only; this machine is $own."; return 0 ;;
esac

heading "The same app for $own and $other, under one tag"
other_tarball=$(ls -t "$top"/out/lifecycle-v*+linux."$([[ $other == amd64 ]] && echo x86-64 || echo arm64)".tgz 2> /dev/null | head -n 1) || true
programs=$top/out/debian/$other
busybox=$programs/busybox-static/bin/busybox bash=$programs/bash-static/bin/bash-static
[[ -x $busybox ]] || busybox=$programs/busybox-static/usr/bin/busybox
[[ -x $bash ]] || bash=$programs/bash-static/usr/bin/bash-static
if [[ ! -x $busybox || ! -x $bash ]]; then
    say "Programs for $other could not be had (see above), so there is nothing to make a run image of. The rest is left out."
    return 0
fi

# The kernel starts QEMU for the other architecture's programs once it has been told so.
emulated() { "$busybox" true 2> /dev/null; }
emulation=yes
if ! emulated; then
    binfmt=/proc/sys/fs/binfmt_misc
    [[ -e $binfmt/register ]] || run mount -t binfmt_misc none "$binfmt" || true
    show "cat /usr/lib/binfmt.d/qemu-$machine.conf > $binfmt/register"
    cat "/usr/lib/binfmt.d/qemu-$machine.conf" > "$binfmt/register" || true
    if ! emulated; then
        emulation=
        say "This machine cannot emulate $other: what needs that is left out."
    fi
fi
if [[ -n $emulation && ! -f $other_tarball ]]; then
    emulation=
    say "There are no executables for $other: what needs them is left out."
fi

say "Run images for both, joined in one index by the indexer:"
run_images() {
    local arch
    for arch in "$own" "$other"; do
        umoci rm --image "$images:run-$arch" 2> /dev/null || true
        run umoci new --image "$images:run-$arch"
        run umoci insert --image "$images:run-$arch" "$demo/run-root-$arch" /
        run umoci config --image "$images:run-$arch" --os=linux --architecture="$arch" --config.user=1000:1000 \
            --config.env=PATH=/usr/bin:/bin --config.label=io.buildpacks.base.distro.name=demo \
            --config.label=io.buildpacks.base.distro.version=1
        run skopeo copy --quiet --dest-tls-verify=false "oci:$images:run-$arch" "docker://$registry/run-$arch"
    done
}
digest() { skopeo inspect --tls-verify=false --raw "docker://$1" | sha256sum | sed 's/^\([0-9a-f]*\).*/sha256:\1/'; }
join_run_images() {
    in_builder /cnb/lifecycle/indexer -index-report /tmp/index-report.toml "$registry/run:both" \
        "$registry/run-$own@$(digest "$registry/run-$own")" "$registry/run-$other@$(digest "$registry/run-$other")"
}
base_system "$demo/run-root-$own"
base_system "$demo/run-root-$other" "$busybox" "$bash"
run_images
platform=("${common[@]}" CNB_EXPERIMENTAL_MODE=quiet)
join_run_images
# The server's buildpack has the program for the other architecture at hand, so that it can build across.
for environment in "$builder" "$demo/builder-$other"; do
    if [[ $environment != "$builder" ]]; then
        [[ -n $emulation ]] || continue
        base_system "$environment" "$busybox" "$bash"
        mkdir -p "$environment"/cnb "$environment"/other "$environment"/{layers,workspace,cache,layouts,platform/env}
        copy "$builder/cnb/buildpacks" "$environment/cnb/buildpacks"
        cp "$builder/cnb/order.toml" "$environment/cnb/order.toml"
        run tar -xzf "$other_tarball" -C "$environment/cnb" --no-same-owner
        run tar -xzf "$tarball" -C "$environment/other" --no-same-owner
    fi
    printf '[[images]]\nimage = "%s/run:both"\n' "$registry" > "$environment/cnb/run.toml"
done
to=$builder/cnb/buildpacks/samples_server/1.2.3/programs/$other
mkdir -p "$to"
cp "$busybox" "$to/busybox"
chmod 755 "$to/busybox"

# One build: its way, its architecture, its build environment, and where the three phases are that run no buildpack.
table=
build_for() {
    local way=$1 arch=$2 environment=$3 outside=$4 tag=$5 begin end before=$builder
    heading "$arch, $way"
    rm -rf "$environment"/{layers,workspace,cache}
    mkdir -p "$environment"/{layers,cache}
    copy "$top/acceptance/samples/web" "$environment/workspace"
    chown -R 1000:1000 "$environment"/{layers,workspace,cache}
    builder=$environment
    begin=$(date +%s%N)
    in_builder "$outside/analyzer" "$registry/$tag"
    in_builder /cnb/lifecycle/detector
    in_builder "$outside/restorer"
    in_builder /cnb/lifecycle/builder
    in_builder "$outside/exporter" "$registry/$tag"
    end=$(date +%s%N)
    builder=$before
    table+=$(printf '%-10s %-6s %6d ms  %s' "$way" "$arch" $(((end - begin) / 1000000)) \
        "$(sed -n 's/^ *digest = "\(.*\)"$/\1/p' "$environment/layers/report.toml")")$'\n'
}
with_target() {
    platform=("${common[@]}" CNB_EXPERIMENTAL_MODE=quiet CNB_EXPORT_INDEX=merge "CNB_BUILD_TARGET_ARCH=$1")
}
with_target "$own"
say "With ${platform[*]}"
build_for native "$own" "$builder" /cnb/lifecycle multi
with_target "$other"
say "With ${platform[*]}"
build_for cross "$other" "$builder" /cnb/lifecycle multi
if [[ -n $emulation ]]; then
    build_for emulated "$other" "$demo/builder-$other" /cnb/lifecycle multi-emulated
    build_for hybrid "$other" "$demo/builder-$other" /other/lifecycle multi-hybrid
fi

heading "One tag, two images"
printf '%s' "$table" | sed 's/^/   /'
[[ $(printf '%s' "$table" | grep " $other " | sed 's/.*sha256/sha256/' | sort -u | wc -l) == 1 ]] ||
    fail "the images for $other are not the same"
say "The image for $other is the same, however it was built."
show "skopeo inspect --raw docker://$registry/multi"
children() { skopeo inspect --tls-verify=false --raw "docker://$1" | jq -r '.manifests[] | "\(.platform.os)/\(.platform.architecture) \(.digest)"'; }
children "$registry/multi"
[[ $(children "$registry/multi" | wc -l) == 2 ]] || fail "the tag does not hold both images"

heading "The same in an OCI layout"
mkdir -p "$builder/layouts/example.com/run-$own" "$builder/layouts/example.com/run-$other"
run skopeo copy --quiet "oci:$images:run-$own" "oci:$builder/layouts/example.com/run-$own/latest"
run skopeo copy --quiet "oci:$images:run-$other" "oci:$builder/layouts/example.com/run-$other/latest"
for arch in "$own" "$other"; do
    new_build
    chown -R 1000:1000 "$builder/layouts"
    with_target "$arch"
    platform+=(CNB_USE_LAYOUT=true CNB_LAYOUT_DIR=/layouts "CNB_RUN_IMAGE=example.com/run-$arch")
    in_builder /cnb/lifecycle/creator example.com/multi
done
layout=$builder/layouts/example.com/multi/latest
index=$layout/blobs/sha256/$(jq -r '.manifests[0].digest' "$layout/index.json" | sed 's/^sha256://')
show "jq .manifests $index"
jq -r '.manifests[] | "\(.platform.os)/\(.platform.architecture) \(.digest)"' "$index"

# Unpacks an image of the registry and asks it for its page.
started() {
    rm -rf "$demo/bundle"
    run skopeo copy --quiet --override-arch "$1" --src-tls-verify=false "docker://$registry/multi" "oci:$images:multi-$1"
    run umoci unpack --image "$images:multi-$1" "$demo/bundle"
    prepare_bundle
    ask_app ""
    show runc exec "$container" uname -m
    runc --root "$demo/runc" exec "$container" uname -m || fail "no program can be run in the app's container"
    stop_app
}
heading "Both started"
started "$own"
if [[ -n $emulation ]]; then started "$other"; fi

heading "A newer run image, and one rebase of both"
for arch in "$own" "$other"; do echo patched > "$demo/run-root-$arch/etc/patched"; done
before=$(children "$registry/multi")
run_images
platform=("${common[@]}" CNB_EXPERIMENTAL_MODE=quiet)
join_run_images
in_builder /cnb/lifecycle/rebaser -index merge -report /tmp/report.toml -index-report /tmp/index-report.toml \
    -run-image "$registry/run:both" "$registry/multi"
printf '%s\n' "before:" "$before" "after:" "$(children "$registry/multi")" | sed 's/^/   /'
[[ $(children "$registry/multi" | wc -l) == 2 ]] || fail "the tag does not hold both images any more"
for arch in "$own" "$other"; do
    run skopeo copy --quiet --override-arch "$arch" --src-tls-verify=false "docker://$registry/multi" "oci:$images:rebased-$arch"
    rm -rf "$demo/bundle"
    run umoci unpack --image "$images:rebased-$arch" "$demo/bundle"
    [[ $(cat "$demo/bundle/rootfs/etc/patched") == patched ]] || fail "the image for $arch is not on the newer run image"
done
say "Both are on the newer run image; nothing was built."
