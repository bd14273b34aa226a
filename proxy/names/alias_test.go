package names

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// openHosts opens a file like /etc/hosts until the test ends.
func openHosts(t *testing.T, text string) int {
	t.Helper()
	name := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return int(f.Fd())
}

func TestShortNamesStandForNamesWithRules(t *testing.T) {
	l := newLab(t, `
[[rule]]
host = "app.kit"
[[rule]]
host = "app.other"
verify = "none"
[[rule]]
host = "slow.kit"
[[rule]]
host = "*.x.test"
[[rule]]
host = "own.test"
[[rule]]
host = "own.test.kit"
`)
	l.Lookup = resolves(map[string]string{
		"app.kit": "192.0.2.1", "app.other": "192.0.2.2", "slow.kit": "", "db.x.test": "192.0.2.3", "broken.x.test": "",
		"own.test.kit": "192.0.2.4", "deep.a.x.test": "192.0.2.10",
	})
	l.domains = func() []string { return []string{"elsewhere.test", "a.x.test"} }
	file := openHosts(t, `
192.0.2.1 Twin # twin.x.test
192.0.2.5 nick a.x.test. # a comment
192.0.2.6 both app.kit app.other
192.0.2.7 alone
192.0.2.8 broken
`)
	const none = ""
	for _, c := range []struct {
		name, ip string
		hosts    int
		want     string // what it stands for
		refused  string // or a part of the sentence
	}{
		{"app", "192.0.2.1", -1, "app.kit", none},                      // completed
		{"APP.", "::ffff:192.0.2.1", -1, "app.kit", none},              // the same
		{"app", "192.0.2.2", -1, "app.other", none},                    // by another domain
		{"app", "192.0.2.9", -1, none, none},                           // another host
		{"ap", "192.0.2.1", -1, "ap", none},                            // shares the address, that is all
		{"twin", "192.0.2.1", file, "twin", none},                      // the same
		{"db", "192.0.2.3", -1, "db.x.test", none},                     // below a wildcard
		{"deep", "192.0.2.10", -1, "deep.a.x.test", none},              // by a search domain below it
		{"db.x.test", "192.0.2.3", -1, "db.x.test", none},              // itself
		{"own.test", "192.0.2.4", -1, "own.test", none},                // has a rule of its own
		{"nick", "192.0.2.5", file, "a.x.test", none},                  // on a line
		{"nick", "192.0.2.1", file, "nick", none},                      // that is not about this address
		{"both", "192.0.2.6", file, none, "app.kit and for app.other"}, // on a line with two
		{"slow", "192.0.2.9", -1, none, "slow.kit"},
		{"broken", "192.0.2.9", -1, none, "broken.x.test"},
		{"broken", "192.0.2.8", file, none, none}, // the file answers, and not a domain's server
		{"alone", "192.0.2.7", file, none, none},
		{"bad~name.x.test", "192.0.2.7", -1, "bad~name.x.test", none},
		{"bad~name", "192.0.2.7", -1, none, "no host name"},
		{"\\097pp.kit", "192.0.2.1", -1, none, "no host name"},
	} {
		shown, err := l.shown(c.name, netip.MustParseAddr(c.ip), 0, c.hosts)
		if c.refused != none {
			if err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%s at %s: got %v, %v", c.name, c.ip, shown, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s at %s: %v", c.name, c.ip, err)
			continue
		}
		id, _ := l.table.Lookup(shown.Unmap())
		if id.Name != c.want {
			t.Errorf("%s at %s stands for %q, want %q", c.name, c.ip, id.Name, c.want)
		}
	}
}

func TestHostsFilesAreReadAnewWhenTheyChange(t *testing.T) {
	var files hostsFiles
	name := filepath.Join(t.TempDir(), "hosts")
	ip := netip.MustParseAddr("192.0.2.1")
	for _, want := range []string{"a", "longer"} {
		if err := os.WriteFile(name, []byte("192.0.2.1 "+want), 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		h, err := files.read(int(f.Fd()))
		f.Close()
		if err != nil || !h.answers(want, ip) {
			t.Errorf("got %v, %v, want %s", h, err, want)
		}
	}
	r, p, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer p.Close()
	if h, err := files.read(int(r.Fd())); h != nil || err != nil {
		t.Errorf("a pipe: got %v, %v", h, err)
	}
}
