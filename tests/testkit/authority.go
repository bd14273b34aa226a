// Package testkit makes what a test, a demonstration or a benchmark of tlswrap needs
// around it: a throwaway certificate authority, TLS servers that behave and misbehave,
// and a sniffer that tells whether anything crossed the wire in plaintext.
package testkit

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// Authority is a root or an intermediate that issues certificates. Its key is in
// memory only.
type Authority struct {
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	chain [][]byte // what a server sends beside its leaf: the intermediates
}

// Leaf says what a certificate is for. The zero times are an hour ago and tomorrow.
type Leaf struct {
	CommonName          string
	Names               []string // DNS names; the first label may be a *
	IPs                 []netip.Addr
	URIs                []*url.URL
	NotBefore, NotAfter time.Time
	ClientOnly          bool // extended key usage is clientAuth alone
	RSABits             int  // 0 is an ECDSA key
	MustStaple          bool // the server has to send an OCSP response along (RFC 7633)
}

// Certificate is an issued leaf with its key and the intermediates above it.
type Certificate struct {
	Leaf  *x509.Certificate
	key   crypto.Signer
	chain [][]byte
}

// NewAuthority makes a root with a new key.
func NewAuthority(name string) (*Authority, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	t := authorityTemplate(name)
	cert, err := sign(t, t, key, key)
	if err != nil {
		return nil, err
	}
	return &Authority{cert: cert, key: key}, nil
}

// Intermediate makes an authority below a, which the servers that it issues for send along.
func (a *Authority) Intermediate(name string) (*Authority, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	cert, err := sign(authorityTemplate(name), a.cert, key, a.key)
	if err != nil {
		return nil, err
	}
	return &Authority{cert, key, append([][]byte{cert.Raw}, a.chain...)}, nil
}

// Issue makes a certificate with a new key.
func (a *Authority) Issue(l Leaf) (*Certificate, error) {
	key, err := l.newKey()
	if err != nil {
		return nil, err
	}
	cert, err := sign(l.template(), a.cert, key, a.key)
	if err != nil {
		return nil, err
	}
	return &Certificate{cert, key, a.chain}, nil
}

// SelfSigned makes a certificate that is its own issuer.
func SelfSigned(l Leaf) (*Certificate, error) {
	key, err := l.newKey()
	if err != nil {
		return nil, err
	}
	t := l.template()
	cert, err := sign(t, t, key, key)
	if err != nil {
		return nil, err
	}
	return &Certificate{cert, key, nil}, nil
}

// Pool trusts the authority alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// WriteFile writes the authority's own certificate in PEM form.
func (a *Authority) WriteFile(path string) error {
	return os.WriteFile(path, certificatePEM(a.cert.Raw), 0o644)
}

// TLS is the certificate as a server or client of crypto/tls presents it.
func (c *Certificate) TLS() tls.Certificate {
	return tls.Certificate{Certificate: append([][]byte{c.Leaf.Raw}, c.chain...), PrivateKey: c.key, Leaf: c.Leaf}
}

// WithoutChain is the same certificate for a server that forgot the intermediates.
func (c *Certificate) WithoutChain() *Certificate {
	return &Certificate{Leaf: c.Leaf, key: c.key}
}

// Pin is the hash of the public key as rules write it (RFC 7469, section 2.4).
func (c *Certificate) Pin() string {
	sum := sha256.Sum256(c.Leaf.RawSubjectPublicKeyInfo)
	return "sha256/" + base64.StdEncoding.EncodeToString(sum[:])
}

// WriteFiles writes dir/name.pem, with the chain, and dir/name.key.
func (c *Certificate) WriteFiles(dir, name string) (certFile, keyFile string, err error) {
	certFile, keyFile = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	text := certificatePEM(c.Leaf.Raw)
	for _, der := range c.chain {
		text = append(text, certificatePEM(der)...)
	}
	if err := os.WriteFile(certFile, text, 0o644); err != nil {
		return "", "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.key)
	if err != nil {
		return "", "", err
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return certFile, keyFile, os.WriteFile(keyFile, key, 0o600)
}

func newKey() (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

func (l Leaf) newKey() (crypto.Signer, error) {
	if l.RSABits > 0 {
		return rsa.GenerateKey(rand.Reader, l.RSABits)
	}
	return newKey()
}

func sign(t, parent *x509.Certificate, key, signer crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("making a certificate for %q: %w", t.Subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

func authorityTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-365 * 24 * time.Hour),
		NotAfter:              time.Now().Add(365 * 24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
}

func (l Leaf) template() *x509.Certificate {
	t := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: l.CommonName},
		DNSNames:     l.Names,
		URIs:         l.URIs,
		NotBefore:    l.NotBefore,
		NotAfter:     l.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if l.RSABits > 0 {
		t.KeyUsage |= x509.KeyUsageKeyEncipherment
	}
	if l.MustStaple {
		// A TLSFeature of status_request, 5 (RFC 7633, section 6).
		t.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 3, 2, 1, 5}}}
	}
	if l.ClientOnly {
		t.ExtKeyUsage = t.ExtKeyUsage[1:]
	}
	if t.NotBefore.IsZero() {
		t.NotBefore = time.Now().Add(-time.Hour)
	}
	if t.NotAfter.IsZero() {
		t.NotAfter = time.Now().Add(24 * time.Hour)
	}
	for _, ip := range l.IPs {
		t.IPAddresses = append(t.IPAddresses, net.IP(ip.AsSlice()))
	}
	return t
}

func serial() *big.Int {
	var b [8]byte
	rand.Read(b[:])
	return new(big.Int).SetBytes(b[:])
}

func certificatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
