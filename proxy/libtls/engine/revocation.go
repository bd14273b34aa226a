package engine

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"time"
)

// Which list counts for a certificate, and what it says: as OpenSSL decides with X509_V_FLAG_CRL_CHECK_ALL
// and neither X509_V_FLAG_EXTENDED_CRL_SUPPORT nor X509_V_FLAG_USE_DELTAS (check_revocation in
// crypto/x509/x509_vfy.c). It is stricter where OpenSSL 3.0 ignores what a list says: that it is a delta, and
// extensions that cannot be read.

// checkRevocation wants current lists for every certificate, where there are lists at all.
func (c *Config) checkRevocation(chain []*x509.Certificate, now time.Time) *problem {
	if !c.revokes {
		return nil
	}
	for at := range chain {
		if p := c.checkLists(chain, at, now); p != nil {
			return p
		}
	}
	return nil
}

// checkLists checks chain[at]. One list is not enough where the certificate says that its list is about
// some reasons for revocation alone.
func (c *Config) checkLists(chain []*x509.Certificate, at int, now time.Time) *problem {
	points, ok := distributionPoints(chain[at])
	if !ok {
		return chainProblem("invalid or inconsistent certificate extension")
	}
	for covered := reasons(0); covered != allReasons; {
		best, deltas := c.bestLists(chain[at:], points, covered, now)
		if best == nil {
			return chainProblem("unable to get certificate CRL")
		}
		for _, delta := range deltas { // which can revoke, and no more
			if reason := delta.check(chain[at], c.has(flagVerifyTime), now); reason == revoked && !delta.thisUpdate.Before(best[0].thisUpdate) {
				return chainProblem(reason)
			}
		}
		for _, candidate := range best {
			if reason := candidate.check(chain[at], c.has(flagVerifyTime), now); reason != "" {
				return chainProblem(reason)
			}
			covered |= candidate.reasons
		}
	}
	return nil
}

// candidate is a list that may be about a certificate.
type candidate struct {
	*revocationList
	issuer  *x509.Certificate
	reasons reasons // why it would have the certificate; zero where its scope is another
	score   int
}

// What makes one list better than another, the weightiest last.
const (
	scoreDirect     = 1 << iota // it is by the certificate's issuer, not one of the same name further up
	scoreCurrent                // it is within its dates
	scoreScope                  // it is about certificates of this kind
	scoreUnderstood             // it has no critical extension that is not known
)

// bestLists returns the newest of the best lists for the first certificate of a chain, several only where it
// cannot be told which counts; and the deltas.
func (c *Config) bestLists(chain []*x509.Certificate, points []distributionPoint, covered reasons, now time.Time) (best, deltas []candidate) {
	for _, list := range c.crls {
		if list.partial || !bytes.Equal(list.issuer, chain[0].RawIssuer) {
			continue
		}
		// The issuer comes next in the chain; the root is its own.
		above := chain[min(1, len(chain)-1):]
		n := slices.IndexFunc(above, list.mayBeBy)
		if n < 0 {
			continue
		}
		candidate := candidate{revocationList: list, issuer: above[n]}
		if n == 0 {
			candidate.score |= scoreDirect
		}
		if !c.has(flagVerifyTime) || list.timeProblem(now) == "" {
			candidate.score |= scoreCurrent
		}
		if !list.unhandled {
			candidate.score |= scoreUnderstood
		}
		if covers, ok := list.scope(chain[0], points); ok {
			if covers&^covered == 0 {
				continue
			}
			candidate.score |= scoreScope
			candidate.reasons = covers
		}
		if list.delta {
			deltas = append(deltas, candidate)
			continue
		}
		order := 1
		if best != nil {
			if order = candidate.score - best[0].score; order == 0 {
				order = list.thisUpdate.Compare(best[0].thisUpdate)
			}
		}
		switch {
		case order > 0:
			best = append(best[:0], candidate)
		case order == 0:
			best = append(best, candidate)
		}
	}
	return best, deltas
}

// mayBeBy reports whether cert is the issuer that the list names.
func (l *revocationList) mayBeBy(cert *x509.Certificate) bool {
	serial := serialNumber(cert)
	return bytes.Equal(l.issuer, cert.RawSubject) &&
		(l.keyID == nil || cert.SubjectKeyId == nil || bytes.Equal(l.keyID, cert.SubjectKeyId)) &&
		(l.issuerSerial == nil || bytes.Equal(l.issuerSerial, serial)) &&
		(l.issuerIssuer == nil || bytes.Equal(l.issuerIssuer, cert.RawIssuer))
}

func serialNumber(cert *x509.Certificate) []byte {
	encoded, err := asn1.Marshal(cert.SerialNumber)
	if err != nil {
		panic(err) // every number can be written
	}
	d := readDER(encoded)
	return d.content(derInteger)
}

// scope returns for which reasons the list would have cert, and whether it is about certificates of its
// kind at all.
func (l *revocationList) scope(cert *x509.Certificate, points []distributionPoint) (reasons, bool) {
	others := onlyCA
	if cert.BasicConstraintsValid && cert.IsCA {
		others = onlyUser
	}
	if l.only&(others|onlyAttribute) != 0 {
		return 0, false
	}
	for _, point := range points {
		if point.issuers != nil && !slices.ContainsFunc(point.issuers, l.isIssuer) {
			continue
		}
		names := point.names
		if names == nil {
			names = point.issuers
		}
		if l.points == nil || meet(l.points, names) {
			return point.reasons, true
		}
	}
	return allReasons, l.points == nil
}

func (l *revocationList) isIssuer(name []byte) bool {
	return bytes.Equal(directoryName([][]byte{name}), l.issuer)
}

func meet(a, b [][]byte) bool {
	return slices.ContainsFunc(a, func(name []byte) bool {
		return slices.ContainsFunc(b, func(other []byte) bool { return bytes.Equal(name, other) })
	})
}

func (l *revocationList) timeProblem(now time.Time) string {
	if now.Before(l.thisUpdate) {
		return "CRL is not yet valid"
	}
	if !l.nextUpdate.IsZero() && now.After(l.nextUpdate) {
		return "CRL has expired"
	}
	return ""
}

const revoked = "certificate revoked"

var oidKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 15}

// check returns why cert is not accepted by this list, in OpenSSL's words, or nothing.
func (l *candidate) check(cert *x509.Certificate, timed bool, now time.Time) string {
	limited := slices.ContainsFunc(l.issuer.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidKeyUsage) })
	if limited && l.issuer.KeyUsage&x509.KeyUsageCRLSign == 0 {
		return "key usage does not include CRL signing"
	}
	if l.invalid {
		return "invalid or inconsistent certificate extension"
	}
	if l.score&scoreScope == 0 {
		return "different CRL scope"
	}
	if timed {
		if p := l.timeProblem(now); p != "" {
			return p
		}
	}
	if l.issuer.CheckSignature(l.algorithm, l.signed, l.signature) != nil {
		return "CRL signature failure"
	}
	if l.unhandled {
		return "unhandled critical CRL extension"
	}
	if _, listed := slices.BinarySearchFunc(l.revoked, serialNumber(cert), bytes.Compare); listed {
		return revoked
	}
	return ""
}
