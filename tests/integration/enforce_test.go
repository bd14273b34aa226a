package integration

import (
	"strings"
	"testing"

	"tlswrap/tests/testkit"
)

// What is enforced is the kernel's to hold: by a flag, or by the rules.
var enforced = map[string]func(t *testing.T, s *site) wrapped{
	"flag": func(_ *testing.T, s *site) wrapped {
		w := s.wrapped()
		w.flags = append([]string{"--enforce"}, w.flags...)
		return w
	},
	"rules": func(t *testing.T, s *site) wrapped {
		return withRules(t, "enforce = true\n[[rule]]\nhost = %q\nport = %d\n", s.host, s.port)
	},
}

// Programs with the library, without it, and with what lets the library's calls pass get their TLS all the same.
func TestEnforceHoldsEveryProgram(t *testing.T) {
	programs := map[string]func(*testing.T, *site) []string{
		"preloaded":                     fetcher("libc", "gcc"),
		"static":                        fetcher("libc", "gcc", "-static", "-DSTATIC"),
		"system calls of its own":       fetcher("raw", "gcc"),
		"preloaded with the cookie":     fetcher("stolen", "gcc"),
		"static with the cookie":        fetcher("stolen", "gcc", "-static", "-DSTATIC"),
		"a static musl with the cookie": fetcher("stolen", "musl-gcc", "-static", "-DSTATIC"),
		"Go":                            goFetcher(false),
		"curl":                          func(_ *testing.T, s *site) []string { return curlArgs(s) },
	}
	for name, argv := range programs {
		for by, run := range enforced {
			t.Run(strings.ReplaceAll(name, " ", "_")+"/"+by, func(t *testing.T) {
				t.Parallel()
				s := serveSite(t, "db.example.test")
				if e := run(t, s).run(t, argv(t, s)...).must(t); e.stdout != s.marker+"\n" {
					t.Errorf("it got %q, stderr %q", e.stdout, e.stderr)
				}
			})
		}
	}
}

// Where the kernel cannot hold a program it is not started, though it could be preloaded.
func TestEnforceStartsNothingWhereTheKernelCannot(t *testing.T) {
	for by, run := range enforced {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			s := serveSite(t, "db.example.test")
			s.mayBeSilent = true
			w := run(t, s)
			w.refused = testkit.WithoutSeccomp
			e := w.run(t, curlArgs(s)...)
			if e.status != 125 || e.stdout != "" || !strings.HasPrefix(e.stderr, "tlswrap: the kernel cannot be made to hold what the rules promise: ") {
				t.Errorf("status %d, stdout %q, stderr %q", e.status, e.stdout, e.stderr)
			}
		})
	}
}

// With --no-kernel nothing but the library holds a program, as on a machine whose kernel cannot.
func TestNothingButTheLibraryHoldsAProgramWithoutTheKernel(t *testing.T) {
	s := serveSite(t, "db.example.test")
	w := s.wrapped()
	w.flags = append(w.flags, "--no-kernel", "-v")
	e := w.run(t, curlArgs(s)...)
	if e.stdout != s.marker+"\n" || !strings.Contains(e.stderr, "verified") {
		t.Errorf("curl got %q, stderr: %q", e.stdout, e.stderr)
	}
	static := fetchers["static"](t, s)
	e = w.run(t, static...)
	if want := "not started, because it cannot be preloaded: "; e.status != 126 || !strings.Contains(e.stderr, want) || !strings.Contains(e.stderr, "(without --no-kernel the kernel might hold it)") {
		t.Errorf("a static program: status %d, stderr: %q", e.status, e.stderr)
	}
	e = w.run(t, append([]string{"sh", "-c", `"$@"`, "sh"}, static...)...)
	if e.status != 126 || !strings.Contains(e.stderr, "not started, because it cannot be preloaded: ") {
		t.Errorf("a static program that a shell starts: status %d, stderr: %q", e.status, e.stderr)
	}
	e = wrapped{flags: []string{"--enforce", "--no-kernel"}}.run(t, "true")
	if want := "tlswrap: --enforce and --no-kernel contradict each other\n"; e.status != 125 || e.stderr != want {
		t.Errorf("status %d, stderr: %q, want %q", e.status, e.stderr, want)
	}
}
