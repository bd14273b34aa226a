# tlswrap: see README.md, CONTRIBUTING.md and make help.
PREFIX  ?= /usr/local
DESTDIR ?=
CC      ?= cc
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo development)

# The compilers of make cross.
CC_AARCH64 ?= aarch64-linux-gnu-gcc
CC_386     ?= i686-linux-gnu-gcc

# What tlswrap is made of: no tests, so that a change of a test builds nothing.
GO_SRC   = $(shell find cmd proxy rules -name testdata -prune -o -name '*_test.go' -o \
	\( -name '*.go' -o -name '*.s' -o -name '*.toml' \) -print) go.mod go.sum
SHIM_SRC = $(wildcard preload/*.c libtls/*.c)
SHIM_DEP = $(SHIM_SRC) $(wildcard preload/*.h libtls/*.h libtls/include/*.h) preload/versions.map
WARNINGS = -Wall -Wextra -Wshadow -Wconversion

# One file for glibc and musl: nothing is linked in, nothing is needed, and what libc
# has is a weak reference (preload/shim.h). CPPFLAGS, CFLAGS and LDFLAGS are the caller's, and
# stand before what the shim cannot do without, which is the last word on that.
SHIM_CFLAGS  = -O2 -g $(WARNINGS) $(CPPFLAGS) $(CFLAGS) \
	-std=gnu17 -fPIC -fasynchronous-unwind-tables -fvisibility=hidden -fno-stack-protector -fno-lto -U_FORTIFY_SOURCE
SHIM_LDFLAGS = $(LDFLAGS) \
	-shared -nostdlib -Wl,-z,defs,-z,now,-z,relro,-Bsymbolic,--version-script=preload/versions.map,-rpath,'$$ORIGIN/libtls'
SHIM_BUILD   = $(SHIM_CFLAGS) $(SHIM_LDFLAGS) -o $@ $(SHIM_SRC)

all: build/tlswrap build/libtlswrap.so build/libtls ## builds tlswrap and its library, in build

# entry_*.s is what runs before Go's runtime.
ENTRY = $(if $(wildcard cmd/tlswrap/entry_$(shell $(GO) env GOARCH).s),-E entry)
build/tlswrap: $(GO_SRC)
	@mkdir -p $(@D)
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w $(ENTRY) -X main.version=$(VERSION)' -o $@ ./cmd/tlswrap

build/libtlswrap.so: $(SHIM_DEP)
	$(CC) $(SHIM_BUILD)

# The names by which programs and bindings open libtls: all are the shim. A loader that has
# preloaded it takes them for what it has (they are one file).
LIBTLS_NAMES = libtls.so.26 libtls.so.28 libressl.so
build/libtls: Makefile
	@mkdir -p $@
	for name in $(LIBTLS_NAMES); do ln -sf ../libtlswrap.so $@/$$name; done
	@touch $@

# The shim for other kinds of program, in folders named as debug/elf names machines.
cross: build/EM_AARCH64/libtlswrap.so build/EM_386/libtlswrap.so ## builds the library for programs of arm64 and i386

build/EM_AARCH64/libtlswrap.so: $(SHIM_DEP)
	@mkdir -p $(@D)
	$(CC_AARCH64) -mno-outline-atomics $(SHIM_BUILD)

build/EM_386/libtlswrap.so: $(SHIM_DEP)
	@mkdir -p $(@D)
	$(CC_386) $(SHIM_BUILD)

# UBSan traps, so that it needs no runtime in the program.
build/ubsan/libtlswrap.so: $(SHIM_DEP)
	@mkdir -p $(@D)
	$(CC) -fsanitize=undefined -fsanitize-undefined-trap-on-error $(SHIM_BUILD)

# ASan wants its runtime to be the first library, which the shim is: ASAN_DEFAULTS has it
# put up with that, in every program that the shim gets into.
ASAN_DEFAULTS = const char *__asan_default_options(void); \
	__attribute__((visibility("default"))) const char *__asan_default_options(void) \
	{ return "verify_asan_link_order=0:detect_leaks=0:use_sigaltstack=0"; }
build/asan/libtlswrap.so: $(SHIM_DEP)
	@mkdir -p $(@D)
	echo '$(ASAN_DEFAULTS)' > $(@D)/defaults.c
	$(CC) -fsanitize=address $(SHIM_CFLAGS) $(LDFLAGS) -shared -Wl,--version-script=preload/versions.map -o $@ $(SHIM_SRC) $(@D)/defaults.c

# For the tests, what cannot be installed: Debian's vsftpd beside its proftpd, its busybox-static
# beside its busybox, and its inn2 on a host without a domain name. $(call fetch,PACKAGE) unpacks one in build/debian.
DOWNLOAD = apt-get -qq -o APT::Sandbox::User=root download
fetch = rm -rf build/debian/$1 && mkdir -p build/debian/$1 && cd build/debian/$1 && \
	{ $(DOWNLOAD) $1 || { apt-get -qq update && $(DOWNLOAD) $1; }; } && dpkg-deb -x $1_*.deb .

build/vsftpd:
	$(call fetch,vsftpd)
	mv build/debian/vsftpd/usr/sbin/vsftpd $@

build/busybox-static:
	$(call fetch,busybox-static)
	mv build/debian/busybox-static/bin/busybox $@

build/inn:
	$(call fetch,inn2)
	$(call fetch,inn2-inews)
	mkdir -p $@.new/auth/passwd
	cp build/debian/inn2*/usr/lib/news/lib*.so.? $@.new
	cd build/debian/inn2/usr/lib/news/bin && cp innd nnrpd makedbz $(CURDIR)/$@.new && cp auth/passwd/ckpasswd $(CURDIR)/$@.new/auth/passwd
	mv $@.new $@

# What make install puts where, under PREFIX: a mode (or "link"), the file, its new name.
INSTALLED = \
	755 build/tlswrap bin/tlswrap \
	644 build/libtlswrap.so lib/tlswrap/libtlswrap.so \
	$(foreach f,$(wildcard build/EM_*/libtlswrap.so),644 $f lib/tlswrap/$(f:build/%=%)) \
	$(foreach n,$(LIBTLS_NAMES),link ../libtlswrap.so lib/tlswrap/libtls/$n) \
	$(foreach f,$(wildcard libtls/include/*.h),644 $f include/tlswrap/$(notdir $f)) \
	$(foreach n,1 3 5,$(foreach f,$(wildcard man/*.$n),644 $f share/man/man$n/$(notdir $f)))

install: all ## installs under PREFIX (/usr/local), in the root directory DESTDIR
	@scripts/install '$(DESTDIR)' '$(PREFIX)' $(INSTALLED)

uninstall: ## removes what make install has put there with the same PREFIX and DESTDIR
	@scripts/uninstall '$(DESTDIR)' '$(PREFIX)'

help: ## lists what there is to make
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14
	@echo 'Variables: PREFIX DESTDIR CC CC_AARCH64 CC_386 CPPFLAGS CFLAGS LDFLAGS GO GOFLAGS VERSION PYTHON'

# ---- what a person sees, and what shows that it works ----

demo: ## shows verified and refused connections of curl
	@scripts/need curl gcc libc6-dev
	@$(MAKE) -s all
	@$(GO) run ./tests/demo

test: ## installs what the tests need and runs all of them
	@scripts/need $$(cat tests/*/packages.txt proxy/*/testdata/packages.txt)
	@$(MAKE) -s all cross build/ubsan/libtlswrap.so build/asan/libtlswrap.so
	@rm -f build/not-tested
	TLSWRAP_TEST_ALL=1 TLSWRAP_NOT_TESTED=$(CURDIR)/build/not-tested $(GO) test -race -count=1 -timeout 18m ./... || \
		{ sort -u build/not-tested 2>/dev/null; exit 1; }
	@sort -u build/not-tested 2>/dev/null || true
	@grep -qs TlsTxSw /proc/net/tls_stat || echo 'kernel_tls was tested with a kernel that cannot: make test-ktls brings one'

# The two commands of the README, in a new Debian 12 that has only gcc, make, git and Go.
test-fresh: ## runs make demo and make test in a new Debian 12
	scripts/fresh

# Each system call of tlswrap, its worker and its shim fails once in each way that it may.
test-faults: ## has every system call fail once, in each way that it may
	@scripts/need $$(cat tests/faults/packages.txt)
	@$(MAKE) -s all
	$(GO) run ./tests/faults

# kernel_tls, on a kernel that can: user-mode Linux.
test-ktls: ## runs the tests of kernel_tls on a kernel that has it
	@scripts/need user-mode-linux kmod iproute2
	@scripts/need $$(cat tests/integration/packages.txt)
	CGO_ENABLED=0 $(GO) test -c -o build/record.test ./proxy/record
	CGO_ENABLED=0 $(GO) test -c -o build/integration.test ./tests/integration
	@$(MAKE) -s all build/vsftpd build/busybox-static build/inn
	scripts/uml build/record.test -test.run '^TestKernelTLS$$' -test.v
	cd tests/integration && ../../scripts/uml ../../build/integration.test -test.run '^TestKernelTLS$$' -test.v

# CPython's own tests of sockets, asyncio, HTTP and mail, from Debian, or of a PYTHON that has them.
PYTHON ?= /usr/bin/python3
test-suites: ## runs CPython's tests that use sockets, under tlswrap and without it
	@scripts/need python3
	@$(PYTHON) -c 'import test.test_socket' 2>/dev/null || \
		scripts/need $$($(PYTHON) -c 'import sys; print("libpython%d.%d-testsuite" % sys.version_info[:2])')
	@$(MAKE) -s all
	$(GO) run ./tests/suites -python $(PYTHON)

bench: ## measures speed, new connections, memory and starts, in 20 minutes
	@scripts/need $$(cat tests/bench/packages.txt)
	@$(MAKE) -s all
	$(GO) run ./tests/bench

# build/performance.svg and .png, in 8 minutes.
bench-plot: ## draws build/performance.svg, in 8 minutes
	@scripts/need gnuplot-nox $$(cat tests/bench/packages.txt)
	@$(MAKE) -s all
	$(GO) run ./tests/bench -plot build

# What make check and make lint begin with. The C files are read by each compiler of COMPILERS.
COMPILERS = $(CC)
style:
	@test -z "$$(gofmt -l .)" || { gofmt -l . ; echo 'the files above are not formatted (gofmt -w)'; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	for cc in $(COMPILERS); do $$cc $(SHIM_CFLAGS) -Werror -fsyntax-only $(SHIM_SRC) || exit 1; done

# Nothing that QUICK tests needs root, or a program that is not needed to build tlswrap.
QUICK = ./rules ./cmd/... ./proxy/... ./tests/docs ./tests/testkit
check: all style ## what to run before each commit, in less than a minute: no root, nothing is installed
	$(GO) test -short $(QUICK)

lint: ## make check's looks at the sources, and those of clang and cppcheck
	@scripts/need clang cppcheck
	@$(MAKE) --no-print-directory style COMPILERS='gcc clang'
	cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr \
		--suppress=missingIncludeSystem --suppress=uninitvar --suppress=ctuuninitvar --error-exitcode=1 preload libtls

# Every fuzz target for a while; go test runs their seeds.
FUZZTIME ?= 30s
fuzz: ## runs each fuzz target for FUZZTIME (30s)
	@for p in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
			echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p || exit 1; \
		done; \
	done

clean: ## removes build
	rm -rf build

.PHONY: all cross install uninstall demo test test-fresh test-faults test-ktls test-suites bench bench-plot style check lint fuzz clean help
