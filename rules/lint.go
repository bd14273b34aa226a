package rules

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"
)

// Lint finds what is legal but surely not meant, in the order of the rules. It reads
// the files that the rules name.
func (p *Policy) Lint() []*Error {
	l := &linter{now: time.Now()}
	if p.CAFile != "" {
		l.authorities(p.CA())
	}
	for i, r := range p.Rules {
		for _, earlier := range p.Rules[:i] {
			if earlier.Host.covers(r.Host) && earlier.coversPorts(r) {
				l.warnf(r.Pos, "rule %d never matches: rule %d (line %d) matches all that it does", r.Index, earlier.Index, earlier.Pos.Line)
				break
			}
		}
		l.wildcard(p, r)
		if r.CAFile != "" {
			l.authorities(r.CA())
		}
		if r.CertFile != "" {
			l.pair(r.ClientPair(), x509.ExtKeyUsageClientAuth)
		}
	}
	for i, listen := range p.Listens {
		for _, earlier := range p.Listens[:i] {
			if (!earlier.Address.IsValid() || earlier.Address == listen.Address) && earlier.coversPorts(listen.Rule) {
				l.warnf(listen.Pos, "listen %d never counts: listen %d (line %d) covers all that it does", listen.Index, earlier.Index, earlier.Pos.Line)
				break
			}
		}
		for _, pair := range listen.ServerPairs() {
			l.pair(pair, x509.ExtKeyUsageServerAuth)
		}
		if listen.OCSPFile != "" {
			_, err := listen.OCSP().Read()
			l.note(err)
		}
		if listen.ClientAuth == OptionalClientAuth && len(listen.Allow) > 0 {
			l.warnf(listen.Pos, "listen %d lets in clients without a certificate, whoever allow names: client_auth is \"optional\"", listen.Index)
		}
		if listen.ClientCAFile != "" {
			l.authorities(listen.ClientCA())
		}
	}
	return l.found
}

type linter struct {
	found []*Error
	now   time.Time
}

func (l *linter) warnf(pos Pos, format string, args ...any) {
	l.found = append(l.found, &Error{Pos: pos, Msg: fmt.Sprintf(format, args...)})
}

// note adds a mistake of a file's, if there is one.
func (l *linter) note(err error) {
	if mistake, ok := errors.AsType[*Error](err); ok && mistake != nil {
		l.found = append(l.found, mistake)
	}
}

// authorities checks a file with certificates to trust.
func (l *linter) authorities(f File) {
	certs, err := f.Certificates()
	l.note(err)
	if !slices.ContainsFunc(certs, func(c *x509.Certificate) bool { return !l.now.After(c.NotAfter) }) && len(certs) > 0 {
		l.warnf(f.Pos, "%s %s has no certificate that has not expired", f.Key, f.Path)
	}
	l.whole(f)
}

// whole checks that nothing in a PEM file is passed over because it is broken.
func (l *linter) whole(f File) {
	data, err := f.Read()
	if err != nil {
		return // told already
	}
	blocks := 0
	for rest := data; ; blocks++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
	}
	begun := bytes.Count(append([]byte("\n"), data...), []byte("\n-----BEGIN "))
	if blocks > 0 && begun > blocks {
		l.warnf(f.Pos, "%s %s has %s that cannot be read, and is passed over", f.Key, f.Path, count(begun-blocks, "block", "blocks"))
	}
}

// pair checks a certificate and its key, which are for usage.
func (l *linter) pair(p Pair, usage x509.ExtKeyUsage) (leaf *x509.Certificate) {
	_, _, chain, err := p.Read()
	if errs, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range errs.Unwrap() {
			l.note(err)
		}
	} else {
		l.note(err)
	}
	l.whole(p.Cert)
	l.private(p.Key)
	if err != nil {
		return nil
	}
	if wrong := p.disorder(chain); wrong != nil {
		l.note(wrong)
	}
	leaf = chain[0]
	const form = "2006-01-02 15:04:05 MST"
	switch {
	case l.now.After(leaf.NotAfter):
		l.warnf(p.Cert.Pos, "cert_file %s has expired on %s", p.Cert.Path, leaf.NotAfter.UTC().Format(form))
	case l.now.Before(leaf.NotBefore):
		l.warnf(p.Cert.Pos, "cert_file %s is not valid before %s", p.Cert.Path, leaf.NotBefore.UTC().Format(form))
	}
	if len(leaf.ExtKeyUsage) > 0 && !slices.Contains(leaf.ExtKeyUsage, usage) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny) {
		who := "servers"
		if usage == x509.ExtKeyUsageClientAuth {
			who = "clients"
		}
		l.warnf(p.Cert.Pos, "cert_file %s is not for TLS %s (its extended key usage does not say so)", p.Cert.Path, who)
	}
	return leaf
}

// private checks that nobody else can read a key.
func (l *linter) private(f File) {
	const others fs.FileMode = 0o077
	if fi, err := os.Stat(f.Path); err == nil && fi.Mode().Perm()&others != 0 {
		l.warnf(f.Pos, "key_file %s can be read by others (mode %04o, expected 0600)", f.Path, fi.Mode().Perm())
	}
}

// wildcard reminds of what a rule for names that nobody can look up does not hold.
func (l *linter) wildcard(p *Policy, r *Rule) {
	if r.Host.Suffix == "" || r.Action == Pass || p.Default != Pass || slices.ContainsFunc(p.Rules, func(other *Rule) bool {
		return other.Host.All && other.Action != Pass && other.coversPorts(r)
	}) {
		return
	}
	_, meant := p.keys["default"]
	closes := `default = "deny" closes that`
	if !meant {
		closes += `, and default = "pass" in the file says that it is meant`
	}
	l.found = append(l.found, &Error{r.keys["host"], fmt.Sprintf("rule %d does not cover a program that connects to an address of %q which it has not looked up by the C library "+
		"(or, where the kernel holds it, at port 53), and it passes: %s", r.Index, r.Host, closes), meant})
}

// count is a number of things, for people.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
