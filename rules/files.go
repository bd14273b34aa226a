package rules

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// File is a file that is named by a key of the rules, or by a flag, where Pos is zero.
type File struct {
	Pos       Pos
	Key, Path string
}

// Pair is a certificate chain and its key.
type Pair struct{ Cert, Key File }

// CA is the file's own ca_file.
func (p *Policy) CA() File { return File{p.keys["ca_file"], "ca_file", p.CAFile} }

// CA is the rule's ca_file.
func (r *Rule) CA() File { return File{r.keys["ca_file"], "ca_file", r.CAFile} }

// ClientPair is what the rule presents where a server asks for a certificate.
func (r *Rule) ClientPair() Pair { return r.pair(KeyPair{r.CertFile, r.KeyFile}) }

func (r *Rule) pair(p KeyPair) Pair {
	return Pair{File{r.keys["cert_file"], "cert_file", p.CertFile}, File{r.keys["key_file"], "key_file", p.KeyFile}}
}

// ServerPairs are what a listen serves with.
func (l *Listen) ServerPairs() []Pair {
	pairs := make([]Pair, len(l.Pairs))
	for i, p := range l.Pairs {
		pairs[i] = l.pair(p)
	}
	return pairs
}

// ClientCA is the listen's client_ca_file.
func (l *Listen) ClientCA() File {
	return File{l.keys["client_ca_file"], "client_ca_file", l.ClientCAFile}
}

// OCSP is the listen's ocsp_file.
func (l *Listen) OCSP() File { return File{l.keys["ocsp_file"], "ocsp_file", l.OCSPFile} }

func (f File) errorf(format string, args ...any) *Error {
	return &Error{Pos: f.Pos, Msg: f.Key + " " + fmt.Sprintf(format, args...)}
}

// Read reads the whole file. The error is an *Error.
func (f File) Read() ([]byte, error) {
	data, err := os.ReadFile(f.Path)
	if err != nil {
		return nil, f.errorf("cannot be read: %v", err)
	}
	return data, nil
}

const (
	certificateBlock = "CERTIFICATE"
	trustedBlock     = "TRUSTED CERTIFICATE"
	keyBlock         = "PRIVATE KEY" // or its end
)

// Certificates reads a PEM file with at least one certificate. The error is an *Error.
func (f File) Certificates() ([]*x509.Certificate, error) {
	data, err := f.Read()
	if err != nil {
		return nil, err
	}
	return f.certificates(data)
}

func (f File) certificates(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	var others []string
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == trustedBlock {
			return nil, f.errorf("%s is in OpenSSL's own form, TRUSTED CERTIFICATE, expected CERTIFICATE (openssl x509 -in %[1]s writes it)", f.Path)
		}
		if block.Type != certificateBlock {
			others = append(others, block.Type)
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, f.errorf("%s has a certificate that is none: %s", f.Path, strings.TrimPrefix(err.Error(), "x509: "))
		}
		certs = append(certs, cert)
	}
	if len(certs) > 0 {
		return certs, nil
	}
	if _, err := x509.ParseCertificate(data); err == nil {
		return nil, f.errorf("%s is in DER form, expected PEM (openssl x509 -inform DER -in %[1]s writes it)", f.Path)
	}
	return nil, f.noBlock(certificateBlock, others)
}

func (f File) noBlock(want string, others []string) *Error {
	if len(others) > 0 {
		return f.errorf("%s has no %s in PEM form, only %s", f.Path, want, strings.Join(slices.Compact(others), ", "))
	}
	return f.errorf("%s has no %s in PEM form", f.Path, want)
}

func (f File) privateKey(data []byte) (crypto.Signer, error) {
	var others []string
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch {
		case !strings.HasSuffix(block.Type, keyBlock):
			others = append(others, block.Type)
		case strings.HasPrefix(block.Type, "ENCRYPTED"), block.Headers["DEK-Info"] != "":
			return nil, f.errorf("%s is encrypted, expected a key without a passphrase (openssl pkey -in %[1]s writes it)", f.Path)
		case strings.HasPrefix(block.Type, "OPENSSH"):
			return nil, f.errorf("%s is in OpenSSH's form, expected PKCS #8 (ssh-keygen -p -m PKCS8 -f %[1]s changes it)", f.Path)
		default:
			key, err := parseKey(block.Bytes)
			if err != nil {
				return nil, f.errorf("%s has a private key that cannot be used: %v", f.Path, err)
			}
			return key, nil
		}
	}
	if _, err := parseKey(data); err == nil {
		return nil, f.errorf("%s is in DER form, expected PEM (openssl pkey -inform DER -in %[1]s writes it)", f.Path)
	}
	return nil, f.noBlock(keyBlock, others)
}

// parseKey reads a key in one of the forms that crypto/tls takes.
func parseKey(der []byte) (crypto.Signer, error) {
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "x509: "))
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return key, nil
	case *ecdsa.PrivateKey:
		return key, nil
	case ed25519.PrivateKey:
		return key, nil
	}
	return nil, fmt.Errorf("it is of a kind that TLS does not sign with, %T", key)
}

// Read reads both files, which have to belong together. The error is an *Error, or the two of both files.
func (p Pair) Read() (certPEM, keyPEM []byte, chain []*x509.Certificate, err error) {
	certPEM, certErr := p.Cert.Read()
	if certErr == nil {
		chain, certErr = p.Cert.certificates(certPEM)
	}
	keyPEM, keyErr := p.Key.Read()
	var key crypto.Signer
	if keyErr == nil {
		key, keyErr = p.Key.privateKey(keyPEM)
	}
	if err := errors.Join(certErr, keyErr); err != nil {
		return nil, nil, nil, err
	}
	return certPEM, keyPEM, chain, p.belong(chain, key)
}

func (p Pair) belong(chain []*x509.Certificate, key crypto.Signer) error {
	at := slices.IndexFunc(chain, func(c *x509.Certificate) bool {
		public, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
		return ok && public.Equal(key.Public())
	})
	switch {
	case at < 0:
		return p.Key.errorf("%s is not the key of %s, whose certificate is %q", p.Key.Path, p.Cert.Path, chain[0].Subject)
	case at > 0:
		return p.Cert.errorf("%s begins with another certificate, %q, and that of key_file is number %d: expected that first, and then who issued each",
			p.Cert.Path, chain[0].Subject, at+1)
	}
	return nil
}

// disorder is what is wrong with a chain's order, or nil. TLS 1.3 takes any, and older versions none but the
// right one (RFC 5246, section 7.4.2).
func (p Pair) disorder(chain []*x509.Certificate) *Error {
	for i, c := range chain[1:] {
		if below := chain[i]; !bytes.Equal(below.RawIssuer, c.RawSubject) {
			return p.Cert.errorf("%s is not in order: its certificate %d, %q, has not issued number %d, %q; expected each to be followed by who issued it",
				p.Cert.Path, i+2, c.Subject, i+1, below.Subject)
		}
	}
	return nil
}
