package rules

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"
)

// DefaultListenTimeout is how long a client may take over the handshake.
const DefaultListenTimeout = 10 * time.Second

// ClientAuth is whether clients have to show a certificate.
type ClientAuth uint8

// The choices of client_auth.
const (
	NoClientAuth       ClientAuth = iota
	OptionalClientAuth            // one that is shown is verified
	RequireClientAuth
)

// KeyPair is a certificate chain and its key, both PEM files.
type KeyPair struct{ CertFile, KeyFile string }

// Listen is one [[listen]] table: a port where the program serves, and clients have to
// speak TLS.
type Listen struct {
	// Rule has what a listen shares with rules: Pos, String, Ports, MinVersion, ALPN,
	// Timeout, AllowTruncation, MinRSABits.
	*Rule
	Address       netip.Addr // the zero Addr: any
	Pairs         []KeyPair  // the first is for clients that name no host, or one that no pair is for
	OCSPFile      string     // a response (RFC 6960) to staple to the first certificate
	ClientCAFile  string
	ClientAuth    ClientAuth
	Allow         []Client
	ProxyProtocol bool
}

// Client is who may connect: a name or a SPIFFE URI in the certificate, or its key.
// Just one of the fields is set.
type Client struct {
	Name string // DNS name, or the common name where there is no DNS name
	URI  string
	Pin  *[32]byte // SHA-256 of the SubjectPublicKeyInfo
}

// ListenFor returns the first listen that covers a local address and port, or nil. A
// server that listens on every address is covered by a listen for any of them.
func (p *Policy) ListenFor(addr netip.Addr, port uint16) *Listen {
	addr = addr.Unmap()
	for _, l := range p.Listens {
		if l.matchesPort(port) && (!l.Address.IsValid() || l.Address == addr || addr.IsUnspecified()) {
			return l
		}
	}
	return nil
}

// ListenPorts is Ports for servers: set are the ports that some listen covers.
func (p *Policy) ListenPorts() *PortMap {
	m := new(PortMap)
	for _, l := range p.Listens {
		for _, ports := range l.Ports {
			m.set(ports)
		}
	}
	return m
}

func (d *document) listen(t *table, index int) *Listen {
	f := &fields{doc: d, table: t}
	r := &Rule{Index: index, Pos: t.pos, keys: t.positions(), MinVersion: tls12, Timeout: DefaultListenTimeout, MinRSABits: DefaultRSABits,
		origin: fmt.Sprintf("listen %d, %s:%d", index, t.pos.File, t.pos.Line)}
	l := &Listen{Rule: r}
	if s, v, ok := f.str("address"); ok {
		var err error
		if l.Address, err = netip.ParseAddr(s); err != nil || l.Address.Zone() != "" {
			d.errorf(v.pos, "address is %q, expected an IP address of this machine", s)
		}
		l.Address = l.Address.Unmap()
	}
	d.ports(f, r)
	if _, given := t.keys["port"]; !given {
		d.errorf(t.pos, "listen without port, %s", expectedPort)
	}
	d.pairs(f, l)
	l.OCSPFile = d.path(f, "ocsp_file")
	l.ClientCAFile = d.path(f, "client_ca_file")
	l.ClientAuth = map[string]ClientAuth{"none": NoClientAuth, "optional": OptionalClientAuth,
		"require": RequireClientAuth}[f.choice("client_auth", "none", "optional", "require")]
	d.allow(f, l)
	d.clientAuth(f, l)
	d.version(f, r)
	d.alpn(f, r)
	if bits, ok := f.take("min_rsa_bits"); ok {
		d.rsaBits(bits, r)
	}
	d.timeout(f, r)
	r.AllowTruncation = f.booleanOr("allow_truncation", true)
	l.ProxyProtocol = f.boolean("proxy_protocol")
	f.unknown()
	return l
}

// pairs takes cert_file and key_file, each a file or a list of them.
func (d *document) pairs(f *fields, l *Listen) {
	certs, keys := d.paths(f, "cert_file"), d.paths(f, "key_file")
	switch {
	case len(certs) == 0 || len(keys) == 0:
		d.errorf(f.table.pos, "listen without cert_file and key_file, expected both")
		return
	case len(certs) != len(keys):
		d.errorf(f.table.keys["key_file"].pos, "key_file has %s and cert_file %d, expected as many", count(len(keys), "file", "files"), len(certs))
		return
	}
	for i := range certs {
		l.Pairs = append(l.Pairs, KeyPair{certs[i], keys[i]})
	}
}

// paths takes a file name or a list of them.
func (d *document) paths(f *fields, name string) []string {
	v, ok := f.table.keys[name]
	if !ok || v.kind != unstable.Array {
		if p := d.path(f, name); p != "" {
			return []string{p}
		}
		return nil
	}
	var all []string
	for _, v := range f.strings(name) {
		if v.text == "" {
			d.errorf(v.pos, "%s has an empty name, expected a file", name)
		}
		all = append(all, d.resolve(v.text))
	}
	return all
}

// allow takes the clients that may connect.
func (d *document) allow(f *fields, l *Listen) {
	for _, v := range f.strings("allow") {
		c, err := parseClient(v.text)
		if err != nil {
			d.errorf(v.pos, "allow has %q, expected a name, a URI such as \"spiffe://example.com/service\", or a pin sha256/…", v.text)
			continue
		}
		l.Allow = append(l.Allow, c)
	}
	if v, ok := f.table.keys["allow"]; ok && v.kind == unstable.Array && len(v.list) == 0 {
		d.errorf(v.pos, "allow is an empty list, expected at least one client")
	}
}

func parseClient(s string) (Client, error) {
	if strings.HasPrefix(s, "sha256/") {
		pin, ok := parsePin(s)
		if !ok {
			return Client{}, errPattern
		}
		return Client{Pin: &pin}, nil
	}
	if strings.Contains(s, "://") {
		u, err := url.Parse(s)
		if err != nil || u.Host == "" {
			return Client{}, errPattern
		}
		return Client{URI: u.String()}, nil
	}
	if s == "" || strings.ContainsAny(s, "/ ") {
		return Client{}, errPattern
	}
	return Client{Name: strings.ToLower(s)}, nil
}

// clientAuth finds what does not go together.
func (d *document) clientAuth(f *fields, l *Listen) {
	if l.ClientAuth != NoClientAuth {
		if l.ClientCAFile == "" {
			d.errorf(f.table.keys["client_auth"].pos, "client_auth without client_ca_file, expected the roots of the clients' certificates")
		}
		return
	}
	for _, name := range []string{"client_ca_file", "allow", "min_rsa_bits"} {
		if v, ok := f.table.keys[name]; ok {
			d.errorf(v.pos, "%s has no meaning with client_auth = \"none\", expected \"require\" or \"optional\"", name)
		}
	}
}
