package engine

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"net/netip"
	"strings"
)

// Names are matched as libtls matches them (tls_verify.c), which is not how crypto/x509 does: a
// common name counts where there is no alternative name, and a wildcard must have two labels
// after it.

// matchName reports whether a certificate is for name, a host or an IP literal. The error is of
// a certificate that is not to be trusted with names. With always a common name counts also
// where other names are.
func matchName(cert *x509.Certificate, name string, always bool) (bool, error) {
	ip, err := netip.ParseAddr(name)
	isIP := err == nil && ip.Zone() == ""
	matched, alternatives, err := matchAlternatives(cert, name, ip, isIP)
	if matched || err != nil {
		return matched, err
	}
	if alternatives && !always {
		return false, nil
	}
	return matchCommonName(cert, name, isIP)
}

var oidSAN = asn1.ObjectIdentifier{2, 5, 29, 17}

const (
	sanDNS = 2
	sanIP  = 7
)

func matchAlternatives(cert *x509.Certificate, name string, ip netip.Addr, isIP bool) (matched, found bool, err error) {
	for _, ext := range cert.Extensions {
		if !ext.Id.Equal(oidSAN) {
			continue
		}
		var seq asn1.RawValue
		if rest, err := asn1.Unmarshal(ext.Value, &seq); err != nil || len(rest) > 0 {
			return false, true, nil
		}
		for rest := seq.Bytes; len(rest) > 0; {
			var v asn1.RawValue
			if rest, err = asn1.Unmarshal(rest, &v); err != nil {
				return false, true, nil
			}
			switch v.Tag {
			case sanDNS:
				found = true
				if isIP {
					continue
				}
				if bytes.IndexByte(v.Bytes, 0) >= 0 {
					return false, true, fmt.Errorf("error verifying name '%s': NUL byte in subjectAltName, probably a malicious certificate", name)
				}
				if string(v.Bytes) == " " { // RFC 5280, section 4.2.1.6
					return false, true, fmt.Errorf("error verifying name '%s': a dNSName of \" \" must not be used", name)
				}
				if matchHost(string(v.Bytes), name) {
					return true, true, nil
				}
			case sanIP:
				found = true
				if isIP && bytes.Equal(v.Bytes, ip.AsSlice()) {
					return true, true, nil
				}
			}
		}
	}
	return false, found, nil
}

var oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}

const mostCommonName = 64 // ub-common-name, RFC 5280, appendix A.1

func matchCommonName(cert *x509.Certificate, name string, isIP bool) (bool, error) {
	names, err := rdns(cert.RawSubject)
	if err != nil {
		return false, nil
	}
	var common []attribute
	for _, a := range names {
		if a.oid.Equal(oidCommonName) {
			common = append(common, a)
		}
	}
	if len(common) == 0 {
		return false, nil
	}
	if len(common) > 1 {
		return false, fmt.Errorf("error verifying name '%s': Certificate subject contains multiple Common Name fields, probably a malicious or malformed certificate", name)
	}
	cn := common[0].text()
	if strings.IndexByte(cn, 0) >= 0 {
		return false, fmt.Errorf("error verifying name '%s': NUL byte in Common Name field, probably a malicious certificate", name)
	}
	if n := len(cn); n < 1 || n > mostCommonName {
		return false, fmt.Errorf("error verifying name '%s': Common Name field has invalid length", name)
	}
	if isIP { // as it is written, and without wildcards
		return cn == name, nil
	}
	return matchHost(cn, name), nil
}

// matchHost compares a certificate's name with a host's; see tls_match_name.
func matchHost(pattern, host string) bool {
	if sameHost(pattern, host) {
		return true
	}
	domain, ok := strings.CutPrefix(pattern, "*")
	if !ok {
		return false
	}
	// "*" must be a whole label, with two more behind it that are not empty.
	if !strings.HasPrefix(domain, ".") || len(domain) < 2 || domain[1] == '.' {
		return false
	}
	next := strings.IndexByte(domain[1:], '.')
	if next < 0 {
		return false // no second dot: *.tld
	}
	if rest := domain[next+2:]; rest == "" || rest[0] == '.' {
		return false
	}
	first := strings.IndexByte(host, '.')
	if first <= 0 || len(host[first:]) == 1 {
		return false
	}
	return sameHost(host[first:], domain)
}

// sameHost folds ASCII alone: letters that Unicode folds to ASCII's, such as the Kelvin sign, are
// longer in UTF-8.
func sameHost(a, b string) bool { return len(a) == len(b) && strings.EqualFold(a, b) }
