package trust

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"

	"tlswrap/proxy/verdict"
	"tlswrap/rules"
)

// Config is the configuration for one connection under rule to a server that has
// to be name: the chain and the name are verified by crypto/tls, the pins on top.
func (t *Trust) Config(rule *rules.Rule, name string) (*tls.Config, *ClientAuth, error) {
	roots, err := t.pool()
	if err != nil {
		return nil, nil, err
	}
	auth := &ClientAuth{Cert: t.client}
	return &tls.Config{
		RootCAs:              roots,
		ServerName:           name,
		InsecureSkipVerify:   rule.VerifyNone,
		MinVersion:           rule.MinVersion,
		NextProtos:           rule.ALPN,
		ClientSessionCache:   t.Sessions,
		GetClientCertificate: auth.get,
		VerifyConnection: func(s tls.ConnectionState) error {
			return checkPins(rule.Pins, s.PeerCertificates)
		},
	}, auth, nil
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
