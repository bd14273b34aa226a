package integration

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"tlswrap/tests/testkit"
)

// tap reads what a client sends as it comes, and counts.
type tap struct {
	net.Conn
	seen *tapped
}

// tapped is what came on all connections of a server.
type tapped struct {
	mu     sync.Mutex
	secret []byte
	conns  int
	leaks  []string
}

func (t tap) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	if bytes.Contains(b[:n], t.seen.secret) {
		t.seen.mu.Lock()
		t.seen.leaks = append(t.seen.leaks, fmt.Sprintf("%.60q", b[:n]))
		t.seen.mu.Unlock()
	}
	return n, err
}

// serveTapped serves TLS and looks at what came on the wire.
func serveTapped(t *testing.T, address, secret string, config *tls.Config) (uint16, *tapped) {
	t.Helper()
	seen := &tapped{secret: []byte(secret)}
	server, err := testkit.Serve(address, nil, func(c net.Conn) {
		seen.mu.Lock()
		seen.conns++
		seen.mu.Unlock()
		c = tap{c, seen}
		if config != nil {
			c = tls.Server(c, config)
		}
		io.Copy(io.Discard, c)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server.Port(), seen
}

// A thread of the program changes the address or the descriptor while the call is decided about. What was looked
// at is what counts: a host with a rule is not reached past it.
func TestAddressOrDescriptorThatAnotherThreadChangesLeaksNothing(t *testing.T) {
	config := serverConfig(t, testkit.Leaf{Names: []string{"other.example.test"}})
	const seconds = "2"
	all := []string{"address", "family", "close", "dup", "unix"}
	for kind, of := range map[string]struct{ compiled, wrapped, races []string }{
		// What another thread puts in the place of the shim's own descriptors is beyond the shim.
		"preloaded": {kinds["preloaded"], nil, []string{"address", "family", "close"}},
		"notified":  {kinds["notified"], nil, all},
		"enforced":  {kinds["preloaded"], []string{"--enforce"}, all},
	} {
		race := compile(t, "race.c", of.compiled...)
		for _, what := range of.races {
			for _, action := range []string{"deny", "tls"} {
				t.Run(kind+"/"+what+"/"+action, func(t *testing.T) {
					t.Parallel()
					secret := newMarker()
					covered, seen := serveTapped(t, "127.0.0.2:0", secret, config)
					plain, _ := serveTapped(t, "127.0.0.3:0", secret, nil)
					w := withRules(t, "[[rule]]\nhost = \"other.example.test\"\nport = %d\naction = %q\n", covered, action)
					w.flags = append(append(w.flags, "-q"), of.wrapped...)
					e := w.run(t, race, what, fmt.Sprint(covered), fmt.Sprint(plain), secret, seconds)
					if e.status != 0 {
						t.Errorf("status %d, stdout %q, stderr %q", e.status, e.stdout, e.stderr)
					}
					t.Log(e.stdout)
					seen.mu.Lock()
					defer seen.mu.Unlock()
					if len(seen.leaks) > 0 {
						t.Errorf("%d times plaintext came: %s", len(seen.leaks), seen.leaks[0])
					}
					if action == "deny" && seen.conns > 0 {
						t.Errorf("%d connections came that a rule denies", seen.conns)
					}
					if action == "tls" && what == "address" && seen.conns == 0 {
						t.Error("no connection came")
					}
				})
			}
		}
	}
}
