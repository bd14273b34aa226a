package engine

import (
	"bytes"
	"crypto/x509"
	"sync"
)

// anchors are the CA certificates that a program names, by their subjects. Most are never asked for, so each
// is taken apart when it is. It may be used by any number of connections at once.
type anchors struct {
	bySubject map[string][]*anchor
}

type anchor struct {
	der  []byte
	once sync.Once
	cert *x509.Certificate // nil for what crypto/x509 does not read
}

// add adds the certificates of a PEM file, and returns how many there are.
func (a *anchors) add(data []byte) int {
	n := 0
	for block := range blocks(data) {
		if !isCertificate(block) {
			continue
		}
		der := certificateIn(block)
		subject := subjectOf(der)
		if subject == nil {
			continue
		}
		if a.bySubject == nil {
			a.bySubject = make(map[string][]*anchor)
		}
		a.bySubject[string(subject)] = append(a.bySubject[string(subject)], &anchor{der: der})
		n++
	}
	return n
}

// subjectOf returns a certificate's subject (RFC 5280, section 4.1), or nil for what is none.
func subjectOf(der []byte) []byte {
	d := readDER(der)
	certificate := d.in(derSequence)
	body := certificate.in(derSequence)
	if body.has(derContextWith) {
		body.next() // the version
	}
	body.content(derInteger)
	for range 3 { // how it is signed, the issuer, its dates
		body.content(derSequence)
	}
	subject := body.whole()
	if *d.bad {
		return nil
	}
	return subject
}

func (a *anchor) parse() *x509.Certificate {
	a.once.Do(func() { a.cert, _ = x509.ParseCertificate(a.der) })
	return a.cert
}

// above returns those that may stand above the certificates that a peer sent, however far.
func (a *anchors) above(sent []*x509.Certificate) []*x509.Certificate {
	var found []*x509.Certificate
	seen := make(map[string]bool)
	for next := append([]*x509.Certificate(nil), sent...); len(next) > 0; {
		issuer := string(next[0].RawIssuer)
		next = next[1:]
		if seen[issuer] {
			continue
		}
		seen[issuer] = true
		for _, candidate := range a.bySubject[issuer] {
			if cert := candidate.parse(); cert != nil {
				found, next = append(found, cert), append(next, cert)
			}
		}
	}
	return found
}

// isRoot reports whether a certificate is by itself, as OpenSSL sees it (X509_self_signed): with nothing else
// does a chain end.
func isRoot(cert *x509.Certificate) bool {
	return bytes.Equal(cert.RawSubject, cert.RawIssuer) && isKeyOf(cert, cert)
}

// isKeyOf reports whether issuer has the key that cert says it is signed with, if both say one.
func isKeyOf(issuer, cert *x509.Certificate) bool {
	return len(cert.AuthorityKeyId) == 0 || len(issuer.SubjectKeyId) == 0 || bytes.Equal(cert.AuthorityKeyId, issuer.SubjectKeyId)
}
