package trust

import (
	"crypto/tls"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// server is one that a rule's connections go to.
type server struct {
	name string
	addr netip.AddrPort
}

// exchanges knows the servers that have not taken a post-quantum key exchange although one was offered.
// A key share for it costs as much as the rest of a ClientHello, and is of no use to them. What is remembered
// is authenticated, as a finished handshake is, and for a short time only: a server that learns better is
// asked again. The zero value knows none.
type exchanges struct {
	mu        sync.Mutex
	classical map[server]time.Time // until when
}

// classicalTime is for how long a server is not asked again.
const classicalTime = time.Minute

// classicalGroups are those of crypto/tls that are not post-quantum.
var classicalGroups = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}

// Offer leaves out of a connection's configuration the key exchanges that the server at addr would not
// take. The same configuration is for Learn, once its handshake is finished.
func (t *Trust) Offer(config *tls.Config, addr netip.AddrPort) {
	e := &t.exchanges
	e.mu.Lock()
	defer e.mu.Unlock()
	if time.Now().Before(e.classical[server{config.ServerName, addr}]) {
		config.CurvePreferences = classicalGroups
	}
}

// Learn remembers what the end of a handshake says of the server: of one that failed state is not complete.
func (t *Trust) Learn(config *tls.Config, addr netip.AddrPort, state tls.ConnectionState) {
	e, s := &t.exchanges, server{config.ServerName, addr}
	e.mu.Lock()
	defer e.mu.Unlock()
	asked := config.CurvePreferences == nil
	classical := state.Version < tls.VersionTLS13 || slices.Contains(classicalGroups, state.CurveID)
	switch {
	case !state.HandshakeComplete, asked && !classical:
		delete(e.classical, s)
		return
	case !asked, config.InsecureSkipVerify:
		return
	case e.classical == nil, len(e.classical) >= sessionsPerRule:
		e.classical = make(map[server]time.Time)
	}
	e.classical[s] = time.Now().Add(classicalTime)
}
