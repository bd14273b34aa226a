package verdict

import (
	"bytes"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/quote"
)

// party is who presented a chain, as a sentence has it.
type party struct {
	leaf  string // how its own certificate is called
	many  string // what it is one of
	trust string // what would trust its root
	usage x509.ExtKeyUsage
}

var (
	aServer = party{"certificate", "TLS servers", "ca_file in the rule, or --ca, would", x509.ExtKeyUsageServerAuth}
	aClient = party{"the client's certificate", "TLS clients", "client_ca_file would", x509.ExtKeyUsageClientAuth}
)

// chain is one that was not accepted.
type chain struct {
	party
	sent []*x509.Certificate // the leaf first
	now  time.Time
}

// why explains a verification's end, but for a wrong name. crypto/x509 says what it found last where it
// tried several ways, so that the certificates are looked at again: each sentence is true by itself.
func (c chain) why(e *tls.CertificateVerificationError) *Failure {
	var (
		critical x509.UnhandledCriticalExtension
		invalid  x509.CertificateInvalidError
		unknown  x509.UnknownAuthorityError
	)
	switch {
	case errors.As(e, &unknown):
		return c.notSigned(unknown.Cert, refusedIssuer(unknown))
	case errors.As(e, &critical):
		for _, cert := range c.sent {
			if len(cert.UnhandledCriticalExtensions) > 0 {
				return c.criticalExtension(cert)
			}
		}
		return c.rejected("the trusted root has a critical extension that is not known here")
	case errors.As(e, &invalid):
		if f := c.invalid(invalid); f != nil {
			return f
		}
	}
	return c.rejected("%s: %s", c.leaf, quote.Printable([]byte(strings.TrimPrefix(e.Err.Error(), "x509: "))))
}

func (c chain) rejected(format string, args ...any) *Failure {
	return Failf(unix.EKEYREJECTED, format, args...)
}

// call names a certificate of the chain, or the root that was to end it.
func (c chain) call(cert *x509.Certificate) string {
	is := func(other *x509.Certificate) bool { return bytes.Equal(other.Raw, cert.Raw) }
	switch {
	case len(c.sent) > 0 && is(c.sent[0]):
		return c.leaf
	case slices.ContainsFunc(c.sent, is):
		return fmt.Sprintf("the issuer's certificate %q", Subject(cert))
	}
	return fmt.Sprintf("the trusted root %q", Subject(cert))
}

// invalid explains what one certificate of a chain says against it, or returns nil.
func (c chain) invalid(e x509.CertificateInvalidError) *Failure {
	switch e.Reason {
	case x509.Expired:
		return c.wrongTime(e.Cert)
	case x509.NotAuthorizedToSign:
		return c.mayNotSign(e.Cert)
	case x509.TooManyIntermediates:
		return c.tooLong(e.Cert)
	case x509.IncompatibleUsage, x509.CANotAuthorizedForExtKeyUsage:
		return c.wrongUsage()
	case x509.CANotAuthorizedForThisName, x509.UnconstrainedName:
		who := "an issuer"
		if i := slices.IndexFunc(c.sent, constrainsNames); i > 0 {
			who = c.call(c.sent[i])
		}
		return c.rejected("%s may not vouch for what this one is for (name constraints): %s", who, quote.Printable([]byte(e.Detail)))
	case x509.NoValidChains:
		return c.rejected("%s is under no certificate policy that its issuers allow (%s)", c.leaf, e.Detail)
	}
	return nil
}

func constrainsNames(c *x509.Certificate) bool {
	return len(c.PermittedDNSDomains)+len(c.ExcludedDNSDomains)+len(c.PermittedIPRanges)+len(c.ExcludedIPRanges)+
		len(c.PermittedURIDomains)+len(c.ExcludedURIDomains)+len(c.PermittedEmailAddresses)+len(c.ExcludedEmailAddresses) > 0
}

func (c chain) wrongUsage() *Failure {
	for _, cert := range c.sent {
		if len(cert.ExtKeyUsage)+len(cert.UnknownExtKeyUsage) == 0 || slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny) ||
			slices.Contains(cert.ExtKeyUsage, c.usage) {
			continue
		}
		return c.rejected("%s is not for %s (its extended key usage does not say so)", c.call(cert), c.many)
	}
	return c.rejected("an issuer's certificate is not for %s (its extended key usage does not say so)", c.many)
}

func (c chain) tooLong(authority *x509.Certificate) *Failure {
	allows := "no other authority"
	if n := authority.MaxPathLen; n == 1 {
		allows = "1 other authority"
	} else if n > 1 {
		allows = fmt.Sprintf("%d other authorities", n)
	}
	return c.rejected("%s allows %s below it, and the chain has more (path length)", c.call(authority), allows)
}

func (c chain) criticalExtension(cert *x509.Certificate) *Failure {
	return c.rejected("%s has the critical extension %v, which is not known here", c.call(cert), cert.UnhandledCriticalExtensions[0])
}

// isAuthority is crypto/x509's condition (RFC 5280, section 4.2.1.9).
func isAuthority(c *x509.Certificate) bool {
	return c.IsCA || c.Version < 3 && !c.BasicConstraintsValid
}

func (c chain) mayNotSign(issuer *x509.Certificate) *Failure {
	why := "its key usage does not say so"
	if !isAuthority(issuer) {
		why = "its basic constraints do not make it an authority"
	}
	return c.rejected("%s may not sign other certificates (%s)", c.call(issuer), why)
}

// notSigned explains why nobody known has signed a certificate. refused, which may be nil, has its issuer's
// name and was not taken for it.
func (c chain) notSigned(cert, refused *x509.Certificate) *Failure {
	if refused == nil {
		return c.noIssuer(cert)
	}
	if key, ok := refused.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < leastVerified {
		return c.rejected("%s has a key of %d bits, which is too short", c.call(refused), key.N.BitLen())
	}
	// Its key first: of two certificates of one name, one may have nothing to do with the other.
	signed := refused.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature)
	issued := cert.CheckSignatureFrom(refused)
	var (
		weak    x509.InsecureAlgorithmError
		exceeds x509.ConstraintViolationError
	)
	switch {
	case errors.Is(signed, x509.ErrUnsupportedAlgorithm):
		return c.rejected("%s is signed with an algorithm that is not known here", c.call(cert))
	case signed != nil && !errors.As(signed, &weak):
		return c.rejected("%s is signed by another key than that of %s, which has its issuer's name", c.call(cert), c.call(refused))
	case errors.As(issued, &exceeds):
		return c.mayNotSign(refused)
	case errors.As(issued, &weak):
		return c.rejected("%s is signed with %s (%v), which is not safe any more", c.call(cert), weakHash(cert), cert.SignatureAlgorithm)
	case len(refused.UnhandledCriticalExtensions) > 0:
		return c.criticalExtension(refused)
	case c.now.Before(refused.NotBefore), c.now.After(refused.NotAfter):
		return c.wrongTime(refused)
	case !isAuthority(refused):
		return c.mayNotSign(refused)
	case refused.MaxPathLen >= 0:
		return c.tooLong(refused)
	}
	return c.noIssuer(cert)
}

// leastVerified is the shortest RSA key, in bits, that crypto/rsa verifies with.
const leastVerified = 1024

func weakHash(c *x509.Certificate) string {
	switch c.SignatureAlgorithm {
	case x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1:
		return "SHA-1"
	}
	return "MD5"
}

// noIssuer is why a certificate is not trusted that nobody known claims to have issued.
func (c chain) noIssuer(cert *x509.Certificate) *Failure {
	switch {
	case len(c.sent) == 0 || cert == nil:
		return c.rejected("%s has an unknown issuer", c.leaf)
	case !selfIssued(cert):
		return c.rejected("%s is issued by %q, which is neither a trusted root nor sent along by the %s (%s trust it)",
			c.call(cert), quote.Printable([]byte(cert.Issuer.String())), c.who(), c.trust)
	case cert.Equal(c.sent[0]):
		return c.rejected("%s is self-signed (%s) and not trusted (%s trust it)", c.leaf, Subject(cert), c.trust)
	}
	return c.rejected("%s chain ends in %q, which is not a trusted root (%s trust it)", c.leaf, Subject(cert), c.trust)
}

func (p party) who() string {
	if p.usage == x509.ExtKeyUsageClientAuth {
		return "client"
	}
	return "server"
}

// refusedIssuer returns the certificate that crypto/x509 has refused to take for the issuer, or nil: it
// hands out only a text that has its name, and the one that it is made of is read here.
func refusedIssuer(e x509.UnknownAuthorityError) *x509.Certificate {
	hint := reflect.ValueOf(e).FieldByName("hintCert")
	if !hint.IsValid() || hint.Type() != reflect.TypeFor[*x509.Certificate]() || hint.IsNil() {
		return nil
	}
	cert, err := x509.ParseCertificate(bytes.Clone(hint.Elem().FieldByName("Raw").Bytes()))
	if err != nil {
		return nil
	}
	return cert
}
