# tlswrap: see README.md.
PREFIX  ?= /usr/local
DESTDIR ?=
CC      ?= cc
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo development)

GO_SRC   = $(shell find cmd proxy rules -name '*.go' -o -name '*.s' -o -name '*.toml') go.mod go.sum
SHIM_SRC = $(wildcard preload/*.c libtls/*.c)
SHIM_DEP = $(SHIM_SRC) $(wildcard preload/*.h libtls/*.h libtls/include/*.h) build/exports.map
WARNINGS = -Wall -Wextra -Wshadow -Wconversion

# One file for glibc and musl: nothing is linked in, nothing is needed, and what libc
# has is a weak reference (preload/shim.h).
SHIM_CFLAGS  = -std=gnu17 -O2 -g -fPIC -fvisibility=hidden -fno-stack-protector -U_FORTIFY_SOURCE $(WARNINGS)
SHIM_LDFLAGS = -shared -nostdlib -Wl,-z,defs,-z,now,-z,relro,-Bsymbolic,--version-script=build/exports.map,-rpath,'$$ORIGIN/libtls'
SHIM_BUILD   = $(SHIM_CFLAGS) $(SHIM_LDFLAGS) -o $@ $(SHIM_SRC)

all: build/tlswrap build/libtlswrap.so build/libtls

# entry_*.s is what runs before Go's runtime.
ENTRY = $(if $(wildcard cmd/tlswrap/entry_$(shell $(GO) env GOARCH).s),-E entry)
build/tlswrap: $(GO_SRC)
	@mkdir -p $(@D)
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w $(ENTRY) -X main.version=$(VERSION)' -o $@ ./cmd/tlswrap

build/exports.map: preload/exports.list
	@mkdir -p $(@D)
	(echo '{ global:'; sed 's/$$/;/' $<; echo 'local: *; };') > $@

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
cross: build/EM_AARCH64/libtlswrap.so build/EM_386/libtlswrap.so

build/EM_AARCH64/libtlswrap.so: $(SHIM_DEP)
	@mkdir -p $(@D)
	aarch64-linux-gnu-gcc -mno-outline-atomics $(SHIM_BUILD)

build/EM_386/libtlswrap.so: $(SHIM_DEP)
	@mkdir -p $(@D)
	i686-linux-gnu-gcc $(SHIM_BUILD)

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
	$(CC) -fsanitize=address $(SHIM_CFLAGS) -shared -o $@ $(SHIM_SRC) $(@D)/defaults.c

# For the tests, what cannot be installed: Debian's vsftpd beside its proftpd, and its inn2
# on a host without a domain name. $(call fetch,PACKAGE) unpacks one in build/debian.
DOWNLOAD = apt-get -qq -o APT::Sandbox::User=root download
fetch = rm -rf build/debian/$1 && mkdir -p build/debian/$1 && cd build/debian/$1 && \
	{ $(DOWNLOAD) $1 || { apt-get -qq update && $(DOWNLOAD) $1; }; } && dpkg-deb -x $1_*.deb .

build/vsftpd:
	$(call fetch,vsftpd)
	mv build/debian/vsftpd/usr/sbin/vsftpd $@

build/inn:
	$(call fetch,inn2)
	$(call fetch,inn2-inews)
	mkdir -p $@.new/auth/passwd
	cp build/debian/inn2*/usr/lib/news/lib*.so.? $@.new
	cd build/debian/inn2/usr/lib/news/bin && cp innd nnrpd makedbz $(CURDIR)/$@.new && cp auth/passwd/ckpasswd $(CURDIR)/$@.new/auth/passwd
	mv $@.new $@

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/tlswrap/libtls $(DESTDIR)$(PREFIX)/include/tlswrap \
		$(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man3 $(DESTDIR)$(PREFIX)/share/man/man5
	install -m 755 build/tlswrap $(DESTDIR)$(PREFIX)/bin/
	install -m 644 build/libtlswrap.so $(DESTDIR)$(PREFIX)/lib/tlswrap/
	for m in EM_386 EM_AARCH64; do \
		if [ -f build/$$m/libtlswrap.so ]; then \
			install -D -m 644 build/$$m/libtlswrap.so $(DESTDIR)$(PREFIX)/lib/tlswrap/$$m/libtlswrap.so; \
		fi; \
	done
	for name in $(LIBTLS_NAMES); do ln -sf ../libtlswrap.so $(DESTDIR)$(PREFIX)/lib/tlswrap/libtls/$$name; done
	install -m 644 libtls/include/tls.h libtls/include/ressl.h $(DESTDIR)$(PREFIX)/include/tlswrap/
	install -m 644 man/*.3 $(DESTDIR)$(PREFIX)/share/man/man3/
	install -m 644 man/tlswrap.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -m 644 man/tlswrap.rules.5 $(DESTDIR)$(PREFIX)/share/man/man5/

# ---- what a person sees, and what shows that it works ----

demo:
	@scripts/need curl gcc libc6-dev
	@$(MAKE) -s all
	@$(GO) run ./tests/demo

test:
	@scripts/need $$(cat tests/*/packages.txt proxy/record/testdata/packages.txt)
	@$(MAKE) -s all cross build/ubsan/libtlswrap.so build/asan/libtlswrap.so
	$(GO) test -race -count=1 -timeout 18m ./...
	@grep -qs TlsTxSw /proc/net/tls_stat || echo 'kernel_tls was tested with a kernel that cannot: make test-ktls brings one'

# The two commands of the README, in a new Debian 12 that has only gcc, make, git and Go.
test-fresh:
	scripts/fresh

# Each system call of tlswrap, its worker and its shim fails once in each way that it may.
test-faults:
	@scripts/need $$(cat tests/faults/packages.txt)
	@$(MAKE) -s all
	$(GO) run ./tests/faults

# kernel_tls, on a kernel that can: user-mode Linux.
test-ktls:
	@scripts/need user-mode-linux kmod iproute2
	@scripts/need $$(cat tests/integration/packages.txt)
	CGO_ENABLED=0 $(GO) test -c -o build/record.test ./proxy/record
	CGO_ENABLED=0 $(GO) test -c -o build/integration.test ./tests/integration
	@$(MAKE) -s all build/vsftpd build/inn
	scripts/uml build/record.test -test.run '^TestKernelTLS$$' -test.v
	cd tests/integration && ../../scripts/uml ../../build/integration.test -test.run '^TestKernelTLS$$' -test.v

bench:
	@scripts/need $$(cat tests/bench/packages.txt)
	@$(MAKE) -s all
	$(GO) run ./tests/bench

# build/performance.svg and .png, in 8 minutes.
bench-plot:
	@scripts/need gnuplot-nox $$(cat tests/bench/packages.txt)
	@$(MAKE) -s all
	$(GO) run ./tests/bench -plot build

lint:
	@scripts/need clang cppcheck
	@test -z "$$(gofmt -l .)" || { gofmt -l . ; echo 'lint: the files above are not formatted (gofmt -w)'; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	@$(MAKE) -s build/exports.map
	for cc in gcc clang; do $$cc $(SHIM_CFLAGS) -Werror -fsyntax-only $(SHIM_SRC) || exit 1; done
	cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr \
		--suppress=missingIncludeSystem --suppress=uninitvar --suppress=ctuuninitvar --error-exitcode=1 preload libtls

# Every fuzz target for a while; go test runs their seeds.
FUZZTIME ?= 30s
fuzz:
	@for p in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
			echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p || exit 1; \
		done; \
	done

clean:
	rm -rf build

.PHONY: all cross install demo test test-fresh test-ktls bench bench-plot lint fuzz clean
