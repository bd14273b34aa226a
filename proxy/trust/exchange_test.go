package trust

import (
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

// offered has one handshake with a server that takes only some groups, and returns what it was offered.
func offered(t *testing.T, tr *Trust, config *tls.Config, cert tls.Certificate, takes []tls.CurveID) (groups []tls.CurveID) {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	server := tls.Server(far, &tls.Config{
		Certificates: []tls.Certificate{cert}, CurvePreferences: takes,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			groups = slices.Clone(hello.SupportedCurves)
			return nil, nil
		},
	})
	done := make(chan error)
	go func() { done <- server.Handshake() }()
	config = config.Clone()
	config.CurvePreferences = nil
	addr := netip.MustParseAddrPort("192.0.2.1:443")
	tr.Offer(config, addr)
	client := tls.Client(near, config)
	client.Handshake()
	near.SetDeadline(time.Now())
	<-done
	tr.Learn(config, addr, client.ConnectionState())
	return groups
}

// A server that has no post-quantum key exchange is not offered one each time; one that has is.
func TestServersAreOfferedWhatTheyTake(t *testing.T) {
	root, err := testkit.NewAuthority("root")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := root.Issue(testkit.Leaf{Names: []string{"a.example.test"}})
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{RootCAs: root.Pool(), ServerName: "a.example.test"}
	hybrid := []tls.CurveID{tls.X25519MLKEM768}
	both := append(hybrid, classicalGroups...)
	var tr Trust
	for _, step := range []struct {
		what   string
		takes  []tls.CurveID
		offers bool
	}{
		{"the first time", classicalGroups, true},
		{"known", classicalGroups, false},
		{"it takes no other any more, and that fails", hybrid, false},
		{"after that", both, true},
		{"known to take it", both, true},
	} {
		if got := offered(t, &tr, config, cert.TLS(), step.takes); slices.Contains(got, tls.X25519MLKEM768) != step.offers {
			t.Errorf("%s: offered %v", step.what, got)
		}
	}
	offered(t, &tr, config, cert.TLS(), classicalGroups)
	for s := range tr.exchanges.classical {
		tr.exchanges.classical[s] = time.Now()
	}
	if got := offered(t, &tr, config, cert.TLS(), classicalGroups); !slices.Contains(got, tls.X25519MLKEM768) {
		t.Errorf("a minute later: offered %v", got)
	}
	blind := config.Clone()
	blind.InsecureSkipVerify = true
	tr = Trust{}
	for range 2 {
		if got := offered(t, &tr, blind, cert.TLS(), classicalGroups); !slices.Contains(got, tls.X25519MLKEM768) {
			t.Errorf("a server that is not verified: offered %v", got)
		}
	}
}
