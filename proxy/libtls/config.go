package libtls

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
)

// Config is an immutable configuration: what tls_configure has read, or a client's at its
// connect. It may be used by any number of connections at once.
type Config struct {
	settings
	roots    *x509.CertPool
	crls     []*revocationList
	pairs    []tls.Certificate
	versions versions
	ciphers  cipherChoice
	curves   []tls.CurveID
	alpn     []string
	server   *tls.Config
}

func newConfig(s settings) (*Config, error) {
	c := &Config{settings: s}
	if s.has(flagForeignKey) {
		return nil, errors.New("private keys that an OpenSSL engine of the program's would use are not supported by tlswrap: crypto/tls never asks it")
	}
	steps := []func() error{c.loadProtocols, c.loadPairs, c.loadRoots, c.loadCRLs, c.completeChains}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	if s.has(flagServer) {
		if err := c.loadServer(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Config) loadProtocols() error {
	var err error
	c.versions = versionsOf(c.protocols)
	ciphers := c.things[kindCiphers]
	if ciphers == nil && c.has(flagRessl) {
		ciphers = []byte("HIGH") // the default of 2014 had suites without forward secrecy
	}
	if c.ciphers, err = parseCiphers(ciphers); err != nil {
		return err
	}
	if c.has(flagNoECDHE) && c.has(flagServer) {
		c.ciphers = c.ciphers.withoutECDHE()
	}
	if c.curves, err = parseCurves(c.things[kindCurves]); err != nil {
		return err
	}
	c.alpn, err = parseALPN(c.things[kindALPN])
	return err
}

// loadPairs puts certificates and keys together. A server's first is not optional.
func (c *Config) loadPairs() error {
	if c.has(flagRessl) && !c.has(flagServer) {
		return nil // in 2014 clients presented none
	}
	for i, k := range c.keypairs {
		required := i > 0 || c.has(flagServer)
		if !required && k.cert == nil && k.key == nil {
			continue
		}
		pair, err := newPair(k)
		if err != nil {
			return err
		}
		c.pairs = append(c.pairs, pair)
	}
	return nil
}

func newPair(k keypair) (tls.Certificate, error) {
	var pair tls.Certificate
	if k.cert == nil {
		return pair, errors.New("private/public key mismatch")
	}
	chain, err := parseChain(k.cert)
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
	if pair.PrivateKey, err = parseKey(k.key); err != nil {
		return pair, err
	}
	public, ok := pair.PrivateKey.(crypto.Signer).Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(pair.Leaf.PublicKey) {
		return pair, errors.New("private/public key mismatch")
	}
	pair.OCSPStaple = k.staple
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

// verifies reports whether the peer's chain is looked at.
func (c *Config) verifies() bool {
	if !c.has(flagServer) {
		return c.has(flagVerifyCert)
	}
	return c.has(flagVerifyCert) && c.has(flagVerifyClient|flagVerifyClientOptional)
}

// loadRoots makes the pool: what was set, or else what OpenSSL would take by default.
func (c *Config) loadRoots() error {
	if !c.verifies() {
		return nil
	}
	ca, path, env := c.things[kindCA], c.things[kindCAPath], c.things[kindCAEnv]
	if ca == nil && path == nil && env == nil {
		var err error
		if c.roots, err = x509.SystemCertPool(); err != nil {
			c.roots = x509.NewCertPool()
		}
		return nil
	}
	c.roots = x509.NewCertPool()
	if ca != nil && c.addRoots(ca) == 0 {
		return errors.New("ssl verify memory setup failure")
	}
	c.addRoots(env)
	c.addRoots(path)
	return nil
}

func (c *Config) addRoots(data []byte) int {
	n := 0
	for block := range blocks(data) {
		if !isCertificate(block) {
			continue
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			c.roots.AddCert(cert)
			n++
		}
	}
	return n
}

func (c *Config) loadCRLs() error {
	var err error
	c.crls, err = parseLists(c.things[kindCRL])
	return err // without a list, no certificate has one
}

// completeChains has a leaf that came without its issuers presented with those among the CA
// certificates, as OpenSSL does it (ssl_add_cert_chain).
func (c *Config) completeChains() error {
	if c.roots == nil {
		return nil
	}
	known, _ := parseChain(c.things[kindCA])
	for i := range c.pairs {
		pair := &c.pairs[i]
		if len(pair.Certificate) > 1 {
			continue
		}
		for last := pair.Leaf; last != nil && !bytes.Equal(last.RawSubject, last.RawIssuer); {
			at := slices.IndexFunc(known, func(ca *x509.Certificate) bool {
				return bytes.Equal(ca.RawSubject, last.RawIssuer) && last.CheckSignatureFrom(ca) == nil
			})
			if last = nil; at >= 0 {
				last = known[at]
				pair.Certificate = append(pair.Certificate, last.Raw)
				known = slices.Delete(slices.Clone(known), at, at+1)
			}
		}
	}
	return nil
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

// identity tells one client configuration's sessions from another's.
func (c *Config) identity(name string) [sha256.Size]byte {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(name), c.things[kindCA], c.things[kindCAPath], c.things[kindCAEnv], c.things[kindCRL]} {
		h.Write([]byte{byte(len(part)), byte(len(part) >> 8), byte(len(part) >> 16), byte(len(part) >> 24)})
		h.Write(part)
	}
	if len(c.pairs) > 0 {
		h.Write(bytes.Join(c.pairs[0].Certificate, nil))
	}
	return [sha256.Size]byte(h.Sum(nil))
}
