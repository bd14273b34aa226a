package trust

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"tlswrap/proxy/quote"
	"tlswrap/proxy/record"
	"tlswrap/proxy/verdict"
	"tlswrap/rules"
)

// Service is what one listen serves with.
type Service struct {
	Listen   *rules.Listen
	Config   *tls.Config       // nil where Broken is not
	Broken   error             // why the listen's files are of no use, so that nobody may listen there
	identity [sha256.Size]byte // of everything that a client's TLS session rests on
}

// newService reads the files that a listen names.
func newService(l *rules.Listen) *Service {
	s := &Service{Listen: l}
	s.Broken = s.read()
	return s
}

// files are those that a listen names.
func files(l *rules.Listen) []string {
	named := []string{l.OCSPFile, l.ClientCAFile}
	for _, pair := range l.Pairs {
		named = append(named, pair.CertFile, pair.KeyFile)
	}
	return slices.DeleteFunc(named, func(f string) bool { return f == "" })
}

func (s *Service) read() error {
	l := s.Listen
	config := &tls.Config{
		MinVersion: l.MinVersion,
		NextProtos: l.ALPN,
		// It is given, so that GODEBUG adds nothing to it.
		CipherSuites: cipherSuites(nil),
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d %q %d %d", l.MinVersion, l.ALPN, l.ClientAuth, l.MinRSABits)
	for _, c := range l.Allow {
		fmt.Fprintf(h, " %q %q", c.Name, c.URI)
		if c.Pin != nil {
			fmt.Fprintf(h, " %x", *c.Pin)
		}
	}
	for _, pair := range l.ServerPairs() {
		c, err := readPair(pair)
		if err != nil {
			return err
		}
		config.Certificates = append(config.Certificates, *c)
		fmt.Fprintf(h, " %x", c.Certificate)
	}
	if l.OCSPFile != "" {
		response, err := l.OCSP().Read()
		if err != nil {
			return err
		}
		config.Certificates[0].OCSPStaple = response
		fmt.Fprintf(h, " %x", response)
	}
	if l.ClientAuth != rules.NoClientAuth {
		certs, err := l.ClientCA().Certificates()
		if err != nil {
			return err
		}
		config.ClientCAs = x509.NewCertPool()
		for _, c := range certs {
			config.ClientCAs.AddCert(c)
			fmt.Fprintf(h, " %x", c.Raw)
		}
		config.ClientAuth = tls.VerifyClientCertIfGiven
		if l.ClientAuth == rules.RequireClientAuth {
			config.ClientAuth = tls.RequireAndVerifyClientCert
		}
		config.VerifyConnection = func(st tls.ConnectionState) error {
			if err := checkKeys("the client's certificate", l.MinRSABits, st.VerifiedChains); err != nil {
				return err
			}
			return checkClient(l.Allow, st.PeerCertificates)
		}
	}
	s.Config = record.ServerConfig(config)
	h.Sum(s.identity[:0])
	return nil
}

// checkClient passes a client that showed no certificate (where one is required
// crypto/tls has refused it), and one that the list has.
func checkClient(allow []rules.Client, chain []*x509.Certificate) error {
	if len(allow) == 0 || len(chain) == 0 {
		return nil
	}
	leaf := chain[0]
	names := clientNames(leaf)
	key := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	for _, c := range allow {
		switch {
		case c.Pin != nil && *c.Pin == key,
			c.Name != "" && slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, c.Name) }):
			return nil
		}
		for _, u := range leaf.URIs {
			if c.URI != "" && u.String() == c.URI {
				return nil
			}
		}
	}
	return errors.New("allow does not have the client " + ClientName(leaf))
}

// clientNames are the host names of a certificate, or its common name where it has none.
func clientNames(c *x509.Certificate) []string {
	if len(c.DNSNames) > 0 || c.Subject.CommonName == "" {
		return c.DNSNames
	}
	return []string{c.Subject.CommonName}
}

// ClientName is what a client is called for people, and for the PROXY protocol.
func ClientName(c *x509.Certificate) string {
	switch names := clientNames(c); {
	case len(c.URIs) > 0:
		return quote.Printable([]byte(c.URIs[0].String()))
	case c.Subject.CommonName != "":
		return quote.Printable([]byte(c.Subject.CommonName))
	case len(names) > 0:
		return quote.Printable([]byte(names[0]))
	}
	return verdict.Subject(c)
}

// newServices makes the services of a policy. One of old's whose certificates and demands
// are the same lends its configuration, and with it the keys of its TLS session tickets,
// which crypto/tls changes every day.
func (p *Policy) newServices(old *Policy) {
	for _, l := range p.Rules.Listens {
		s := newService(l)
		for _, f := range files(l) {
			if !slices.Contains(p.Files, f) {
				p.Files = append(p.Files, f)
			}
		}
		if old != nil && s.Broken == nil {
			for _, o := range old.services {
				if o.identity == s.identity {
					s.Config = o.Config
				}
			}
		}
		p.services[l] = s
	}
}

// Broken is what is wrong with the files of listens, but of those that were of no use before, or nil.
func (p *Policy) Broken(before *Policy) error {
	var broken []error
	for _, l := range p.Rules.Listens {
		if err := p.services[l].Broken; err != nil && !before.breaks(l) {
			broken = append(broken, err)
		}
	}
	return errors.Join(broken...)
}

// breaks reports whether a listen with l's files is of no use in p, which may be nil.
func (p *Policy) breaks(l *rules.Listen) bool {
	if p == nil {
		return false
	}
	return slices.ContainsFunc(p.Rules.Listens, func(o *rules.Listen) bool {
		return p.services[o].Broken != nil && slices.Equal(files(o), files(l))
	})
}
