# Start with `make demo`. The executables are left in out/lifecycle, everything else that is made in out too.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
# Prerequisites one after the other, also with -j: what set-up installs the others need. Cargo uses all processors anyway.
.NOTPARALLEL:

HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
# Architectures are named as images name them: this machine's, and those that executables are built for beside it.
triple.amd64 := x86_64-unknown-linux-gnu
triple.arm64 := aarch64-unknown-linux-gnu
image.x86_64 := amd64
image.aarch64 := arm64
image.powerpc64le := ppc64le
image.riscv64gc := riscv64
MACHINE := $(firstword $(subst -, ,$(HOST)))
HERE := $(or $(image.$(MACHINE)),$(MACHINE))
OTHERS := $(filter-out $(HERE),amd64 arm64)

# Executables run in images without a libc: everything is linked in. A target that is named keeps the flag from build
# scripts. What the compiler remembers of paths is the same on every machine.
FLAGS := -C target-feature=+crt-static --remap-path-prefix=$(CURDIR)=. --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=cargo
variable = CARGO_TARGET_$(shell echo '$(1)' | tr 'a-z-' 'A-Z_')
# One package an executable, named as it is; only `lifecycle` has the name of a library.
EXECUTABLES := $(filter-out launcher,$(patsubst cmd/%/src/main.rs,%,$(wildcard cmd/*/src/main.rs)))
RELEASE = $(call variable,$(1))_RUSTFLAGS='$(FLAGS)' cargo build --locked --profile $(2) --target $(1) \
    $(addprefix --package ,$(patsubst lifecycle,lifecycle-dispatch,$(EXECUTABLES)))
# Puts the executables of a target, an architecture's, into a directory: its launcher, and those of the other architectures.
collect = rm -rf $(3) && mkdir -p $(3) && \
    install -m 755 $(addprefix target/$(1)/$(4)/,$(EXECUTABLES)) out/launchers/launcher-linux-* $(3) && \
    mv $(3)/launcher-linux-$(2) $(3)/launcher

.PHONY: build others lint test demo bench dist compare soak set-up rust launchers $(addprefix other-,$(OTHERS))

# This machine's executables, in out/lifecycle.
build: rust launchers
	$(call RELEASE,$(HOST),release)
	$(call collect,$(HOST),$(HERE),out/lifecycle,release)

# Every architecture's, or with LAUNCHERS='amd64 arm64' those only.
launchers: rust
	acceptance/dist/launchers.sh out/launchers $(LAUNCHERS)

# Other architectures' executables, in out/lifecycle-<architecture>.
OTHERS_PROFILE := release
others: $(addprefix other-,$(OTHERS))

$(addprefix other-,$(OTHERS)): other-%: rust launchers
	rm -rf out/lifecycle-$*
	@target=$(triple.$*); cc=$${target/-unknown/}-gcc; \
	leave_out() { echo "The executables for $* are not built: $$*" >&2; exit 0; }; \
	command -v $$cc > /dev/null || leave_out "$$cc is missing (\`make set-up\` installs it)"; \
	rustup target add $$target || leave_out "rustup has no $$target"; \
	export $(call variable,$(triple.$*))_LINKER=$$cc; \
	( set -x; $(call RELEASE,$(triple.$*),$(OTHERS_PROFILE)) ); \
	$(call collect,$(triple.$*),$*,out/lifecycle-$*,$(OTHERS_PROFILE))

dist: build others
	rm -f out/lifecycle-v*.tgz
	for directory in out/lifecycle $(addprefix out/lifecycle-,$(OTHERS)); do \
	[[ ! -d $$directory ]] || cargo run --locked --quiet --package dist -- $$directory out; done

lint: rust
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --features acceptance/reference --quiet -- -D warnings

# Of the launchers, those of the two architectures that the tests run; and the other architecture's executables as they are
# made soonest: `make dist` makes those that are for others.
test: LAUNCHERS ?= amd64 arm64
test: OTHERS_PROFILE := quick
test: set-up lint dist
	LIFECYCLE_DIR='$(CURDIR)/out/lifecycle' cargo test --locked --workspace --no-fail-fast

demo: set-up dist
	LIFECYCLE_TARBALL=$$(cargo run --locked --quiet --package dist -- out/lifecycle out) acceptance/demo.sh

# BENCH='few --pairs=5' are its arguments, BENCH=--help tells them; LIFECYCLE_REFERENCE_DIR says with whom to compare.
bench: set-up build
	LIFECYCLE_DIR='$(CURDIR)/out/lifecycle' cargo run --locked --quiet --package acceptance --bin bench -- $(BENCH)

# Random builds through this lifecycle and through the one in LIFECYCLE_REFERENCE_DIR; builds in which each phase is of one
# of them, in every mix, with and without a target; rebases of each other's images; and builds for two architectures by turns,
# if LIFECYCLE_REFERENCE_OTHER_DIR has its executables for the other one.
compare: set-up build others
	LIFECYCLE_DIR='$(CURDIR)/out/lifecycle' cargo run --locked --package acceptance --bin compare
	LIFECYCLE_DIR='$(CURDIR)/out/lifecycle' cargo test --locked --package acceptance --features reference \
	    --test alternating --test mixes -- --nocapture
	LIFECYCLE_DIR='$(CURDIR)/out/lifecycle' cargo test --locked --package acceptance --features reference \
	    --test rebase -- another_lifecycle

# What the tests do a few times, all the times: whoever writes an index is killed at each of its requests, and 200 races of
# two, four and eight exporters.
soak: set-up build
	LIFECYCLE_DIR='$(CURDIR)/out/lifecycle' ACCEPTANCE_MOMENTS=1000 ACCEPTANCE_RACES=200 \
	cargo test --locked --package acceptance --test killed_index --test races -- --nocapture --test-threads=1

set-up:
	acceptance/set-up.sh

rust:
	@for program in cargo rustc; do command -v $$program > /dev/null || \
	{ echo 'Rust is missing: install it from https://rustup.rs' >&2; exit 1; }; done
	@command -v cc > /dev/null || \
	{ echo 'A C compiler is missing (Rust links with it): install gcc (on Debian, as root: apt-get install gcc)' >&2; exit 1; }
