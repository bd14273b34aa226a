package engine

import (
	"errors"
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
	sent, err := parseChain(chainPEM)
	if err != nil {
		return failure(err.Error()).marshal()
	}
	now := time.Now()
	f := newFacts()
	result, err := checkResponse(response, c.bestChain(sent, now), now)
	if result != nil {
		f.setOCSP(result)
		f.setOCSPURL(sent[0])
	}
	if p, ok := errors.AsType[*problem](err); ok {
		f.numbers[numFailed] = 1
		f.set(strError, p.text)
	}
	return f.marshal()
}
