package engine

import (
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"tlswrap/proxy/record"
)

// problem is why a peer is not accepted, in libtls's words, which are OpenSSL's for chains, and by which
// alert it is told.
type problem struct {
	text  string
	alert record.Alert
}

func (p *problem) Error() string { return p.text }

func chainProblem(reason string) *problem {
	alert, ok := chainAlerts[reason]
	if !ok {
		alert = record.AlertCertificateUnknown
	}
	return &problem{"certificate verification failed: " + reason, alert}
}

// stapleProblem is of an OCSP response.
func stapleProblem(text string) *problem {
	return &problem{text, record.AlertBadCertificateStatusResponse}
}

// chainAlerts are OpenSSL's (x509table in ssl/statem/statem_lib.c).
var chainAlerts = map[string]record.Alert{
	"CA certificate key too weak":                  record.AlertBadCertificate,
	"CA signature digest algorithm too weak":       record.AlertBadCertificate,
	"EE certificate key too weak":                  record.AlertBadCertificate,
	"certificate chain too long":                   record.AlertUnknownCA,
	"certificate has expired":                      record.AlertCertificateExpired,
	"certificate is not yet valid":                 record.AlertBadCertificate,
	"certificate revoked":                          record.AlertCertificateRevoked,
	"certificate signature failure":                record.AlertDecryptError,
	"CRL has expired":                              record.AlertCertificateExpired,
	"CRL is not yet valid":                         record.AlertBadCertificate,
	"CRL signature failure":                        record.AlertDecryptError,
	"unable to get certificate CRL":                record.AlertUnknownCA,
	"self-signed certificate":                      record.AlertUnknownCA,
	"self-signed certificate in certificate chain": record.AlertUnknownCA,
	"invalid CA certificate":                       record.AlertUnknownCA,
	"unsuitable certificate purpose":               record.AlertUnsupportedCertificate,
	"path length constraint exceeded":              record.AlertUnknownCA,
	"unable to get issuer certificate":             record.AlertUnknownCA,
	"unable to get local issuer certificate":       record.AlertUnknownCA,
}

// verify looks at the chain that the peer presented, and returns the one that it makes. It is called inside
// the handshake, also where a TLS session is resumed. The name is not looked at here: libtls does that after
// the handshake.
func (c *Config) verify(sent []*x509.Certificate, now time.Time) ([]*x509.Certificate, *problem) {
	if len(sent) == 0 || !c.verifies() {
		return sent, nil
	}
	chain, p := c.verifyChain(sent, now)
	if p != nil {
		return nil, p
	}
	return chain, c.checkRevocation(chain, now)
}

// bestChain is the verified chain, or what was sent where none is.
func (c *Config) bestChain(sent []*x509.Certificate, now time.Time) []*x509.Certificate {
	if c.verifies() {
		if chain, p := c.verifyChain(sent, now); p == nil {
			return chain
		}
	}
	return sent
}

// verifyChain finds a chain to a root that is short enough.
func (c *Config) verifyChain(sent []*x509.Certificate, now time.Time) ([]*x509.Certificate, *problem) {
	if !c.has(flagVerifyTime) {
		certs := make([]*x509.Certificate, len(sent))
		for i, cert := range sent {
			certs[i] = timeless(cert)
		}
		sent = certs
	}
	chains, err := c.chains(sent, now)
	// A root ends a chain, and no other that a program may trust. The system's are not all roots.
	chains = slices.DeleteFunc(chains, func(chain []*x509.Certificate) bool { return !isRoot(chain[len(chain)-1]) })
	if len(chains) == 0 {
		return nil, c.explain(err, sent, now)
	}
	var refused *problem
	for _, chain := range chains {
		// The depth counts neither the leaf nor the root (X509_VERIFY_PARAM_set_depth).
		reason := c.unsuited(chain)
		switch {
		case len(chain)-2 > c.depth:
			reason = "certificate chain too long"
		case reason == "":
			return chain, nil
		}
		if refused == nil {
			refused = chainProblem(reason)
		}
	}
	return nil, refused
}

// known are the CA certificates that may be above what was sent.
func (c *Config) known(sent []*x509.Certificate) []*x509.Certificate {
	if c.anchors == nil {
		return nil
	}
	return c.anchors.above(sent)
}

func (c *Config) chains(sent []*x509.Certificate, now time.Time) ([][]*x509.Certificate, error) {
	options := x509.VerifyOptions{
		Roots: c.roots, Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	for _, cert := range sent[1:] {
		if !isRoot(cert) { // which is trusted, or leads nowhere
			options.Intermediates.AddCert(cert)
		}
	}
	if c.anchors != nil {
		options.Roots = x509.NewCertPool()
	}
	for _, cert := range c.known(sent) {
		if !c.has(flagVerifyTime) {
			cert = timeless(cert)
		}
		if isRoot(cert) {
			options.Roots.AddCert(cert)
		} else {
			options.Intermediates.AddCert(cert)
		}
	}
	chains, err := sent[0].Verify(options)
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired && !c.has(flagVerifyTime) {
		// All others are timeless, so it is one of the system's roots, of which a chain has one: it is
		// verified at a time when that was good.
		options.CurrentTime = invalid.Cert.NotAfter
		return sent[0].Verify(options)
	}
	return chains, err
}

// timeless is a certificate for which every day is a good one. Signatures are over the bytes that
// it was parsed from.
func timeless(cert *x509.Certificate) *x509.Certificate {
	t := *cert
	t.NotBefore, t.NotAfter = time.Time{}, time.Unix(1<<40, 0)
	return &t
}
