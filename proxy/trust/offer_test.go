package trust

import (
	"crypto/tls"
	"encoding/binary"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

// hello is what a ClientHello offers.
type hello struct {
	newest         uint16 // version
	groups, shares []tls.CurveID
}

var (
	classical = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}
	hybrids   = []tls.CurveID{tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024}

	full    = hello{tls.VersionTLS13, slices.Concat(hybrids, classical), []tls.CurveID{tls.X25519MLKEM768, tls.X25519}}
	noShare = hello{tls.VersionTLS12, classical, nil}
	fromX   = hello{tls.VersionTLS13, classical, classical[:1]}
	fromP   = hello{tls.VersionTLS13, classical[1:], classical[1:2]}
	fromPQ  = hello{tls.VersionTLS13, full.groups[1:], []tls.CurveID{tls.SecP256r1MLKEM768, tls.CurveP256}}
)

// heard notes the first bytes that a server reads.
type heard struct {
	net.Conn
	first []byte
}

func (h *heard) Read(b []byte) (int, error) {
	n, err := h.Conn.Read(b)
	h.first = append(h.first, b[:n]...)
	return n, err
}

// shares are the groups of the key shares in a ClientHello that is one record (RFC 8446, sections 4.1.2 and 4.2.8).
func shares(record []byte) (groups []tls.CurveID) {
	const keyShare = 51
	length := func(b []byte) int { return int(binary.BigEndian.Uint16(b)) }
	b := record[5+4+2+32:]
	b = b[1+int(b[0]):] // the session's id
	b = b[2+length(b):] // cipher suites
	b = b[1+int(b[0]):] // compression
	b = b[2:][:length(b)]
	for len(b) >= 4 { // extensions
		kind, body := length(b), b[4:4+length(b[2:])]
		b = b[4+len(body):]
		if kind != keyShare {
			continue
		}
		for body = body[2:]; len(body) >= 4; body = body[4+length(body[2:]):] {
			groups = append(groups, tls.CurveID(length(body)))
		}
	}
	return groups
}

// lab is a rule's connections to one server, whose configuration changes.
type lab struct {
	t      *testing.T
	trust  *Trust
	client *tls.Config // of each connection
	cert   tls.Certificate
	before Offer
}

func newLab(t *testing.T) *lab {
	root, err := testkit.NewAuthority("root")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := root.Issue(testkit.Leaf{Names: []string{"a.example.test"}})
	if err != nil {
		t.Fatal(err)
	}
	return &lab{t: t, trust: &Trust{Servers: newServers()}, cert: cert.TLS(), client: &tls.Config{RootCAs: root.Pool(), ServerName: "a.example.test"}}
}

var anAddress = netip.MustParseAddrPort("192.0.2.1:443")

// connect has one handshake with a server that takes only some, and returns what it was offered and came to.
func (l *lab) connect(server *tls.Config, once Once) (hello, tls.ConnectionState) {
	l.t.Helper()
	here, there := connected(l.t)
	defer here.Close()
	defer there.Close()
	var got hello
	server = server.Clone()
	server.Certificates = []tls.Certificate{l.cert}
	server.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if got.newest == 0 { // not the second ClientHello after a HelloRetryRequest
			got.newest, got.groups = slices.Max(h.SupportedVersions), slices.Clone(h.SupportedCurves)
		}
		return nil, nil
	}
	listening := &heard{Conn: here}
	done := make(chan error)
	go func() {
		err := tls.Server(listening, server).Handshake()
		here.Close()
		done <- err
	}()
	config := l.client.Clone()
	offer := l.trust.Offer(config, anAddress, l.before, once)
	client := tls.Client(there, config)
	err := client.Handshake()
	if err == nil {
		offer.Finished(client.ConnectionState())
		client.Read(make([]byte, 1)) // which takes the tickets
	} else {
		offer.Failed()
	}
	there.Close()
	<-done
	l.before = Offer{}
	if err != nil {
		l.before = offer
	}
	got.shares = shares(listening.first)
	return got, client.ConnectionState()
}

// offers fails unless the server is offered what it should be, and the handshake ends as it should.
func (l *lab) offers(what string, server *tls.Config, want hello, well bool) {
	l.t.Helper()
	got, state := l.connect(server, false)
	if !reflect.DeepEqual(got, want) || state.HandshakeComplete != well {
		l.t.Errorf("%s: offered %+v, not %+v; a good end: %v", what, got, want, state.HandshakeComplete)
	}
}

func takes(groups ...tls.CurveID) *tls.Config { return &tls.Config{CurvePreferences: groups} }

var (
	old     = &tls.Config{MaxVersion: tls.VersionTLS12}
	oldest  = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}
	onlyNew = &tls.Config{MinVersion: tls.VersionTLS13}
	all     = &tls.Config{}
)

func (l *lab) server() *Server { return l.trust.Servers.At(l.client.ServerName, anAddress) }

// A server is offered what it chose when it had the choice.
func TestServersAreOfferedWhatTheyTake(t *testing.T) {
	for what, c := range map[string]struct {
		server *tls.Config
		second hello
	}{
		"X25519":            {takes(classical...), fromX},
		"P-256":             {takes(tls.CurveP256, tls.CurveP384), fromP},
		"ML-KEM":            {all, full},
		"ML-KEM with P-256": {takes(tls.SecP256r1MLKEM768), fromPQ},
		"ML-KEM alone":      {takes(tls.X25519MLKEM768), full},
		"TLS 1.2":           {old, noShare},
	} {
		t.Run(what, func(t *testing.T) {
			l := newLab(t)
			l.offers("the first time", c.server, full, true)
			l.offers("the second time", c.server, c.second, true)
			l.offers("the third time", c.server, c.second, true)
			l.server().until = time.Now()
			l.offers("when that was long ago", c.server, full, true)
			l.server().left = 0
			l.offers("when that was many connections ago", c.server, full, true)
			l.offers("and again", c.server, c.second, true)
		})
	}
}

// A server that has learned better is found out, as soon as what it was known for is old.
func TestServersThatLearnBetterGetIt(t *testing.T) {
	for _, before := range []*tls.Config{old, takes(classical...)} {
		l := newLab(t)
		l.connect(before, false)
		l.server().until = time.Now()
		if _, state := l.connect(all, false); state.Version != tls.VersionTLS13 || state.CurveID != tls.X25519MLKEM768 {
			t.Errorf("it gets %s with %v", tls.VersionName(state.Version), state.CurveID)
		}
		l.offers("known for that", all, full, true)
	}
}

// One failure, and nothing is left out: neither when the connection is made once more nor, if that was better, for
// a good while.
func TestServersThatRefuseLessAreOfferedAll(t *testing.T) {
	for what, c := range map[string]struct {
		before, after *tls.Config
		second        hello
	}{
		"X25519, then ML-KEM alone": {takes(classical...), takes(hybrids...), fromX},
		"TLS 1.2, then 1.3 alone":   {old, onlyNew, noShare},
	} {
		t.Run(what, func(t *testing.T) {
			l := newLab(t)
			l.offers("the first time", c.before, full, true)
			l.offers("the second time", c.after, c.second, false)
			l.offers("once more", c.after, full, true)
			for range 3 { // of servers that change by turns
				l.offers("later", c.before, full, true)
			}
			l.server().wary = time.Now()
			l.offers("much later", c.before, full, true)
			l.offers("and then", c.before, c.second, true)
		})
	}
	l := newLab(t)
	l.offers("the first time", old, full, true)
	l.offers("when it refuses all", oldest, noShare, false)
	l.offers("once more", oldest, full, false)
	l.offers("when it takes that again", old, full, true)
	l.offers("and then", old, noShare, true)
}

func TestWhatCannotBeMadeOnceMoreOffersAll(t *testing.T) {
	l := newLab(t)
	l.connect(old, false)
	if got, _ := l.connect(old, true); !reflect.DeepEqual(got, full) {
		t.Errorf("offered %+v", got)
	}
	l.offers("another connection", old, noShare, true)
}

// Nobody can make a client offer less but the server that is verified.
func TestNothingIsLearnedFromWhoIsNotVerified(t *testing.T) {
	for what, change := range map[string]func(*tls.Config){
		"verification is off": func(c *tls.Config) { c.InsecureSkipVerify = true },
		"unknown issuer":      func(c *tls.Config) { c.RootCAs = nil },
		"wrong name":          func(c *tls.Config) { c.ServerName = "b.example.test" },
		"too old":             func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 },
	} {
		l := newLab(t)
		change(l.client)
		l.connect(old, false)
		if l.server().takes != (choice{}) {
			t.Errorf("%s: %+v was learned", what, l.server().takes)
		}
		if got, _ := l.connect(old, false); !reflect.DeepEqual(got.groups, full.groups) || got.newest != tls.VersionTLS13 {
			t.Errorf("%s: the second time it is offered %+v", what, got)
		}
	}
}

// Up to TLS 1.2 everybody can read whose certificate the client has.
func TestClientCertificatesAreNotShownForWantOfTLS13(t *testing.T) {
	l := newLab(t)
	l.trust.client = &l.cert
	l.offers("the first time", old, full, true)
	l.offers("the second time", old, fromX, true)
}

// What one server has chosen is not known of another, and not by other rules.
func TestServersAreKnownApart(t *testing.T) {
	l := newLab(t)
	l.connect(old, false)
	servers := l.trust.Servers
	for _, other := range []*Server{
		servers.At("b.example.test", anAddress), servers.At(l.client.ServerName, netip.MustParseAddrPort("192.0.2.1:444")),
		servers.At(l.client.ServerName, netip.MustParseAddrPort("192.0.2.2:443")), newServers().At(l.client.ServerName, anAddress),
	} {
		if _, has := other.Get(""); has || other.takes != (choice{}) {
			t.Errorf("%v has a session: %v; and takes %+v", other.key, has, other.takes)
		}
	}
}
