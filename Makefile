# Start with `make demo`. The executables are left in out/lifecycle, everything else that is made in out too.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
# Prerequisites one after the other, also with -j: what set-up installs the others need. Cargo uses all processors anyway.
.NOTPARALLEL:

TARGET := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
# Executables run in images without a libc: everything is linked in. A target that is named keeps the flag from build
# scripts. What the compiler remembers of paths is the same on every machine.
FLAGS := -C target-feature=+crt-static --remap-path-prefix=$(CURDIR)=. --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=cargo
flags = CARGO_TARGET_$(shell echo '$(1)' | tr 'a-z-' 'A-Z_')_RUSTFLAGS='$(FLAGS)'
# Most of what the launcher adds to an app's start is its libc's own start, and musl's is much shorter.
MUSL := $(subst -gnu,-musl,$(TARGET))
# One package an executable, named as it is; only `lifecycle` has the name of a library.
EXECUTABLES := $(patsubst cmd/%/src/main.rs,%,$(wildcard cmd/*/src/main.rs))
PACKAGES := $(patsubst lifecycle,lifecycle-dispatch,$(filter-out launcher,$(EXECUTABLES)))
RELEASE := $(call flags,$(TARGET)) $(call flags,$(MUSL)) cargo build --locked --release

.PHONY: build lint test demo bench dist compare set-up rust

build: rust
	$(RELEASE) --target $(TARGET) $(addprefix --package ,$(PACKAGES))
	# Apart from the others, so that none of their features gets into app images.
	launcher=$(MUSL); \
	rustup target list --installed 2> /dev/null | grep --quiet --line-regexp $(MUSL) || rustup target add $(MUSL) || \
	{ launcher=$(TARGET); echo 'The launcher is built for $(TARGET): without $(MUSL) it starts more slowly.'; }; \
	$(RELEASE) --target $$launcher --package launcher; \
	rm -rf out/lifecycle; \
	mkdir -p out/lifecycle; \
	install -m 755 $(addprefix target/$(TARGET)/release/,$(filter-out launcher,$(EXECUTABLES))) \
	    target/$$launcher/release/launcher out/lifecycle

dist: build
	cargo run --locked --quiet --package dist -- out/lifecycle out

lint: rust
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --quiet -- -D warnings

test: set-up lint dist
	LIFECYCLE_DIR='$(CURDIR)/out/lifecycle' cargo test --locked --workspace --no-fail-fast

demo: set-up dist
	acceptance/demo.sh

# BENCH='few --pairs=5' are its arguments, BENCH=--help tells them; LIFECYCLE_REFERENCE_DIR says with whom to compare.
bench: set-up build
	LIFECYCLE_DIR='$(CURDIR)/out/lifecycle' cargo run --locked --quiet --package acceptance --bin bench -- $(BENCH)

# Random builds through this lifecycle and through the one in LIFECYCLE_REFERENCE_DIR.
compare: set-up build
	LIFECYCLE_DIR='$(CURDIR)/out/lifecycle' cargo run --locked --package acceptance --bin compare

set-up:
	acceptance/set-up.sh

rust:
	@for program in cargo rustc; do command -v $$program > /dev/null || \
	{ echo 'Rust is missing: install it from https://rustup.rs' >&2; exit 1; }; done
	@command -v cc > /dev/null || \
	{ echo 'A C compiler is missing (Rust links with it): install gcc (on Debian, as root: apt-get install gcc)' >&2; exit 1; }
