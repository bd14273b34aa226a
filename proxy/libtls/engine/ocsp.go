package engine

import (
	"crypto/x509"
	"time"

	"tlswrap/proxy/ocsp"
)

// checkResponse is ocsp.Check, whose words are libtls's.
func checkResponse(der []byte, chain []*x509.Certificate, now time.Time) (*ocsp.Result, *problem) {
	result, err := ocsp.Check(der, chain, now)
	if err != nil {
		return result, stapleProblem(err.Error())
	}
	return result, nil
}
