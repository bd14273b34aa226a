package verdict

import (
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/quote"
)

// wrongTime explains why a certificate does not count now.
func (c chain) wrongTime(bad *x509.Certificate) *Failure {
	if bad == nil {
		return Failf(unix.EKEYEXPIRED, "%s is not valid today", c.leaf)
	}
	what := c.call(bad)
	if c.now.Before(bad.NotBefore) {
		return Failf(unix.EKEYEXPIRED, "%s is not valid before %s", what, bad.NotBefore.UTC().Format(time.DateTime+" MST"))
	}
	return Failf(unix.EKEYEXPIRED, "%s expired %s ago, on %s", what, roughly(c.now.Sub(bad.NotAfter)),
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

func selfIssued(c *x509.Certificate) bool {
	return string(c.RawIssuer) == string(c.RawSubject)
}

func Subject(c *x509.Certificate) string {
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
