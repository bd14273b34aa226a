package trust

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/verdict"
	"tlswrap/rules"
)

// Config is the configuration for one connection under rule to a server that has
// to be name: the chain and the name are verified by crypto/tls, what else the rule demands
// on top. It may be given other NextProtos, which are demanded then.
func (t *Trust) Config(rule *rules.Rule, name string) (*tls.Config, *ClientAuth, error) {
	roots, err := t.pool()
	if err != nil {
		return nil, nil, err
	}
	auth := &ClientAuth{Cert: t.client}
	config := &tls.Config{
		RootCAs:              roots,
		ServerName:           name,
		InsecureSkipVerify:   rule.VerifyNone,
		MinVersion:           rule.MinVersion,
		NextProtos:           rule.ALPN,
		CipherSuites:         cipherSuites(rule.AllowLegacy),
		GetClientCertificate: auth.get,
	}
	config.VerifyConnection = func(s tls.ConnectionState) error {
		if err := checkPins(rule.Pins, s.PeerCertificates); err != nil {
			return err
		}
		if err := checkKeys("certificate", rule.MinRSABits, s.VerifiedChains); err != nil {
			return err
		}
		if err := checkStaple(s, time.Now()); err != nil {
			return err
		}
		if len(config.NextProtos) > 0 && s.NegotiatedProtocol == "" && !rule.AllowNoALPN {
			return verdict.Failf(unix.EPROTO, "the server chose none of the protocols that were offered by ALPN, %s (allow_no_alpn = true in the rule accepts that)",
				strings.Join(config.NextProtos, ", "))
		}
		return nil
	}
	return config, auth, nil
}

// checkKeys passes where no chain was verified, or all RSA keys in one are of least bits or more. leaf is
// what the first certificate is called.
func checkKeys(leaf string, least int, chains [][]*x509.Certificate) error {
	var short error
	for _, chain := range chains {
		i := slices.IndexFunc(chain, func(c *x509.Certificate) bool {
			key, ok := c.PublicKey.(*rsa.PublicKey)
			return ok && key.N.BitLen() < least
		})
		if i < 0 {
			return nil
		}
		if short != nil {
			continue
		}
		if i > 0 {
			leaf = fmt.Sprintf("the issuer's certificate %q", verdict.Subject(chain[i]))
		}
		bits := chain[i].PublicKey.(*rsa.PublicKey).N.BitLen()
		short = verdict.Failf(unix.EKEYREJECTED, "%s has an RSA key of %d bits, and at least %d are demanded (min_rsa_bits = %[2]d accepts it)", leaf, bits, least)
	}
	return short
}

// ClientAuth presents the rule's certificate and remembers whether one was asked for.
type ClientAuth struct {
	Cert  *tls.Certificate
	Asked bool
}

func (a *ClientAuth) get(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	a.Asked = true
	if a.Cert == nil {
		return new(tls.Certificate), nil
	}
	return a.Cert, nil
}

// checkPins passes where no pin is demanded, or one is the hash of the leaf's
// SubjectPublicKeyInfo (RFC 7469, section 2.4).
func checkPins(pins [][sha256.Size]byte, chain []*x509.Certificate) error {
	if len(pins) == 0 {
		return nil
	}
	if len(chain) == 0 {
		return errors.New("the server sent no certificate")
	}
	have := sha256.Sum256(chain[0].RawSubjectPublicKeyInfo)
	if slices.Contains(pins, have) {
		return nil
	}
	return verdict.PinError{Have: have}
}
