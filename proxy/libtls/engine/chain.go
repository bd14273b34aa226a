package engine

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"slices"
	"time"
)

// What OpenSSL demands of a chain, and says of one that it does not take, beside what crypto/x509 has
// (check_extensions, check_auth_level and internal_verify in crypto/x509/x509_vfy.c).

// presented is the chain that OpenSSL would build of what was sent and of known, the CA certificates: these
// come first. ends reports whether it has come to a root among known, and local whether to none of them.
func presented(sent, known []*x509.Certificate) (chain []*x509.Certificate, ends, local bool) {
	chain, local = sent[:1:1], true
	for {
		last := chain[len(chain)-1]
		trusted := slices.ContainsFunc(known, last.Equal)
		if isRoot(last) {
			return chain, trusted, local && !trusted
		}
		next := issuerOf(last, known, chain)
		if next != nil {
			local = false
		} else if next = issuerOf(last, sent, chain); next == nil {
			return chain, false, local
		}
		chain = append(chain, next)
	}
}

// issuerOf finds who may have signed a certificate, and is not in the chain.
func issuerOf(cert *x509.Certificate, among, chain []*x509.Certificate) *x509.Certificate {
	at := slices.IndexFunc(among, func(issuer *x509.Certificate) bool {
		return bytes.Equal(issuer.RawSubject, cert.RawIssuer) && isKeyOf(issuer, cert) && !slices.ContainsFunc(chain, issuer.Equal)
	})
	if at < 0 {
		return nil
	}
	return among[at]
}

// unsuited says why a chain that comes to a root is not taken for what it says itself, or nothing.
func (c *Config) unsuited(chain []*x509.Certificate) string {
	length := 0
	for i, cert := range chain {
		switch {
		case len(cert.UnhandledCriticalExtensions) > 0:
			return "unhandled critical extension"
		case i > 0 && !isAuthority(cert):
			return "invalid CA certificate"
		case !c.hasPurpose(cert, i > 0):
			return "unsuitable certificate purpose"
		case i > 0 && (cert.MaxPathLen > 0 || cert.MaxPathLenZero) && length > cert.MaxPathLen:
			return "path length constraint exceeded"
		}
		if i > 0 && !bytes.Equal(cert.RawSubject, cert.RawIssuer) {
			length++
		}
	}
	return c.weakness(chain)
}

// weakness says what in a chain is weaker than the configuration's security level demands.
func (c *Config) weakness(chain []*x509.Certificate) string {
	for i, cert := range chain {
		switch {
		case !c.strong(cert) && i == 0:
			return "EE certificate key too weak"
		case !c.strong(cert):
			return "CA certificate key too weak"
		case i < len(chain)-1 && isWeakSignature(cert):
			return "CA signature digest algorithm too weak"
		}
	}
	return ""
}

// leastBits are what a security level of OpenSSL's demands of RSA and of elliptic curves
// (SSL_CTX_set_security_level(3)).
var leastBits = []struct{ rsa, curve int }{{0, 0}, {1024, 160}, {2048, 224}, {3072, 256}, {7680, 384}, {15360, 512}}

func (c *Config) strong(cert *x509.Certificate) bool {
	least := leastBits[min(c.ciphers.level, len(leastBits)-1)]
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		return key.N.BitLen() >= least.rsa
	case *ecdsa.PublicKey:
		return key.Params().BitSize >= least.curve
	}
	return true
}

// isWeakSignature reports what crypto/x509 does not verify at any level.
func isWeakSignature(cert *x509.Certificate) bool {
	switch cert.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		return true
	}
	return false
}

// isAuthority is X509_check_ca.
func isAuthority(cert *x509.Certificate) bool {
	switch signs := cert.KeyUsage&x509.KeyUsageCertSign != 0; {
	case cert.KeyUsage != 0 && !signs:
		return false
	case cert.BasicConstraintsValid:
		return cert.IsCA
	default:
		return signs || cert.Version == 1 && isRoot(cert)
	}
}

// hasPurpose reports whether a certificate may be used for what the peer is (check_purpose_ssl_client and
// check_purpose_ssl_server in crypto/x509/v3_purp.c). Any purpose is not this one.
func (c *Config) hasPurpose(cert *x509.Certificate, isAbove bool) bool {
	purposes := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageNetscapeServerGatedCrypto, x509.ExtKeyUsageMicrosoftServerGatedCrypto}
	usage, netscape := x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment|x509.KeyUsageKeyAgreement, byte(0x40)
	if c.has(flagServer) {
		purposes = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		usage, netscape = x509.KeyUsageDigitalSignature|x509.KeyUsageKeyAgreement, 0x80
	}
	limited := len(cert.ExtKeyUsage)+len(cert.UnknownExtKeyUsage) > 0
	if limited && !slices.ContainsFunc(cert.ExtKeyUsage, func(u x509.ExtKeyUsage) bool { return slices.Contains(purposes, u) }) {
		return false
	}
	return isAbove || (cert.KeyUsage == 0 || cert.KeyUsage&usage != 0) && hasNetscapeType(cert, netscape)
}

var oidNetscapeType = asn1.ObjectIdentifier{2, 16, 840, 1, 113730, 1, 1}

// hasNetscapeType reports whether a certificate is of a type, or of none.
func hasNetscapeType(cert *x509.Certificate, bit byte) bool {
	for _, extension := range cert.Extensions {
		if extension.Id.Equal(oidNetscapeType) {
			d := readDER(extension.Value)
			bits := d.bits(derBitString)
			return len(bits) > 0 && bits[0]&bit != 0
		}
	}
	return true
}

// broken says where a chain does not hold: from its root down, as OpenSSL looks at it.
func (c *Config) broken(chain []*x509.Certificate, now time.Time) string {
	for i := len(chain) - 1; i >= 0; i-- {
		cert := chain[i]
		switch {
		case i < len(chain)-1 && chain[i+1].CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) != nil:
			return "certificate signature failure"
		case !c.has(flagVerifyTime):
		case now.Before(cert.NotBefore):
			return "certificate is not yet valid"
		case now.After(cert.NotAfter):
			return "certificate has expired"
		}
	}
	return ""
}

// explain says why crypto/x509 has found no chain.
func (c *Config) explain(err error, sent []*x509.Certificate, now time.Time) *problem {
	chain, ends, local := presented(sent, c.known(sent))
	if !ends && c.anchors == nil {
		ends = c.isBySystem(chain[len(chain)-1], now)
	}
	last := chain[len(chain)-1]
	switch {
	case ends:
	case len(chain)-1 > c.depth+1:
		return chainProblem("certificate chain too long")
	case isRoot(last) && len(chain) == 1:
		return chainProblem("self-signed certificate")
	case isRoot(last):
		return chainProblem("self-signed certificate in certificate chain")
	case local:
		return chainProblem("unable to get local issuer certificate")
	default:
		return chainProblem("unable to get issuer certificate")
	}
	if reason := c.unsuited(chain); reason != "" {
		return chainProblem(reason)
	}
	if reason := c.broken(chain, now); reason != "" {
		return chainProblem(reason)
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		switch invalid.Reason {
		case x509.CANotAuthorizedForThisName, x509.NameConstraintsWithoutSANs, x509.UnconstrainedName:
			return chainProblem("permitted subtree violation")
		}
	}
	return chainProblem(err.Error())
}

// isBySystem reports whether one of the system's roots, which are in a pool that shows none, has signed a
// certificate: what else is wrong with that does not count.
func (c *Config) isBySystem(cert *x509.Certificate, now time.Time) bool {
	plain := *timeless(cert)
	plain.UnhandledCriticalExtensions, plain.MaxPathLen = nil, -1
	_, err := plain.Verify(x509.VerifyOptions{Roots: c.roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	return err == nil || ok && invalid.Reason == x509.Expired
}
