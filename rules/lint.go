package rules

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
)

// Lint finds what is legal but surely not meant, in the order of the rules. It reads
// the files that the rules name.
func (p *Policy) Lint() []*Error {
	l := &linter{}
	if p.CAFile != "" {
		l.pem(p.keys, "ca_file", p.CAFile, "CERTIFICATE")
	}
	for i, r := range p.Rules {
		for _, earlier := range p.Rules[:i] {
			if earlier.Host.covers(r.Host) && earlier.coversPorts(r) {
				l.warnf(r.Pos, "rule %d never matches: rule %d (line %d) matches all that it does", r.Index, earlier.Index, earlier.Pos.Line)
				break
			}
		}
		if r.CAFile != "" {
			l.pem(r.keys, "ca_file", r.CAFile, "CERTIFICATE")
		}
		if r.CertFile != "" {
			l.pem(r.keys, "cert_file", r.CertFile, "CERTIFICATE")
			l.pem(r.keys, "key_file", r.KeyFile, "PRIVATE KEY")
			l.private(r.keys, r.KeyFile)
		}
	}
	for i, listen := range p.Listens {
		for _, earlier := range p.Listens[:i] {
			if (!earlier.Address.IsValid() || earlier.Address == listen.Address) && earlier.coversPorts(listen.Rule) {
				l.warnf(listen.Pos, "listen %d never counts: listen %d (line %d) covers all that it does", listen.Index, earlier.Index, earlier.Pos.Line)
				break
			}
		}
		for _, pair := range listen.Pairs {
			l.pem(listen.keys, "cert_file", pair.CertFile, "CERTIFICATE")
			l.pem(listen.keys, "key_file", pair.KeyFile, "PRIVATE KEY")
			l.private(listen.keys, pair.KeyFile)
		}
		if listen.ClientAuth == OptionalClientAuth && len(listen.Allow) > 0 {
			l.warnf(listen.Pos, "listen %d lets in clients without a certificate, whoever allow names: client_auth is \"optional\"", listen.Index)
		}
		if listen.ClientCAFile != "" {
			l.pem(listen.keys, "client_ca_file", listen.ClientCAFile, "CERTIFICATE")
		}
	}
	return l.found
}

type linter struct{ found []*Error }

func (l *linter) warnf(pos Pos, format string, args ...any) {
	l.found = append(l.found, &Error{pos, fmt.Sprintf(format, args...)})
}

// pem checks that a file can be read and holds a block of a kind.
func (l *linter) pem(keys map[string]Pos, key, file, kind string) {
	data, err := os.ReadFile(file)
	if err != nil {
		l.warnf(keys[key], "%s cannot be read: %v", key, err)
		return
	}
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			l.warnf(keys[key], "%s %s has no %s in PEM form", key, file, kind)
			return
		}
		if bytes.HasSuffix([]byte(block.Type), []byte(kind)) {
			return
		}
	}
}

// private checks that nobody else can read a key.
func (l *linter) private(keys map[string]Pos, file string) {
	const others fs.FileMode = 0o077
	if fi, err := os.Stat(file); err == nil && fi.Mode().Perm()&others != 0 {
		l.warnf(keys["key_file"], "key_file %s can be read by others (mode %04o, expected 0600)", file, fi.Mode().Perm())
	}
}
