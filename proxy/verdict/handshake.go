package verdict

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/quote"
	"tlswrap/rules"
)

// Attempt is what is known about a handshake when it fails.
type Attempt struct {
	Name     string // that was to be verified
	Nameless bool   // the program came with an address alone, and the rule has no name
	Head     []byte // what the peer sent first
	Timeout  time.Duration
	Asked    bool // the server asked for a client certificate
	HasCert  bool
	Upgraded bool // the server had agreed to TLS before
	Min      uint16
	Legacy   []string // what the rule's allow_legacy has
	Now      time.Time
}

// Explain turns the error of a handshake into errno and sentence.
func (a *Attempt) Explain(err error) *Failure {
	var (
		failure  *Failure
		verify   *tls.CertificateVerificationError
		pin      PinError
		header   tls.RecordHeaderError
		errno    unix.Errno
		hostname x509.HostnameError
	)
	if alert, ok := RemoteAlert(err); ok {
		return a.ExplainAlert(alert, err)
	}
	switch {
	case errors.As(err, &failure):
		return failure
	case errors.As(err, &verify):
		return a.explainChain(verify)
	case errors.As(err, &hostname): // checked again when a TLS session is resumed
		return a.explainName(hostname)
	case errors.As(err, &pin):
		return Failf(unix.EKEYREJECTED, "%v", pin)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return a.explainSilence()
	case errors.As(err, &header):
		return Failf(unix.EPROTO, "the server does not speak TLS on this port%s%s", a.quote(), a.whatItSpeaks())
	case errors.As(err, &errno):
		return Failf(errno, "during the TLS handshake: %v", errno)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Failf(unix.EPROTO, "the server closed the connection during the TLS handshake%s", a.quote())
	}
	if v := a.offered(); v != 0 && v < a.Min {
		return Failf(unix.EPROTO, "the server offers only %s, and the rule demands at least %s (min_version = %q would allow it)",
			tls.VersionName(v), tls.VersionName(a.Min), versionKey(v))
	}
	return Failf(unix.EPROTO, "TLS handshake: %s", strings.TrimPrefix(err.Error(), "tls: "))
}

func (a *Attempt) explainSilence() *Failure {
	if len(a.Head) == 0 {
		return Failf(unix.ETIMEDOUT, "the server accepted the connection but did not answer the TLS handshake within %v", a.Timeout)
	}
	return Failf(unix.ETIMEDOUT, "the server did not finish the TLS handshake within %v", a.Timeout)
}

// TLS alerts (RFC 8446, section 6) that deserve a sentence of their own.
const (
	alertHandshakeFailure     = 40
	alertBadCertificate       = 42
	alertUnknownCA            = 48
	alertProtocolVersion      = 70
	alertInsufficientSecurity = 71
	alertUnrecognizedName     = 112
	alertCertificateRequired  = 116
	alertNoApplicationProto   = 120
)

// RemoteAlert returns the number of the alert that the server sent, if err is one.
// crypto/tls does not export the type, only what it is made of.
func RemoteAlert(err error) (uint8, bool) {
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

func (a *Attempt) ExplainAlert(alert uint8, err error) *Failure {
	switch alert {
	case alertProtocolVersion:
		older := ""
		if a.Min > tls.VersionTLS10 {
			older = `; min_version = "1.0" would allow older ones`
		}
		return Failf(unix.EPROTO, "the server and this rule have no TLS version in common (the rule demands at least %s)%s", tls.VersionName(a.Min), older)
	case alertNoApplicationProto:
		return Failf(unix.EPROTO, "the server supports none of the rule's ALPN protocols (alpn)")
	case alertUnrecognizedName:
		return Failf(unix.EPROTO, "the server does not know the name %s (server_name in the rule would send another)", a.Name)
	case alertCertificateRequired:
		return a.explainClientCert()
	case alertHandshakeFailure, alertBadCertificate, alertUnknownCA, alertInsufficientSecurity:
		if a.Asked {
			return a.explainClientCert()
		}
	}
	offered := ""
	if a.Min != 0 && (alert == alertHandshakeFailure || alert == alertInsufficientSecurity) {
		offered = a.whatWasOffered()
	}
	return Failf(unix.EPROTO, "the server answered with an alert: %s%s", strings.TrimPrefix(err.Error(), "remote error: tls: "), offered)
}

// whatWasOffered tells why a server may have refused to choose, which it does not say, and what it could be
// offered beside.
func (a *Attempt) whatWasOffered() string {
	s := fmt.Sprintf("; it may know nothing of what was offered, %s to %s with ECDHE key exchange, and AES-GCM, AES-CBC with SHA-1 or ChaCha20",
		tls.VersionName(a.Min), tls.VersionName(tls.VersionTLS13))
	if a.Min == tls.VersionTLS13 {
		return fmt.Sprintf("; it may know nothing of what was offered, %s alone (min_version = \"1.2\" in the rule would offer more)", tls.VersionName(a.Min))
	}
	var missing []string
	for _, word := range rules.LegacyCiphers {
		if !slices.Contains(a.Legacy, word) {
			missing = append(missing, strconv.Quote(word))
		}
	}
	if len(a.Legacy) > 0 {
		s += ", and " + strings.Join(a.Legacy, ", ")
	}
	if len(missing) > 0 {
		s += fmt.Sprintf(" (allow_legacy = [%s] in the rule would offer that of old servers)", strings.Join(missing, ", "))
	}
	return s + "; DHE alone cannot be spoken"
}

// versionKey is a version of TLS as min_version has it.
func versionKey(v uint16) string { return strings.TrimPrefix(tls.VersionName(v), "TLS ") }

func (a *Attempt) explainClientCert() *Failure {
	if a.HasCert {
		return Failf(unix.EPROTO, "the server did not accept the rule's client certificate")
	}
	return Failf(unix.EPROTO, "the server demands a client certificate, and the rule has no cert_file")
}

// explainName is about a certificate for another host. A program that came with an address alone may well
// have meant one of those that it is for.
func (a *Attempt) explainName(e x509.HostnameError) *Failure {
	hint := ""
	if a.Nameless {
		name := "NAME"
		if names := e.Certificate.DNSNames; len(names) > 0 && !strings.HasPrefix(names[0], "*") {
			name = quote.Printable([]byte(names[0]))
		}
		hint = fmt.Sprintf("; the program came with an address and no name: server_name = %q in a rule for the address would verify that name, if it is meant", name)
	}
	return Failf(unix.EKEYREJECTED, "certificate is for %s, not %s%s", certNames(e.Certificate), a.Name, hint)
}

func (a *Attempt) explainChain(e *tls.CertificateVerificationError) *Failure {
	if hostname, ok := errors.AsType[x509.HostnameError](e); ok {
		return a.explainName(hostname)
	}
	return chain{aServer, e.UnverifiedCertificates, a.Now}.why(e)
}

// offered is the version of the ServerHello that the peer sent, or 0.
func (a *Attempt) offered() uint16 {
	const typeHandshake, serverHello, at = 22, 2, 9
	if len(a.Head) < at+2 || a.Head[0] != typeHandshake || a.Head[5] != serverHello {
		return 0
	}
	return binary.BigEndian.Uint16(a.Head[at:])
}

// quote says what the peer sent instead of TLS.
func (a *Attempt) quote() string {
	if len(a.Head) == 0 || a.Head[0] == 22 || a.Head[0] == 21 {
		return ""
	}
	return ": it said " + quote.Line(a.Head)
}

// whatItSpeaks is a hint at the rule for a server that speaks something else than TLS at once.
func (a *Attempt) whatItSpeaks() string {
	if a.Upgraded {
		return ""
	}
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return bytes.Contains(a.Head, []byte(w)) })
	}
	begins := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return bytes.HasPrefix(a.Head, []byte(w)) })
	}
	protocol := ""
	switch {
	case begins("SSH-"):
		return ` (that is SSH, which encrypts by itself: action = "pass" would let it)`
	case begins("HTTP/"):
		return ` (that is HTTP: if TLS is spoken on another port, such as 443, upstream = ":443" in the rule goes there)`
	case begins("220") && has("FTP", "ftp"):
		protocol = "ftp"
	case begins("220"):
		protocol = "smtp"
	case begins("* OK", "* PREAUTH"):
		protocol = "imap"
	case begins("+OK"):
		protocol = "pop3"
	case begins("200 ", "201 "):
		protocol = "nntp"
	case begins("\"IMPLEMENTATION\""):
		protocol = "sieve"
	case begins("<?xml", "<stream:"):
		protocol = "xmpp"
	case len(a.Head) > 5 && a.Head[3] == 0 && a.Head[4] == 10 && has("mysql", "caching_sha2", "MariaDB"):
		protocol = "mysql"
	default:
		return ""
	}
	return fmt.Sprintf(" (starttls = %q in the rule would ask it for TLS)", protocol)
}

// Client explains why a client's handshake failed, of which head came first.
func Client(err error, head []byte, timeout time.Duration) *Failure {
	var (
		verify  *tls.CertificateVerificationError
		header  tls.RecordHeaderError
		errno   unix.Errno
		failure *Failure
	)
	if errors.As(err, &failure) {
		return failure
	}
	if alert, ok := RemoteAlert(err); ok {
		return Failf(unix.EPROTO, "the client refused: %s", alertText(alert, err))
	}
	switch {
	case errors.As(err, &verify):
		return chain{aClient, verify.UnverifiedCertificates, time.Now()}.why(verify)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Failf(unix.ETIMEDOUT, "the client did not finish the TLS handshake within %v", timeout)
	case errors.As(err, &header):
		a := Attempt{Head: head}
		return Failf(unix.EPROTO, "the client does not speak TLS%s", a.quote())
	case errors.As(err, &errno):
		return Failf(errno, "during the TLS handshake: %v", errno)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Failf(unix.EPROTO, "the client closed the connection during the TLS handshake")
	}
	return Failf(unix.EPROTO, "TLS handshake: %s", strings.TrimPrefix(err.Error(), "tls: "))
}

// alertText is what a client's alert is taken for by people.
func alertText(alert uint8, err error) string {
	switch alert {
	case alertBadCertificate, alertUnknownCA:
		return "it does not accept the certificate"
	case alertProtocolVersion:
		return "it has no TLS version in common"
	}
	return "alert: " + strings.TrimPrefix(err.Error(), "remote error: tls: ")
}

// SentChain is the chain that a failed verification was about.
func SentChain(err error) []*x509.Certificate {
	var v *tls.CertificateVerificationError
	if errors.As(err, &v) {
		return v.UnverifiedCertificates
	}
	return nil
}
