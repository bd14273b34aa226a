package proxy

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tlswrap/proxy/begin"
	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

// Rules that cannot be read any more are told of to whoever still runs a program: with one that has ended, a
// file that was made for it may have gone.
func TestRulesThatAreNotReloadedAreToldOfWhileAProgramRuns(t *testing.T) {
	w, address := startWorker(t, "default = \"pass\"\n")
	said := make(map[string]*run)
	dir := t.TempDir()
	for _, name := range []string{"runs", "ended"} {
		file, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		var token wire.Token
		rand.Read(token[:])
		if _, err := begin.Greet(address, anybody, begin.Hello{Token: token, Stderr: file}); err != nil {
			t.Fatal(err)
		}
		w.mu.Lock()
		said[name] = w.runs[token]
		w.mu.Unlock()
	}
	said["ended"].Left(int32(os.Getpid()))
	w.config.Load = func() (*rules.Policy, error) { return nil, errors.New("--ca cannot be read") }
	w.reload()
	text := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for end := time.Now().Add(10 * time.Second); text("runs") == "" && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if want := "tlswrap: the changed rules are not used, the old ones stay: --ca cannot be read\n"; text("runs") != want {
		t.Errorf("to one that runs: %q, want %q", text("runs"), want)
	}
	if got := text("ended"); strings.Contains(got, "rules") {
		t.Errorf("to one that has ended: %q", got)
	}
}
