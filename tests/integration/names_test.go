package integration

import (
	"fmt"
	"strings"
	"testing"
)

// A short name and a second one on a line of /etc/hosts are the host that a rule covers:
// see serveTLS for what must not be seen.
func TestShortNamesAndNicknamesAreTheNameWithTheRule(t *testing.T) {
	for host, short := range map[string]string{"app.short.test": "app", "*.short.test": "nickname"} {
		t.Run(short, func(t *testing.T) {
			s := serveSite(t, "app.short.test")
			w := withRules(t, "[[rule]]\nhost = %q\nport = %d\n", host, s.port)
			url := strings.Replace(s.url("/fixed"), "app.short.test", short, 1)
			if e := w.run(t, "curl", "-sS", url).must(t); !strings.Contains(e.stdout, s.marker) {
				t.Errorf("got %q: %s", e.stdout, e.stderr)
			}
			explain := append([]string{lab.tlswrap, "explain", fmt.Sprintf("%s:%d", short, s.port)}, w.flags...)
			if e := (wrapped{bare: true}).run(t, explain...).must(t); !strings.Contains(e.stdout, short+": stands for app.short.test\n") {
				t.Errorf("explain says %q", e.stdout)
			}
		})
	}
}

// A program that the kernel holds reads /etc/hosts by itself: serveTLS again.
func TestNamesInHostsAreTheWildcardsForHeldProgramsToo(t *testing.T) {
	s := serveSite(t, "app.short.test")
	w := withRules(t, "[[rule]]\nhost = \"*.short.test\"\nport = %d\n", s.port)
	for name, program := range map[string][]string{
		"static": {goProgram(t, "goclient.go", false), s.url("/fixed"), "1"},
		"libc's": {busyboxStatic(t), "sh", "-c", `exec env -i "$@"`, "sh", "/usr/bin/curl", "-sS", s.url("/fixed")},
	} {
		t.Run(name, func(t *testing.T) {
			if e := w.run(t, program...).must(t); !strings.Contains(e.stdout, s.marker) {
				t.Errorf("got %q: %s", e.stdout, e.stderr)
			}
		})
	}
}

// Another name that happens to have the address is left alone.
func TestStrangersOnTheSameAddressAreNotDraggedUnderTheRule(t *testing.T) {
	url, marker, port := servePlain(t, "app.short.test")
	w := withRules(t, "[[rule]]\nhost = \"app.short.test\"\nport = %d\n", port)
	url = strings.Replace(url, "app.short.test", "stranger", 1)
	if e := w.run(t, "curl", "-sS", url).must(t); !strings.Contains(e.stdout, marker) {
		t.Errorf("got %q: %s", e.stdout, e.stderr)
	}
}

func TestWhatIsNoHostNameIsMatchedByItsLetters(t *testing.T) {
	url, marker, port := servePlain(t, "app.short.test")
	w := withRules(t, "[[rule]]\nhost = \"*.bad.test\"\nport = %d\n", port)
	url = strings.Replace(url, "app.short.test", "bad~name.bad.test", 1)
	e := w.run(t, "curl", "-sS", url)
	if e.status == 0 || strings.Contains(e.stdout, marker) || !strings.Contains(e.stderr, "bad~name.bad.test") {
		t.Errorf("status %d, stdout %q, stderr %q", e.status, e.stdout, e.stderr)
	}
}
