package engine

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"sync"
)

// Config is an immutable configuration: what tls_configure has read, or a client's at its
// connect. It may be used by any number of connections at once.
type Config struct {
	settings
	shares   *Shares
	share    *share         // whose value it is
	roots    *x509.CertPool // the system's, or
	anchors  *anchors       // those that were set
	crls     []*revocationList
	revokes  bool // lists were set: a certificate without one is refused
	pairs    []tls.Certificate
	versions versions
	ciphers  cipherChoice
	curves   []tls.CurveID
	alpn     []string
	trust    sum // of CA certificates and revocation lists
	server   *tls.Config
}

// Release undoes one Store.Config.
func (c *Config) Release() { c.shares.release(c.share) }

// load makes the configuration of its settings. What it is made of is not kept: a share is, of what
// was made.
func (c *Config) load() error {
	if c.has(flagForeignKey) {
		return errors.New("private keys that an OpenSSL engine of the program's would use are not supported by tlswrap: crypto/tls never asks it")
	}
	steps := []func() error{c.loadProtocols, c.loadPairs, c.loadRoots, c.loadCRLs}
	if c.has(flagServer) {
		steps = append(steps, c.loadServer)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	c.from, c.held = nil, nil
	return nil
}

// loaded is what was loaded of a kind, or nil.
func (c *Config) loaded(kind Kind) []byte { return c.from.things[kind].bytes() }

func (c *Config) loadProtocols() error {
	var err error
	c.versions = versionsOf(c.protocols)
	ciphers := c.loaded(kindCiphers)
	if ciphers == nil && c.has(flagRessl) {
		ciphers = []byte("HIGH") // the default of 2014 had suites without forward secrecy
	}
	if c.ciphers, err = parseCiphers(ciphers); err != nil {
		return err
	}
	if c.has(flagNoECDHE) && c.has(flagServer) {
		c.ciphers = c.ciphers.withoutECDHE()
	}
	if c.has(flagRessl) {
		c.ciphers.level = 0 // there were none in 2014
	}
	if c.curves, err = parseCurves(c.loaded(kindCurves)); err != nil {
		return err
	}
	c.alpn, err = parseALPN(c.loaded(kindALPN))
	return err
}

// loadPairs puts certificates and keys together. A server's first is not optional.
func (c *Config) loadPairs() error {
	if c.has(flagRessl) && !c.has(flagServer) {
		return nil // in 2014 clients presented none
	}
	for i, k := range c.from.keypairs {
		required := i > 0 || c.has(flagServer)
		if !required && k.cert == nil && k.key == nil {
			continue
		}
		ca := c.from.things[kindCA]
		if !c.verifies() {
			ca = nil
		}
		name := sumOf("pair", k.cert.name(), k.key.name(), k.staple.name(), ca.name())
		size := len(k.cert.bytes()) + len(k.key.bytes()) + len(k.staple.bytes())
		value, err := c.shares.part(c.share, name, size, func(s *share) error {
			pair, err := newPair(k)
			if err == nil {
				completeChain(&pair, ca.bytes())
			}
			s.value = pair
			return err
		})
		if err != nil {
			return err
		}
		pair := value.(tls.Certificate)
		if !c.presentable(pair) {
			return errors.New("failed to load certificate")
		}
		c.pairs = append(c.pairs, pair)
	}
	return nil
}

// presentable reports whether a pair is as strong as the security level demands (ssl_security_cert in
// ssl/t1_lib.c).
func (c *Config) presentable(pair tls.Certificate) bool {
	for _, der := range pair.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil || !c.strong(cert) || c.ciphers.level > 0 && isWeakSignature(cert) && !isRoot(cert) {
			return false
		}
	}
	return true
}

func newPair(k keypair) (tls.Certificate, error) {
	var pair tls.Certificate
	if k.cert == nil {
		return pair, errors.New("private/public key mismatch")
	}
	chain, err := parseChain(k.cert.bytes())
	if err != nil {
		return pair, errors.New("failed to load certificate: " + err.Error())
	}
	for _, cert := range chain {
		pair.Certificate = append(pair.Certificate, cert.Raw)
	}
	pair.Leaf = chain[0]
	if k.key == nil {
		return pair, errors.New("private/public key mismatch")
	}
	if pair.PrivateKey, err = parseKey(k.key.bytes()); err != nil {
		return pair, err
	}
	public, ok := pair.PrivateKey.(crypto.Signer).Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(pair.Leaf.PublicKey) {
		return pair, errors.New("private/public key mismatch")
	}
	pair.OCSPStaple = slices.Clone(k.staple.bytes())
	return pair, nil
}

// parseChain reads the certificates of a PEM file, the leaf first.
func parseChain(data []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for block := range blocks(data) {
		if !isCertificate(block) {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("error:0480000D:PEM routines::ASN1 lib (" + err.Error() + ")")
		}
		chain = append(chain, cert)
	}
	if chain == nil {
		return nil, errors.New("error:0480006C:PEM routines::no start line")
	}
	return chain, nil
}

func isCertificate(b *pem.Block) bool {
	return b.Type == "CERTIFICATE" || b.Type == "X509 CERTIFICATE" || b.Type == "TRUSTED CERTIFICATE"
}

// certificateIn is a block's certificate without bytes behind it, which OpenSSL does not look at either. In a
// TRUSTED CERTIFICATE they say what it is not trusted for, so that one has to be without.
func certificateIn(block *pem.Block) []byte {
	if block.Type == "TRUSTED CERTIFICATE" {
		return block.Bytes
	}
	d := readDER(block.Bytes)
	return d.whole()
}

func blocks(data []byte) func(yield func(*pem.Block) bool) {
	return func(yield func(*pem.Block) bool) {
		for {
			var block *pem.Block
			if block, data = pem.Decode(data); block == nil || !yield(block) {
				return
			}
		}
	}
}

// at is c for a connection that begins when the program's configuration has these settings: libtls looks at
// some of them only then.
func (c *Config) at(now flag) *Config {
	const late = flagVerifyCert | flagVerifyName | flagRequireStapling
	if (c.flags^now)&late == 0 && now&flagVerifyTime != 0 {
		return c
	}
	changed := *c
	changed.flags = c.flags&^late | now&late
	if now&flagVerifyTime == 0 {
		changed.flags |= flagStapleUnread
	}
	return &changed
}

// verifies reports whether the peer's chain is looked at.
func (c *Config) verifies() bool {
	if !c.has(flagServer) {
		return c.has(flagVerifyCert)
	}
	return c.has(flagVerifyCert) && c.has(flagVerifyClient|flagVerifyClientOptional)
}

// systemRoots are the same for all. Who has none trusts nobody.
var systemRoots = sync.OnceValue(func() *x509.CertPool {
	pool, err := x509.SystemCertPool()
	if err != nil {
		return x509.NewCertPool()
	}
	return pool
})

// loadRoots makes the pool: what was set, or else what OpenSSL would take by default.
func (c *Config) loadRoots() error {
	ca, path, env := c.from.things[kindCA], c.from.things[kindCAPath], c.from.things[kindCAEnv]
	c.trust = sumOf("trust", ca.name(), path.name(), env.name(), c.from.things[kindCRL].name())
	if !c.verifies() {
		c.anchors = &anchors{} // who is told to verify later trusts nobody
		return nil
	}
	if ca == nil && path == nil && env == nil {
		c.roots = systemRoots()
		return nil
	}
	name := sumOf("roots", ca.name(), path.name(), env.name())
	size := len(ca.bytes()) + len(path.bytes()) + len(env.bytes())
	value, err := c.shares.part(c.share, name, size, func(s *share) error {
		all := &anchors{}
		s.value = all
		if ca != nil && all.add(ca.bytes()) == 0 {
			return errors.New("ssl verify memory setup failure")
		}
		all.add(env.bytes())
		all.add(path.bytes())
		return nil
	})
	if err != nil {
		return err
	}
	c.anchors = value.(*anchors)
	if c.shares.isKept(ca, env) {
		c.shares.keep(File{}, c.share.parts[len(c.share.parts)-1])
	}
	return nil
}

func (c *Config) loadCRLs() error {
	data := c.from.things[kindCRL]
	if data == nil {
		return nil
	}
	value, err := c.shares.part(c.share, sumOf("lists", data.name()), len(data.bytes()), func(s *share) error {
		lists, err := parseLists(data.bytes())
		s.value = lists
		return err
	})
	if err != nil {
		return err
	}
	c.crls, c.revokes = value.([]*revocationList), true
	return nil
}

// completeChain has a leaf that came without its issuers presented with those among the CA
// certificates, as OpenSSL does it (ssl_add_cert_chain).
func completeChain(pair *tls.Certificate, ca []byte) {
	if len(pair.Certificate) != 1 {
		return
	}
	known, _ := parseChain(ca)
	for last := pair.Leaf; last != nil && !bytes.Equal(last.RawSubject, last.RawIssuer); {
		at := slices.IndexFunc(known, func(ca *x509.Certificate) bool {
			return bytes.Equal(ca.RawSubject, last.RawIssuer) && last.CheckSignatureFrom(ca) == nil
		})
		if last = nil; at >= 0 {
			last = known[at]
			pair.Certificate = append(pair.Certificate, last.Raw)
			known = slices.Delete(known, at, at+1)
		}
	}
}

// common is what a client and a server have alike. The peer's certificate is verified by us.
func (c *Config) common() *tls.Config {
	return &tls.Config{
		MinVersion: c.versions.least, MaxVersion: c.versions.most,
		CipherSuites: c.ciphers.suites, CurvePreferences: c.curves, NextProtos: c.alpn,
		InsecureSkipVerify: true, DynamicRecordSizingDisabled: true,
	}
}

func (c *Config) loadServer() error {
	if len(c.pairs) == 0 {
		return errors.New("private/public key mismatch")
	}
	c.server = c.common()
	c.server.GetCertificate = c.certificateFor
	switch {
	case c.has(flagVerifyClient):
		c.server.ClientAuth = tls.RequireAnyClientCert
	case c.has(flagVerifyClientOptional):
		c.server.ClientAuth = tls.RequestClientCert
	}
	c.loadTickets()
	return nil
}

// certificateFor picks by SNI, in the order that the pairs were added; the first is for the rest.
func (c *Config) certificateFor(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if hello.ServerName != "" {
		for i := range c.pairs {
			if ok, err := matchName(c.pairs[i].Leaf, hello.ServerName, false); ok && err == nil {
				return &c.pairs[i], nil
			}
		}
	}
	return &c.pairs[0], nil
}

// identity tells one client configuration's TLS sessions from another's.
func (c *Config) identity(name string) [sha256.Size]byte {
	var chain []byte
	if len(c.pairs) > 0 {
		chain = bytes.Join(c.pairs[0].Certificate, nil)
	}
	return sumOf("session", []byte(name), c.trust[:], chain)
}
