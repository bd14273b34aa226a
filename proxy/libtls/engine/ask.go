package engine

import (
	"time"
)

// ContainsName reports whether the first certificate of a PEM chain is for name.
func ContainsName(chain []byte, name string) (bool, error) {
	certs, err := parseChain(chain)
	if err != nil {
		return false, err
	}
	return matchName(certs[0], name, false)
}

// ProcessOCSP says what a response says of a PEM chain, as a struct tw_tls_facts.
func (c *Config) ProcessOCSP(chainPEM, response []byte) []byte {
	f := newFacts()
	sent, err := parseChain(chainPEM)
	if err != nil {
		f.fail(err.Error())
		return f.marshal()
	}
	now := time.Now()
	result, p := checkResponse(response, c.bestChain(sent, now), now)
	if result != nil {
		f.setOCSP(result)
		f.setOCSPURL(sent[0])
	}
	if p != nil {
		f.fail(p.text)
	}
	return f.marshal()
}
