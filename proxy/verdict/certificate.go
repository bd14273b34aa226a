package verdict

import (
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"tlswrap/proxy/quote"
)

func whenValid(bad *x509.Certificate, sent []*x509.Certificate, now time.Time) string {
	what := "certificate"
	if len(sent) > 0 && bad != nil && !bad.Equal(sent[0]) {
		what = fmt.Sprintf("the issuer's certificate %q", Subject(bad))
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
		return fmt.Sprintf("certificate is self-signed (%s) and not trusted", Subject(leaf))
	case selfIssued(last):
		return fmt.Sprintf("certificate chain ends in %q, which is not a trusted root", Subject(last))
	}
	return fmt.Sprintf("certificate is issued by %q, which is neither a trusted root nor sent along by the server",
		last.Issuer.String())
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
