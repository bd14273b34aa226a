package trust

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/ocsp"
	"tlswrap/proxy/verdict"
)

// oidTLSFeature is of the extension by which a certificate says what its server has to do (RFC 7633).
var oidTLSFeature = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}

// statusRequest is the TLS extension for stapled OCSP responses (RFC 6066, section 8).
const statusRequest = 5

// mustStaple reports whether a certificate counts only with a stapled response. One that cannot be read
// may say so.
func mustStaple(c *x509.Certificate) bool {
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidTLSFeature) {
			continue
		}
		var features []int
		if rest, err := asn1.Unmarshal(e.Value, &features); err != nil || len(rest) > 0 {
			return true
		}
		for _, f := range features {
			if f == statusRequest {
				return true
			}
		}
	}
	return false
}

// checkStaple looks at the OCSP response of a server whose chain was verified. One that says "revoked" counts
// always, any other only where the certificate demands one: servers staple what is stale, and nobody else minds.
// A resumed TLS session rests on what was good when it began.
func checkStaple(s tls.ConnectionState, now time.Time) error {
	if len(s.VerifiedChains) == 0 || s.DidResume {
		return nil
	}
	chain := s.VerifiedChains[0]
	demanded := mustStaple(chain[0])
	if len(s.OCSPResponse) == 0 {
		if demanded {
			return verdict.Failf(unix.EKEYREJECTED, "certificate demands that the server staples an OCSP response (RFC 7633), and it sent none")
		}
		return nil
	}
	result, err := ocsp.Check(s.OCSPResponse, chain, now)
	why := ""
	switch {
	case result != nil && result.Cert == ocsp.Revoked:
		reason := ""
		if result.Text != "" {
			reason = " (" + result.Text + ")"
		}
		return verdict.Failf(unix.EKEYREJECTED, "certificate was revoked on %s%s, as the OCSP response says that the server sent", result.Revoked.UTC().Format(time.DateTime+" MST"), reason)
	case !demanded:
		return nil
	case result == nil:
		why = "cannot be read"
	case result.Status != 0:
		why = "is an error"
	case result.Cert == -1:
		why = "is not by its issuer, or about another certificate"
	case err != nil:
		why = "is not current"
	case result.Cert != ocsp.Good:
		why = "does not know it"
	default:
		return nil
	}
	return verdict.Failf(unix.EKEYREJECTED, "certificate demands that the server staples an OCSP response (RFC 7633), and the one that it sent %s", why)
}
