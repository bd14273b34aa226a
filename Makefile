# tlswrap: see README.md.
PREFIX  ?= /usr/local
DESTDIR ?=
CC      ?= cc
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo development)

GOFLAGS_BUILD = -trimpath -ldflags "-s -w -E entry -X main.version=$(VERSION)"
SHIM_SRC  = $(wildcard preload/*.c)
SHIM_DEPS = $(SHIM_SRC) $(wildcard preload/*.h) build/exports.map
# One file for glibc and musl: nothing is linked in, nothing is needed, and what libc
# has is a weak reference (preload/shim.h).
SHIM_CFLAGS  = -std=gnu17 -O2 -g -fPIC -fvisibility=hidden -fno-stack-protector -U_FORTIFY_SOURCE \
               -Wall -Wextra -Wshadow -Wconversion -Werror
SHIM_LDFLAGS = -shared -nostdlib -Wl,-z,defs,-z,now,-z,relro,-Bsymbolic,--version-script=build/exports.map

all: build/tlswrap build/libtlswrap.so

build/tlswrap: $(shell find cmd proxy rules -name '*.go' -o -name '*.s' -o -name '*.toml' 2>/dev/null) go.mod go.sum
	@mkdir -p build
	CGO_ENABLED=0 $(GO) build $(GOFLAGS_BUILD) -o $@ ./cmd/tlswrap

build/exports.map: preload/exports.list
	@mkdir -p build
	(echo '{ global:'; sed 's/$$/;/' $<; echo 'local: *; };') > $@

build/libtlswrap.so: $(SHIM_DEPS)
	$(CC) $(SHIM_CFLAGS) $(SHIM_LDFLAGS) -o $@ $(SHIM_SRC)

clean:
	rm -rf build

.PHONY: all clean
