// Package trust makes rules into what connections go by: the roots, pins and client certificates of
// a rule, the certificates and demands of a listen, and what is known of servers: TLS sessions, and what
// they choose. It holds the private keys of client certificates and of services; those of programs of libtls are
// proxy/libtls/engine's.
//
// Whether a chain and a name are good crypto/tls decides, by the tls.Config that is made here. What
// else is demanded this package decides, at the end of the handshake: pins, the bits of RSA keys,
// stapled revocation, a protocol by ALPN, and which clients may come. A connection gets its Trust
// once, and does not look at a policy again. The worker makes policies, which do not change; the
// fronts use them.
package trust

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"tlswrap/proxy/record"
	"tlswrap/rules"
)

// Policy is what the worker goes by: the rules, and for each the credentials and
// roots that it names. It is immutable; a reload makes a new one.
type Policy struct {
	Rules    *rules.Policy
	Trust    map[*rules.Rule]*Trust
	services map[*rules.Listen]*Service
	URLHosts map[bool][]rules.HostPattern // that http URLs lead to and, of true, https URLs
	Files    []string                     // that it was made from
	Warnings []string                     // what the rules ask for and do not get
}

// Trust is what one rule trusts and presents.
type Trust struct {
	caFiles  []string
	extra    [][]byte // DER certificates beside the system's
	client   *tls.Certificate
	Servers  *Servers
	identity [sha256.Size]byte // of everything that a TLS session's validity rests on

	once  sync.Once
	roots *x509.CertPool
	err   error
}

// New reads the files that the rules name. old, which may be nil, lends what it
// knows of servers to the rules that did not change. Where a listen's files are of no
// use that is no error, since most programs do not listen: see Broken.
func New(r *rules.Policy, extraCAs []string, old *Policy) (*Policy, error) {
	p := &Policy{Rules: r, Trust: make(map[*rules.Rule]*Trust), services: make(map[*rules.Listen]*Service)}
	p.URLHosts = map[bool][]rules.HostPattern{false: r.URLHosts(false), true: r.URLHosts(true)}
	if r.Path != "" {
		p.Files = append(p.Files, r.Path)
	}
	// First by themselves: a file that every rule trusts is one mistake.
	var common []rules.File
	for _, f := range extraCAs {
		common = append(common, rules.File{Key: "--ca", Path: f})
	}
	common = append(common, r.CA())
	for _, f := range common {
		if f.Path == "" {
			continue
		}
		if _, err := f.Certificates(); err != nil {
			return nil, err
		}
	}
	var failed []error
	for _, rule := range r.Rules {
		if rule.Action != rules.TLS {
			continue
		}
		t, err := newTrust(rule, slices.Clone(common))
		if err != nil {
			failed = append(failed, err)
			continue
		}
		for _, f := range append(t.caFiles, rule.CertFile, rule.KeyFile) {
			if f != "" && !slices.Contains(p.Files, f) {
				p.Files = append(p.Files, f)
			}
		}
		p.Trust[rule] = t
	}
	p.newServices(old)
	broken := p.Broken(nil)
	if len(failed) > 0 {
		return nil, errors.Join(append(failed, broken)...)
	}
	p.adoptServers(old)
	if r.KernelTLS {
		p.warnOfKernel()
	}
	if broken != nil {
		for line := range strings.Lines(broken.Error()) {
			p.Warnings = append(p.Warnings, "a [[listen]] is of no use, and to listen there is refused: "+strings.TrimSuffix(line, "\n"))
		}
	}
	return p, nil
}

func (p *Policy) warnOfKernel() {
	versions, why := record.KernelTLS()
	switch {
	case why == nil:
	case len(versions) == 0:
		p.Warnings = append(p.Warnings, "kernel_tls is of no use here: "+why.Error())
	default:
		p.Warnings = append(p.Warnings, "kernel_tls is of use for TLS 1.2 alone: "+why.Error())
	}
}

func (p *Policy) adoptServers(old *Policy) {
	known := make(map[[sha256.Size]byte]*Servers)
	if old != nil {
		for _, t := range old.Trust {
			known[t.identity] = t.Servers
		}
	}
	for _, t := range p.Trust {
		if t.Servers = known[t.identity]; t.Servers == nil {
			t.Servers = newServers()
			known[t.identity] = t.Servers
		}
	}
}

// HasURLHosts reports whether a rule covers what URLs lead to.
func (p *Policy) HasURLHosts() bool { return len(p.URLHosts[false])+len(p.URLHosts[true]) > 0 }

func newTrust(rule *rules.Rule, caFiles []rules.File) (*Trust, error) {
	t := &Trust{}
	for _, f := range append(caFiles, rule.CA()) {
		if f.Path == "" || slices.Contains(t.caFiles, f.Path) {
			continue
		}
		certs, err := f.Certificates()
		if err != nil {
			return nil, err
		}
		t.caFiles = append(t.caFiles, f.Path)
		for _, c := range certs {
			t.extra = append(t.extra, c.Raw)
		}
	}
	if rule.CertFile != "" {
		c, err := readPair(rule.ClientPair())
		if err != nil {
			return nil, err
		}
		t.client = c
	}
	// A TLS session is good only for the same verification and the same credentials.
	h := sha256.New()
	fmt.Fprintf(h, "%q %x %d %q %t %q %d %t %x", rule.ServerName, rule.Pins, rule.MinVersion, rule.ALPN, rule.AllowNoALPN,
		rule.AllowLegacy, rule.MinRSABits, rule.VerifyNone, t.extra)
	if t.client != nil {
		fmt.Fprintf(h, " %x", t.client.Certificate)
	}
	h.Sum(t.identity[:0])
	return t, nil
}

// readPair reads a certificate and its key.
func readPair(p rules.Pair) (*tls.Certificate, error) {
	certPEM, keyPEM, _, err := p.Read()
	if err != nil {
		return nil, err
	}
	c, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, &rules.Error{Pos: p.Cert.Pos, Msg: fmt.Sprintf("cert_file %s with the key %s: %v", p.Cert.Path, p.Key.Path, err)}
	}
	return &c, nil
}

// pool returns the roots that the rule trusts: the system's and its own.
func (t *Trust) pool() (*x509.CertPool, error) {
	t.once.Do(func() {
		system, err := x509.SystemCertPool()
		if err != nil {
			system = x509.NewCertPool()
			if len(t.extra) == 0 {
				t.err = fmt.Errorf("reading the system's root certificates: %w", err)
				return
			}
		}
		for _, der := range t.extra {
			c, err := x509.ParseCertificate(der)
			if err != nil {
				t.err = err
				return
			}
			system.AddCert(c)
		}
		t.roots = system
	})
	return t.roots, t.err
}

// WarmRoots begins to read the system's roots when the first program shows that it is
// about to connect: that takes longer than everything else at a start.
var WarmRoots = sync.OnceFunc(func() { go x509.SystemCertPool() })

// Service returns what serves on a local address, or nil.
func (p *Policy) Service(local netip.AddrPort) *Service {
	if !local.IsValid() {
		return nil
	}
	return p.services[p.Rules.ListenFor(local.Addr(), local.Port())]
}
