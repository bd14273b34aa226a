// Package verdict says how setting up a connection, or carrying it, has ended: an error of the
// network, of TLS, of a certificate or of a dialogue goes in, and an errno for the program and a
// sentence for a person come out. Why a program's connect says EKEYREJECTED or EPROTO is told here;
// what only trust demands (the bits of RSA keys, staples, a list of clients) has its sentence
// there, as a Failure of this package. It decides nothing, and what it returns is not changed any
// more. All that serve connections call it.
package verdict

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/starttls"
	"tlswrap/rules"
)

// Failure is a connection's setup that ended badly: the errno that the program gets
// and what a person is told.
type Failure struct {
	Errno  unix.Errno
	Reason string
}

// plainErrnos are those that every connect(2) has, and tables of errnos know.
var plainErrnos = []unix.Errno{unix.EACCES, unix.EPERM, unix.EADDRINUSE, unix.EADDRNOTAVAIL, unix.ECONNREFUSED,
	unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ENETDOWN, unix.ETIMEDOUT}

// Told is the errno that a program gets which is let know of a failure in setting its connection up: plain
// is set where that has to be one that every connect(2) has. A server that was reached and is not to be
// talked to has refused then.
func (f *Failure) Told(plain bool) unix.Errno {
	if plain && !slices.Contains(plainErrnos, f.Errno) {
		return unix.ECONNREFUSED
	}
	return f.Errno
}

// ofCertificate reports whether f is about the server's certificate: trying again at once would end in the same.
func (f *Failure) ofCertificate() bool {
	return f.Errno == unix.EKEYREJECTED || f.Errno == unix.EKEYEXPIRED
}

func (f *Failure) Error() string { return f.Reason }

func Failf(errno unix.Errno, format string, args ...any) *Failure {
	return &Failure{errno, fmt.Sprintf(format, args...)}
}

// By is f as it is told of a proxy that is on the way.
func (f *Failure) By(proxy rules.Endpoint) *Failure {
	return Failf(f.Errno, "by way of %s: %s", proxy, f.Reason)
}

// OfCall is a system call's failure.
func OfCall(err error, format string, args ...any) *Failure {
	errno := unix.ENETDOWN
	errors.As(err, &errno)
	return Failf(errno, format+": %v", append(args, err)...)
}

// PinError is what verification ends in where chain and name are good and no pin is.
type PinError struct{ Have [sha256.Size]byte }

func (e PinError) Error() string {
	return "the server's key is not among the rule's pins: it is sha256/" +
		base64.StdEncoding.EncodeToString(e.Have[:]) + " (which is to be one of them if that is its new key)"
}

// Dial explains why the upstream could not be reached.
func Dial(err error, to netip.AddrPort, timeout time.Duration) *Failure {
	var errno unix.Errno
	var dns *net.DNSError
	switch {
	case errors.As(err, &errno):
		return Failf(errno, "connecting to %s: %v", to, errno)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Failf(unix.ETIMEDOUT, "connecting to %s: no answer within %v", to, timeout)
	case errors.As(err, &dns):
		return Failf(unix.EHOSTUNREACH, "looking up %s: %s", dns.Name, dns.Err)
	}
	return Failf(unix.EHOSTUNREACH, "connecting to %s: %v", to, err)
}

// Dialogue explains why a dialogue, or a proxy's, ended badly.
func Dialogue(err error) *Failure {
	var (
		failure *Failure
		fault   *starttls.Error
		errno   unix.Errno
	)
	switch {
	case errors.As(err, &failure):
		return failure
	case errors.As(err, &fault):
		return Failf(unix.EPROTO, "%s", fault.Reason)
	case errors.As(err, &errno):
		return Failf(errno, "before TLS: %v", errno)
	}
	return Failf(unix.EPROTO, "before TLS: %v", err)
}

func Broken(err error) *Failure {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return Failf(errno, "the connection broke: %v", errno)
	}
	return Failf(unix.ECONNRESET, "the connection broke: %v", err)
}

func LookUp(err error) string {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return fmt.Sprintf("looking up %s: %s", dns.Name, dns.Err)
	}
	return err.Error()
}
