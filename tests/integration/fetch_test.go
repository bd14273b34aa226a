package integration

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tlswrap/tests/testkit"
)

// fetchers are programs that no shim can be preloaded into, that lose it on their way, or that do not call it
// where they connect: each prints what a site has as /fixed. They get their own TLS, or rather ours.
var fetchers = map[string]func(t *testing.T, s *site) []string{
	"static":                              fetcher("libc", "gcc", "-static", "-DSTATIC"),
	"static-pie":                          fetcher("libc", "gcc", "-static-pie", "-fPIE", "-DSTATIC"),
	"static with system calls of its own": fetcher("raw", "gcc", "-static", "-DSTATIC"),
	"static with a clone":                 fetcher("clone", "gcc", "-static", "-DSTATIC"),
	"static musl":                         fetcher("libc", "musl-gcc", "-static", "-DSTATIC"),
	"system calls of its own":             fetcher("raw", "gcc"),
	"a clone":                             fetcher("clone", "gcc"),
	"a second libc":                       fetcher("dlmopen", "gcc"),
	"io_uring": func(t *testing.T, s *site) []string {
		testkit.Need(t, "liburing.h")
		return fetcher("uring", "gcc", "-DURING", "-luring")(t, s)
	},
	"Go":          goFetcher(false),
	"Go with cgo": goFetcher(true),
	"Free Pascal": func(t *testing.T, s *site) []string {
		return []string{pascal(t, "fetch.pas"), "127.0.0.1", s.portString(), s.marker}
	},
	"qemu": func(t *testing.T, s *site) []string {
		testkit.Need(t, "qemu-aarch64")
		return append([]string{"/usr/bin/qemu-aarch64"}, fetcher("libc", "aarch64-linux-gnu-gcc", "-static", "-DSTATIC")(t, s)...)
	},
	"busybox-static wget": func(t *testing.T, s *site) []string {
		return []string{busyboxStatic(t), "wget", "-q", "-O", "-", s.url("/fixed")}
	},
	"rclone": func(t *testing.T, s *site) []string {
		testkit.Need(t, "rclone")
		return []string{"/usr/bin/rclone", "--config", "/dev/null", "copyurl", "--stdout", s.url("/fixed")}
	},
	"another real user": func(t *testing.T, s *site) []string {
		testkit.Need(t, "setpriv")
		return append([]string{"/usr/bin/setpriv", "--ruid=65534", "--clear-groups"}, curlArgs(s)...)
	},
	"another real group": func(t *testing.T, s *site) []string {
		testkit.Need(t, "setpriv")
		return append([]string{"/usr/bin/setpriv", "--rgid=65534", "--clear-groups"}, curlArgs(s)...)
	},
	"a set-user-ID program": func(t *testing.T, s *site) []string {
		argv := fetcher("libc", "gcc")(t, s)
		own := filepath.Join(openDir(t), "fetch")
		if out, err := exec.Command("sh", "-c", `cp "$0" "$1" && chown 65534 "$1" && chmod 4755 "$1"`, argv[0], own).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return append([]string{own}, argv[1:]...)
	},
	"a script of a static interpreter": func(t *testing.T, s *site) []string {
		file := writeFile(t, "script", "#!"+busyboxStatic(t)+" sh\nexec wget -q -O - \"$1\"\n")
		if err := os.Chmod(file, 0o755); err != nil {
			t.Fatal(err)
		}
		return []string{file, s.url("/fixed")}
	},
	"a library on a file system mounted noexec": func(t *testing.T, s *site) []string {
		testkit.Need(t, "unshare")
		const mount = `mount --bind "$0" "$0" && mount -o remount,bind,noexec "$0" && "$@"`
		library := filepath.Join(filepath.Dir(lab.tlswrap), "libtlswrap.so")
		return append([]string{"/usr/bin/unshare", "-m", "/bin/sh", "-c", mount, library}, curlArgs(s)...)
	},
	"an environment that a static shell has emptied": func(t *testing.T, s *site) []string {
		return append([]string{busyboxStatic(t), "sh", "-c", `env -i "$@"`, "sh"}, curlArgs(s)...)
	},
	"an environment that a Go program has emptied": func(t *testing.T, s *site) []string {
		return append([]string{goProgram(t, "goclient.go", false), "exec"}, curlArgs(s)...)
	},
	"a static program that the dynamic loader is to start": func(t *testing.T, s *site) []string {
		return append([]string{loader(t)}, fetcher("libc", "gcc", "-static-pie", "-fPIE", "-DSTATIC")(t, s)...)
	},
	"a loader of an unknown name": func(t *testing.T, s *site) []string {
		return fetcher("libc", "gcc", "-Wl,--dynamic-linker="+copyOf(t, loader(t), "loader"))(t, s)
	},
}

// fetcher is fetch.c, which is compiled with flags and goes its way.
func fetcher(way, compiler string, flags ...string) func(*testing.T, *site) []string {
	return func(t *testing.T, s *site) []string {
		flags := append([]string{"-D_GNU_SOURCE", "-O1", "-w"}, flags...)
		return []string{buildWith(t, []string{compiler}, "fetch.c", flags...), way, s.host, s.portString(), s.marker}
	}
}

func goFetcher(cgo bool) func(*testing.T, *site) []string {
	return func(t *testing.T, s *site) []string {
		return []string{goProgram(t, "goclient.go", cgo), s.url("/fixed"), "1"}
	}
}

func pascal(t *testing.T, source string) string {
	t.Helper()
	testkit.Need(t, "fpc")
	return buildWith(t, []string{"fpc", "-v0"}, source)
}

func curlArgs(s *site) []string {
	argv := quietCurl(s.url("/fixed"))
	argv[0] = "/usr/bin/curl"
	return argv
}

// oftenStarted are the fetchers that others start, too: one of each kind.
var oftenStarted = []string{"static", "Go", "system calls of its own", "busybox-static wget", "a set-user-ID program"}

// The sniffer sees to it that nothing of this is readable on the wire: see serveSite.
func TestProgramsWithoutTheShimGetTLS(t *testing.T) {
	for name, argv := range fetchers {
		for how, by := range startedBy {
			if how != "tlswrap" && !slices.Contains(oftenStarted, name) {
				continue
			}
			t.Run(strings.ReplaceAll(name, " ", "_")+"/"+how, func(t *testing.T) {
				t.Parallel()
				s := serveSite(t, "db.example.test")
				if e := s.wrapped().run(t, by(argv(t, s)...)...).must(t); e.stdout != s.marker+"\n" || strings.Contains(e.stderr, "ERROR: ld.so") {
					t.Errorf("it got %q, stderr %q", e.stdout, e.stderr)
				}
			})
		}
	}
}

// A certificate that is wrong is one for them too.
func TestProgramsWithoutTheShimAreRefusedAStranger(t *testing.T) {
	for name, argv := range fetchers {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := serveHandlerWith(t, "db.example.test", serverConfig(t, testkit.Leaf{Names: []string{"wrong.example.test"}}))
			e := s.wrapped().run(t, argv(t, s)...)
			if strings.Contains(e.stdout, s.marker+"\n") || !strings.Contains(e.stderr, "tlswrap: "+s.hostport()+": certificate is for wrong.example.test, not db.example.test") {
				t.Errorf("status %d, it got %q, stderr %q", e.status, e.stdout, e.stderr)
			}
		})
	}
}

// serveHandlerWith is serveSite with a configuration of the caller's.
func serveHandlerWith(t *testing.T, host string, config *tls.Config) *site {
	t.Helper()
	marker := newMarker()
	server, err := testkit.ServeHTTP(listenAddr(t, host), config, testkit.Site(marker))
	return watched(t, host, marker, server, err)
}

// What only the shim could hold is not started where there is nothing but the shim. The second libc and the
// like cannot be told beforehand: they are what such a machine leaves open (docs/security.md).
func TestProgramsWithoutTheShimAreRefusedWhereThereIsNoFilter(t *testing.T) {
	for _, name := range []string{"static", "static-pie", "static musl", "Go", "Go with cgo", "Free Pascal", "qemu", "busybox-static wget",
		"rclone", "another real user", "another real group", "a set-user-ID program", "a script of a static interpreter", "a library on a file system mounted noexec"} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			marker := newMarker()
			server, err := testkit.ServeHTTP(listenAddr(t, "db.example.test"), nil, testkit.Site(marker))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(server.Close)
			s := &site{host: "db.example.test", port: server.Port(), marker: marker}
			watch := lab.sniffer.Watch([]byte(marker), s.port)
			w := s.wrapped()
			w.refused = testkit.WithoutSeccomp
			e := w.run(t, fetchers[name](t, s)...)
			if e.status == 0 || e.stdout != "" || !strings.Contains(e.stderr, "not started, because it cannot be preloaded: ") {
				t.Errorf("status %d, stdout %q, stderr %q", e.status, e.stdout, e.stderr)
			}
			if report, err := watch.Stop(); err != nil || report.Bytes > 0 || len(report.Leaks) > 0 {
				t.Errorf("something was sent: %+v, %v", report, err)
			}
		})
	}
}

func TestGoProgramMakesManyConnectionsAtOnce(t *testing.T) {
	const count = 500
	for _, cgo := range []bool{false, true} {
		s := serveSite(t, "db.example.test")
		e := s.wrapped().run(t, goProgram(t, "goclient.go", cgo), s.url("/fixed"), fmt.Sprint(count)).must(t)
		if e.stdout != s.marker+"\n" {
			t.Errorf("cgo %v: it got %q", cgo, tail(e.stdout))
		}
	}
}

// Happy Eyeballs (RFC 8305): the name has an address of either family, and one of them, or both, serve.
func TestGoProgramTriesBothFamilies(t *testing.T) {
	for name, addresses := range map[string][]string{"IPv4": {"127.0.0.6"}, "IPv6": {"::1"}, "both": {"127.0.0.6", "::1"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := serverConfig(t, testkit.Leaf{Names: []string{"dual.example.test"}})
			marker := newMarker()
			port := "0"
			var s *site
			for _, address := range addresses {
				server, err := testkit.ServeHTTP(net.JoinHostPort(address, port), config, testkit.Site(marker))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(server.Close)
				if s == nil {
					s = watchPort(t, "dual.example.test", server.Port(), marker)
					port = s.portString()
				}
			}
			e := s.wrapped().run(t, goProgram(t, "goclient.go", false), s.url("/fixed"), "20")
			if e.status != 0 || e.stdout != marker+"\n" {
				t.Errorf("status %d, it got %q, stderr %q", e.status, tail(e.stdout), e.stderr)
			}
		})
	}
}

// A user who is not root has no_new_privs set, and the worker is that user's too.
func TestProgramsWithoutTheShimGetTLSAsAnOrdinaryUser(t *testing.T) {
	for _, name := range []string{"static", "static musl", "Go", "system calls of its own", "a second libc", "busybox-static wget"} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := serveSite(t, "db.example.test")
			argv := append(append([]string{lab.tlswrap}, s.flags()...), fetchers[name](t, s)...)
			e := wrapped{bare: true, dir: "/"}.run(t, as(strangersUser, argv...)...).must(t)
			if e.stdout != s.marker+"\n" {
				t.Errorf("it got %q, stderr %q", e.stdout, e.stderr)
			}
		})
	}
}

// In a user and PID namespace, whether tlswrap is outside of it or inside.
func TestProgramsWithoutTheShimGetTLSInNamespaces(t *testing.T) {
	for _, name := range []string{"static", "Go", "system calls of its own", "busybox-static wget"} {
		for place, argv := range map[string]func(own, program []string) []string{
			"outside": func(own, program []string) []string {
				return append(append(own, "unshare", "-Urpf", "--mount-proc"), program...)
			},
			"inside": func(own, program []string) []string {
				return append([]string{"unshare", "-Urpf", "--mount-proc"}, append(own, program...)...)
			},
		} {
			t.Run(strings.ReplaceAll(name, " ", "_")+"/"+place, func(t *testing.T) {
				t.Parallel()
				s := serveSite(t, "db.example.test")
				own := append([]string{lab.tlswrap}, s.flags()...)
				e := wrapped{bare: true}.run(t, argv(own, fetchers[name](t, s))...).must(t)
				if e.stdout != s.marker+"\n" {
					t.Errorf("it got %q, stderr %q", e.stdout, e.stderr)
				}
			})
		}
	}
}

// Where descriptors or memory of another process cannot be had, as with Yama or in a container, there is another
// way, or the program is not started. It never connects by itself.
func TestMachineThatKeepsProcessesApartNeverLeaks(t *testing.T) {
	for what, refused := range map[string][]testkit.Refusal{
		"no pidfd_getfd":     {{Call: unix.SYS_PIDFD_GETFD, Errno: unix.EPERM}},
		"no process_vm":      {{Call: unix.SYS_PROCESS_VM_READV, Errno: unix.EPERM}, {Call: unix.SYS_PROCESS_VM_WRITEV, Errno: unix.EPERM}},
		"no pidfd_open":      {{Call: unix.SYS_PIDFD_OPEN, Errno: unix.ENOSYS}},
		"neither":            {{Call: unix.SYS_PIDFD_GETFD, Errno: unix.EPERM}, {Call: unix.SYS_PROCESS_VM_READV, Errno: unix.EPERM}},
		"no seccomp at all":  testkit.WithoutSeccomp,
		"no listeners":       {{Call: unix.SYS_SECCOMP, Errno: unix.EBUSY}},
		"no user namespaces": {{Call: unix.SYS_UNSHARE, Errno: unix.EPERM}},
	} {
		for _, name := range []string{"static", "Go"} {
			t.Run(strings.ReplaceAll(what+"/"+name, " ", "_"), func(t *testing.T) {
				t.Parallel()
				s := serveSite(t, "db.example.test")
				s.mayBeSilent = true
				w := s.wrapped()
				w.refused = refused
				e := w.run(t, fetchers[name](t, s)...)
				works := e.status == 0 && e.stdout == s.marker+"\n"
				denied := e.status == 126 && e.stdout == "" && strings.Contains(e.stderr, "not started")
				if !works && !denied {
					t.Errorf("status %d, it got %q, stderr %q", e.status, e.stdout, e.stderr)
				}
			})
		}
	}
}

// Programs that put their children below filters of their own.
func TestProgramsWithFiltersOfTheirOwnWork(t *testing.T) {
	t.Run("man", func(t *testing.T) {
		testkit.Need(t, "man")
		page := writeFile(t, "page.1", ".TH PAGE 1\n.SH NAME\npage \\- a page\n")
		if err := os.Chmod(filepath.Dir(page), 0o755); err != nil {
			t.Fatal(err)
		}
		want := wrapped{bare: true}.run(t, "man", "-l", page).must(t).stdout
		if e := anyRule().run(t, "man", "-l", page).must(t); e.stdout != want || !strings.Contains(want, "a page") {
			t.Errorf("it shows %q, and without tlswrap %q, stderr %q", e.stdout, want, e.stderr)
		}
	})
	t.Run("bwrap", func(t *testing.T) {
		testkit.Need(t, "bwrap")
		for _, name := range []string{"static", "Go", "busybox-static wget"} {
			s := serveSite(t, "db.example.test")
			argv := append([]string{"/usr/bin/bwrap", "--dev-bind", "/", "/", "--unshare-pid", "--unshare-user", "--die-with-parent"}, fetchers[name](t, s)...)
			if e := s.wrapped().run(t, argv...).must(t); e.stdout != s.marker+"\n" {
				t.Errorf("%s: it got %q, stderr %q", name, e.stdout, e.stderr)
			}
		}
	})
}
