package proxy

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/quote"
	"tlswrap/rules"
)

// Failure is a connection's setup that ended badly: the errno that the program gets
// and what a person is told.
type Failure struct {
	Errno  unix.Errno
	Reason string
}

func (f *Failure) Error() string { return f.Reason }

func failf(errno unix.Errno, format string, args ...any) *Failure {
	return &Failure{errno, fmt.Sprintf(format, args...)}
}

// errPin is what verification ends in where chain and name are good and no pin is.
type errPin struct{ have [sha256.Size]byte }

func (e errPin) Error() string {
	return "the server's key is not among the rule's pins: it is sha256/" +
		base64.StdEncoding.EncodeToString(e.have[:])
}

// tlsConfig is the configuration for one connection under rule to a server that has
// to be name: the chain and the name are verified by crypto/tls, the pins on top.
func (t *trust) tlsConfig(rule *rules.Rule, name string) (*tls.Config, *clientAuth, error) {
	roots, err := t.pool()
	if err != nil {
		return nil, nil, err
	}
	auth := &clientAuth{cert: t.client}
	return &tls.Config{
		RootCAs:              roots,
		ServerName:           name,
		InsecureSkipVerify:   rule.VerifyNone,
		MinVersion:           rule.MinVersion,
		NextProtos:           rule.ALPN,
		ClientSessionCache:   t.sessions,
		GetClientCertificate: auth.get,
		VerifyConnection: func(s tls.ConnectionState) error {
			return checkPins(rule.Pins, s.PeerCertificates)
		},
	}, auth, nil
}

// clientAuth presents the rule's certificate and remembers whether one was asked for.
type clientAuth struct {
	cert  *tls.Certificate
	asked bool
}

func (a *clientAuth) get(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	a.asked = true
	if a.cert == nil {
		return new(tls.Certificate), nil
	}
	return a.cert, nil
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
	return errPin{have}
}

// attempt is what is known about a handshake when it fails.
type attempt struct {
	name    string // that was to be verified
	head    []byte // what the peer sent first
	timeout time.Duration
	asked   bool // the server asked for a client certificate
	hasCert bool
	min     uint16
	now     time.Time
}

// explain turns the error of a handshake into errno and sentence.
func (a *attempt) explain(err error) *Failure {
	var (
		failure  *Failure
		verify   *tls.CertificateVerificationError
		pin      errPin
		header   tls.RecordHeaderError
		errno    unix.Errno
		hostname x509.HostnameError
	)
	if alert, ok := remoteAlert(err); ok {
		return a.explainAlert(alert, err)
	}
	switch {
	case errors.As(err, &failure):
		return failure
	case errors.As(err, &verify):
		return a.explainChain(verify)
	case errors.As(err, &hostname): // checked again when a session is resumed
		return a.explainName(hostname)
	case errors.As(err, &pin):
		return failf(unix.EKEYREJECTED, "%v", pin)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return a.explainSilence()
	case errors.As(err, &header):
		return failf(unix.EPROTO, "the server does not speak TLS on this port%s", a.quote())
	case errors.As(err, &errno):
		return failf(errno, "during the TLS handshake: %v", errno)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return failf(unix.EPROTO, "the server closed the connection during the TLS handshake%s", a.quote())
	}
	if v := a.offered(); v != 0 && v < a.min {
		return failf(unix.EPROTO, "the server offers only %s, and the rule demands at least %s",
			tls.VersionName(v), tls.VersionName(a.min))
	}
	return failf(unix.EPROTO, "TLS handshake: %s", strings.TrimPrefix(err.Error(), "tls: "))
}

func (a *attempt) explainSilence() *Failure {
	if len(a.head) == 0 {
		return failf(unix.ETIMEDOUT, "the server accepted the connection but did not answer the TLS handshake within %v", a.timeout)
	}
	return failf(unix.ETIMEDOUT, "the server did not finish the TLS handshake within %v", a.timeout)
}

// TLS alerts (RFC 8446, section 6) that deserve a sentence of their own.
const (
	alertHandshakeFailure    = 40
	alertBadCertificate      = 42
	alertUnknownCA           = 48
	alertProtocolVersion     = 70
	alertUnrecognizedName    = 112
	alertCertificateRequired = 116
	alertNoApplicationProto  = 120
)

// remoteAlert returns the number of the alert that the server sent, if err is one.
// crypto/tls does not export the type, only what it is made of.
func remoteAlert(err error) (uint8, bool) {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" {
		return 0, false
	}
	v := reflect.ValueOf(op.Err)
	if v.Kind() != reflect.Uint8 {
		return 0, false
	}
	return uint8(v.Uint()), true
}

func (a *attempt) explainAlert(alert uint8, err error) *Failure {
	switch alert {
	case alertProtocolVersion:
		return failf(unix.EPROTO, "the server and this rule have no TLS version in common (the rule demands at least %s)", tls.VersionName(a.min))
	case alertNoApplicationProto:
		return failf(unix.EPROTO, "the server supports none of the rule's ALPN protocols")
	case alertUnrecognizedName:
		return failf(unix.EPROTO, "the server does not know the name %s", a.name)
	case alertCertificateRequired:
		return a.explainClientCert()
	case alertHandshakeFailure, alertBadCertificate, alertUnknownCA:
		if a.asked {
			return a.explainClientCert()
		}
	}
	return failf(unix.EPROTO, "the server answered with an alert: %s", strings.TrimPrefix(err.Error(), "remote error: tls: "))
}

func (a *attempt) explainClientCert() *Failure {
	if a.hasCert {
		return failf(unix.EPROTO, "the server did not accept the rule's client certificate")
	}
	return failf(unix.EPROTO, "the server demands a client certificate, and the rule has no cert_file")
}

func (a *attempt) explainName(e x509.HostnameError) *Failure {
	return failf(unix.EKEYREJECTED, "certificate is for %s, not %s", certNames(e.Certificate), a.name)
}

func (a *attempt) explainChain(e *tls.CertificateVerificationError) *Failure {
	var (
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
		unknown  x509.UnknownAuthorityError
	)
	switch {
	case errors.As(e, &hostname):
		return a.explainName(hostname)
	case errors.As(e, &unknown):
		return failf(unix.EKEYREJECTED, "%s", unknownIssuer(e.UnverifiedCertificates))
	case errors.As(e, &invalid):
		switch invalid.Reason {
		case x509.Expired:
			return failf(unix.EKEYEXPIRED, "%s", whenValid(invalid.Cert, e.UnverifiedCertificates, a.now))
		case x509.IncompatibleUsage:
			return failf(unix.EKEYREJECTED, "certificate is not for TLS servers (its extended key usage does not say so)")
		}
	}
	return failf(unix.EKEYREJECTED, "certificate: %s", strings.TrimPrefix(e.Err.Error(), "x509: "))
}

func whenValid(bad *x509.Certificate, sent []*x509.Certificate, now time.Time) string {
	what := "certificate"
	if len(sent) > 0 && bad != nil && !bad.Equal(sent[0]) {
		what = fmt.Sprintf("the issuer's certificate %q", subject(bad))
	}
	if bad == nil {
		return what + " is not valid today"
	}
	if now.Before(bad.NotBefore) {
		return fmt.Sprintf("%s is not valid before %s", what, bad.NotBefore.UTC().Format(time.DateTime+" MST"))
	}
	return fmt.Sprintf("%s expired %s ago, on %s", what, roughly(now.Sub(bad.NotAfter)),
		bad.NotAfter.UTC().Format(time.DateTime+" MST"))
}

// roughly prints a duration as a person says it.
func roughly(d time.Duration) string {
	for _, unit := range []struct {
		size time.Duration
		name string
	}{{365 * 24 * time.Hour, "year"}, {24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}} {
		if n := int(d / unit.size); n == 1 {
			return "1 " + unit.name
		} else if n > 1 {
			return fmt.Sprintf("%d %ss", n, unit.name)
		}
	}
	return "less than a minute"
}

func unknownIssuer(sent []*x509.Certificate) string {
	if len(sent) == 0 {
		return "certificate has an unknown issuer"
	}
	leaf, last := sent[0], sent[len(sent)-1]
	switch {
	case selfIssued(leaf):
		return fmt.Sprintf("certificate is self-signed (%s) and not trusted", subject(leaf))
	case selfIssued(last):
		return fmt.Sprintf("certificate chain ends in %q, which is not a trusted root", subject(last))
	}
	return fmt.Sprintf("certificate is issued by %q, which is neither a trusted root nor sent along by the server",
		last.Issuer.String())
}

func selfIssued(c *x509.Certificate) bool {
	return string(c.RawIssuer) == string(c.RawSubject)
}

func subject(c *x509.Certificate) string {
	if s := c.Subject.String(); s != "" {
		return quote.Printable([]byte(s))
	}
	return "no name"
}

// certNames lists what a certificate is for, as short as a sentence wants it.
func certNames(c *x509.Certificate) string {
	var names []string
	names = append(names, c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	const most = 4
	switch {
	case len(names) == 0 && c.Subject.CommonName != "":
		return fmt.Sprintf("no host (only a common name, %s, which is not enough)", quote.Printable([]byte(c.Subject.CommonName)))
	case len(names) == 0:
		return "no host"
	case len(names) > most:
		return fmt.Sprintf("%s and %d more", quote.Printable([]byte(strings.Join(names[:most], ", "))), len(names)-most)
	}
	return quote.Printable([]byte(strings.Join(names, ", ")))
}

// offered is the version of the ServerHello that the peer sent, or 0.
func (a *attempt) offered() uint16 {
	const typeHandshake, serverHello, at = 22, 2, 9
	if len(a.head) < at+2 || a.head[0] != typeHandshake || a.head[5] != serverHello {
		return 0
	}
	return binary.BigEndian.Uint16(a.head[at:])
}

// quote says what the peer sent instead of TLS.
func (a *attempt) quote() string {
	if len(a.head) == 0 || a.head[0] == 22 || a.head[0] == 21 {
		return ""
	}
	return ": it said " + quote.Line(a.head)
}

// dialFailure explains why the upstream could not be reached.
func dialFailure(err error, to netip.AddrPort, timeout time.Duration) *Failure {
	var errno unix.Errno
	var dns *net.DNSError
	switch {
	case errors.As(err, &errno):
		return failf(errno, "connecting to %s: %v", to, errno)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return failf(unix.ETIMEDOUT, "connecting to %s: no answer within %v", to, timeout)
	case errors.As(err, &dns):
		return failf(unix.EHOSTUNREACH, "looking up %s: %s", dns.Name, dns.Err)
	}
	return failf(unix.EHOSTUNREACH, "connecting to %s: %v", to, err)
}
