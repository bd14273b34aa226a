package trust

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tlswrap/rules"
	"tlswrap/tests/testkit"
)

// A listen whose files are of no use serves nobody, and does not stand in the way of the others. A reload is
// told of one that was of use before.
func TestAListenWhoseFilesAreOfNoUse(t *testing.T) {
	root, err := testkit.NewAuthority("root")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	issue := func(name string) {
		t.Helper()
		cert, err := root.Issue(testkit.Leaf{Names: []string{"db.test"}})
		if err == nil {
			_, _, err = cert.WriteFiles(dir, name)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	lose := func(name string) {
		t.Helper()
		if err := os.Remove(filepath.Join(dir, name+".key")); err != nil {
			t.Fatal(err)
		}
	}
	load := func(old *Policy, second uint16) *Policy {
		t.Helper()
		const listens = "[[listen]]\nport = 1\ncert_file = \"one.pem\"\nkey_file = \"one.key\"\n" +
			"[[listen]]\nport = %d\ncert_file = \"two.pem\"\nkey_file = \"two.key\"\n"
		r, err := rules.Parse(filepath.Join(dir, "rules.toml"), fmt.Appendf(nil, listens, second))
		if err != nil {
			t.Fatal(err)
		}
		p, err := New(r, nil, old)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	broken := func(p, before *Policy, want ...string) {
		t.Helper()
		err := p.Broken(before)
		if (err != nil) != (len(want) > 0) {
			t.Errorf("broken: %v, want %q", err, want)
			return
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), "key_file cannot be read: open "+filepath.Join(dir, w)) {
				t.Errorf("broken: %v, want %q", err, w)
			}
		}
	}
	issue("one")
	issue("two")
	good := load(nil, 2)
	broken(good, nil)
	lose("two")
	half := load(nil, 2)
	broken(half, nil, "two.key")
	broken(half, good, "two.key")
	broken(load(half, 3), half) // as it was before, if at another port
	at := func(p *Policy, port uint16) *Service {
		return p.Service(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port))
	}
	if s := at(half, 1); s.Broken != nil || s.Config == nil {
		t.Errorf("the good one: %v", s.Broken)
	}
	if s := at(half, 2); s.Broken == nil || s.Config != nil {
		t.Error("the other one serves")
	}
	if len(half.Warnings) != 1 || !strings.Contains(half.Warnings[0], "two.key") {
		t.Errorf("warnings: %q", half.Warnings)
	}
	lose("one")
	broken(load(half, 2), half, "one.key")
	broken(load(nil, 2), nil, "one.key", "two.key")
	issue("one")
	issue("two")
	broken(load(half, 2), nil)
}
