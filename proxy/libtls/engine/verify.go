package engine

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"time"
)

// problem is why a peer is not accepted, in libtls's words, which are OpenSSL's for chains.
type problem struct{ text string }

func (p *problem) Error() string { return p.text }

func chainProblem(reason string) *problem {
	return &problem{"certificate verification failed: " + reason}
}

// verify looks at what the peer presented. It is called inside the handshake, also where a
// TLS session is resumed. The name is not looked at here: libtls does that after the handshake.
func (c *Config) verify(state tls.ConnectionState, now time.Time) error {
	if len(state.PeerCertificates) == 0 || !c.verifies() {
		return nil
	}
	chain, p := c.verifyChain(state.PeerCertificates, now)
	if p != nil {
		return p
	}
	if p := c.checkRevocation(chain, now); p != nil {
		return p
	}
	if c.has(flagServer) {
		return nil
	}
	return c.checkStaple(state, chain, now)
}

// usage is what a peer's certificate is to be for.
func (c *Config) usage() []x509.ExtKeyUsage {
	if c.has(flagServer) {
		return []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
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
	if err != nil {
		return nil, c.explain(err, sent, now)
	}
	for _, chain := range chains {
		// The depth counts neither the leaf nor the root (X509_VERIFY_PARAM_set_depth).
		if len(chain)-2 <= c.depth {
			return chain, nil
		}
	}
	return nil, chainProblem("certificate chain too long")
}

func (c *Config) chains(sent []*x509.Certificate, now time.Time) ([][]*x509.Certificate, error) {
	between := x509.NewCertPool()
	for _, cert := range sent[1:] {
		if !selfSigned(cert) { // a root is trusted, or leads nowhere
			between.AddCert(cert)
		}
	}
	options := x509.VerifyOptions{
		Roots: c.roots, Intermediates: between, CurrentTime: now, KeyUsages: c.usage(),
	}
	chains, err := sent[0].Verify(options)
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired && !c.has(flagVerifyTime) {
		// Those that were sent are timeless, so it is the root, of which a chain has one: it is
		// verified at a time when that was good. The system's roots cannot be made timeless.
		options.CurrentTime = invalid.Cert.NotAfter
		return sent[0].Verify(options)
	}
	return chains, err
}

func selfSigned(cert *x509.Certificate) bool {
	return bytes.Equal(cert.RawSubject, cert.RawIssuer) && cert.CheckSignatureFrom(cert) == nil
}

// timeless is a certificate for which every day is a good one. Signatures are over the bytes that
// it was parsed from.
func timeless(cert *x509.Certificate) *x509.Certificate {
	t := *cert
	t.NotBefore, t.NotAfter = time.Time{}, time.Unix(1<<40, 0)
	return &t
}

func (c *Config) explain(err error, sent []*x509.Certificate, now time.Time) *problem {
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	if !ok {
		return chainProblem(unknownIssuer(sent))
	}
	switch invalid.Reason {
	case x509.Expired:
		// crypto/x509 looks at the leaf's dates first, OpenSSL for the chain.
		timed := invalid.Cert
		if timed == nil {
			timed = sent[0]
		}
		if timed == sent[0] {
			certs := append([]*x509.Certificate{timeless(sent[0])}, sent[1:]...)
			if _, err := c.chains(certs, now); err != nil {
				return c.explain(err, certs, now)
			}
		}
		if now.Before(timed.NotBefore) {
			return chainProblem("certificate is not yet valid")
		}
		return chainProblem("certificate has expired")
	case x509.IncompatibleUsage:
		return chainProblem("unsuitable certificate purpose")
	case x509.NotAuthorizedToSign:
		return chainProblem("invalid CA certificate")
	case x509.TooManyIntermediates:
		return chainProblem("path length constraint exceeded")
	case x509.CANotAuthorizedForThisName, x509.NameConstraintsWithoutSANs, x509.UnconstrainedName:
		return chainProblem("permitted subtree violation")
	}
	return chainProblem(invalid.Error())
}

// unknownIssuer says it as OpenSSL does, by how far the chain goes.
func unknownIssuer(sent []*x509.Certificate) string {
	last := sent[0]
	for range sent {
		var next *x509.Certificate
		for _, cert := range sent {
			if cert != last && bytes.Equal(cert.RawSubject, last.RawIssuer) && last.CheckSignatureFrom(cert) == nil {
				next = cert
				break
			}
		}
		if next == nil {
			break
		}
		last = next
	}
	if !bytes.Equal(last.RawSubject, last.RawIssuer) {
		return "unable to get local issuer certificate"
	}
	if last == sent[0] {
		return "self-signed certificate"
	}
	return "self-signed certificate in certificate chain"
}

// checkStaple verifies the OCSP response that came along.
func (c *Config) checkStaple(state tls.ConnectionState, chain []*x509.Certificate, now time.Time) error {
	if len(state.OCSPResponse) == 0 {
		if c.has(flagRequireStapling) {
			return &problem{"no stapled OCSP response provided"}
		}
		return nil
	}
	if !c.has(flagVerifyTime) {
		return nil
	}
	if _, err := checkResponse(state.OCSPResponse, chain, now); err != nil {
		return err
	}
	return nil
}
