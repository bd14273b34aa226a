package record

import (
	"crypto/tls"
	"net"
	"testing"
)

// warned is a server that begins with a warning, as some do that do not know the name.
type warned struct {
	net.Conn
	said bool
}

func (w *warned) Write(b []byte) (int, error) {
	if !w.said {
		const warning, unrecognizedName = 1, 112
		w.said = true
		w.Conn.Write([]byte{byte(alertType), 3, 3, 0, alertLen, warning, unrecognizedName})
	}
	return w.Conn.Write(b)
}

// What crypto/tls does not look for, where a client has not offered TLS 1.3, is found, and what cannot be seen
// is taken for it.
func TestAServersLaterVersionIsSeen(t *testing.T) {
	client := testCase{tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}.clientConfig()
	server := testCase{tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}.serverConfig()
	server.SetSessionTicketKeys([][32]byte{{1}})
	later := server.Clone()
	later.MaxVersion = tls.VersionTLS13
	for _, c := range []struct {
		what    string
		server  *tls.Config
		newest  uint16 // that the client offers
		warns   bool
		resumed bool
		knows   bool
	}{
		{what: "TLS 1.2", server: server, newest: tls.VersionTLS12},
		{what: "TLS 1.2, resumed", server: server, newest: tls.VersionTLS12, resumed: true},
		{what: "TLS 1.3, resumed with 1.2", server: later, newest: tls.VersionTLS12, resumed: true, knows: true},
		{what: "TLS 1.2 after a warning", server: server, newest: tls.VersionTLS12, warns: true, resumed: true, knows: true},
		{what: "TLS 1.3 that was offered", server: later, newest: tls.VersionTLS13},
	} {
		a, b := socketPair(t)
		if c.warns {
			b = &warned{Conn: b}
		}
		config := client.Clone()
		config.MaxVersion = c.newest
		ours, theirs := Client(newReadAhead(a), config), tls.Server(b, c.server)
		done := make(chan error, 1)
		go func() { done <- theirs.Handshake() }()
		if err := ours.Handshake(); err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		if err := <-done; err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		if resumed := ours.ConnectionState().DidResume; resumed != c.resumed || ours.PeerKnowsLater() != c.knows {
			t.Errorf("%s: resumed: %v; knows a later version: %v", c.what, resumed, ours.PeerKnowsLater())
		}
	}
}
