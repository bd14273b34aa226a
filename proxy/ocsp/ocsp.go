// Package ocsp reads the OCSP responses that servers staple (RFC 6960), and verifies them against a chain
// that was verified before. It asks nobody. What follows from a response is decided by who calls it, the
// engine of libtls's programs and package trust.
package ocsp

import (
	"bytes"
	"crypto"
	"crypto/sha1"
	_ "crypto/sha256" // for crypto.SHA256.New
	_ "crypto/sha512" // for crypto.SHA384.New
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"time"
)

// Responses (section 4.2.1), as far as libtls's tls_ocsp.c looks at them.

type response struct {
	Status asn1.Enumerated
	Bytes  struct {
		Type  asn1.ObjectIdentifier
		Value []byte
	} `asn1:"explicit,tag:0,optional"`
}

type basicResponse struct {
	Data      responseData
	Algorithm pkix.AlgorithmIdentifier
	Signature asn1.BitString
	Certs     []asn1.RawValue `asn1:"explicit,tag:0,optional"`
}

type responseData struct {
	Raw       asn1.RawContent
	Version   int `asn1:"optional,default:0,explicit,tag:0"`
	Responder asn1.RawValue
	Produced  time.Time `asn1:"generalized"`
	Single    []singleResponse
}

type singleResponse struct {
	Cert struct {
		Hash   pkix.AlgorithmIdentifier
		Name   []byte
		Key    []byte
		Serial *big.Int
	}
	Good    asn1.Flag `asn1:"tag:0,optional"`
	Revoked struct {
		Time   time.Time       `asn1:"generalized"`
		Reason asn1.Enumerated `asn1:"explicit,tag:0,optional"`
	} `asn1:"tag:1,optional"`
	Unknown    asn1.Flag        `asn1:"tag:2,optional"`
	ThisUpdate time.Time        `asn1:"generalized"`
	NextUpdate time.Time        `asn1:"generalized,explicit,tag:0,optional"`
	Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
}

// Result is what a response says, as far as it was found to say anything.
type Result struct {
	Status     int // of the response, as on the wire
	Cert       int // one of the constants below, or -1 where it says nothing about the certificate
	Reason     int // of a revocation (RFC 5280, section 5.3.1), or -1
	ThisUpdate time.Time
	NextUpdate time.Time // zero for none
	Revoked    time.Time
	Text       string // as OpenSSL words it
}

// What a response says about a certificate; numbered as TLS_OCSP_CERT_*.
const (
	Good = iota
	Revoked
	Unknown
)

// As OpenSSL words them (OCSP_response_status_str, OCSP_crl_reason_str).
var (
	responseTexts = map[int]string{0: "successful", 1: "malformedrequest", 2: "internalerror", 3: "trylater", 5: "sigrequired", 6: "unauthorized"}
	reasonTexts   = map[int]string{
		0: "unspecified", 1: "keyCompromise", 2: "cACompromise", 3: "affiliationChanged", 4: "superseded",
		5: "cessationOfOperation", 6: "certificateHold", 8: "removeFromCRL", 9: "privilegeWithdrawn", 10: "aACompromise",
	}
)

// Times are taken with this much to spare, and a response without an end for this long
// (tls_ocsp.c, JITTER_SEC and MAXAGE_SEC).
const (
	jitter  = time.Minute
	mostAge = 14 * 24 * time.Hour
)

var oidBasic = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}

// Check verifies a response about chain[0], whose issuer is chain[1]. The error is in libtls's words. What the
// response says is returned with an error too, as far as it was found; nil where it cannot be read.
func Check(der []byte, chain []*x509.Certificate, now time.Time) (*Result, error) {
	var outer response
	if rest, err := asn1.Unmarshal(der, &outer); err != nil || len(rest) > 0 {
		return nil, errors.New("unable to parse OCSP response")
	}
	result := &Result{Status: int(outer.Status), Cert: -1}
	if outer.Status != 0 {
		result.Text = responseTexts[int(outer.Status)]
		return result, errors.New("ocsp verify failed: response - " + result.Text)
	}
	var basic basicResponse
	if !outer.Bytes.Type.Equal(oidBasic) {
		return result, errors.New("unable to parse OCSP response")
	}
	if rest, err := asn1.Unmarshal(outer.Bytes.Value, &basic); err != nil || len(rest) > 0 {
		return result, errors.New("unable to parse OCSP response")
	}
	if len(chain) < 2 {
		return result, errors.New("ocsp verify failed: no issuer cert")
	}
	if basic.verify(chain[1], now) != nil {
		return result, errors.New("ocsp verify failed")
	}
	single := basic.find(chain[0], chain[1])
	if single == nil {
		return result, errors.New("ocsp verify failed: no result for cert")
	}
	result.take(single)
	switch {
	case single.ThisUpdate.After(now.Add(jitter)),
		!single.NextUpdate.IsZero() && single.NextUpdate.Before(now.Add(-jitter)),
		now.Sub(single.ThisUpdate) > mostAge+jitter:
		return result, errors.New("ocsp verify failed: ocsp response not current")
	case result.Cert == Revoked:
		return result, errors.New("ocsp verify failed: revoked cert - " + reasonTexts[result.Reason])
	}
	return result, nil
}

func (r *Result) take(s *singleResponse) {
	r.ThisUpdate, r.NextUpdate = s.ThisUpdate, s.NextUpdate
	switch {
	case bool(s.Good):
		r.Cert, r.Text = Good, "good"
	case bool(s.Unknown):
		r.Cert, r.Text = Unknown, "unknown"
	default:
		r.Cert, r.Reason, r.Revoked = Revoked, int(s.Revoked.Reason), s.Revoked.Time
		r.Text = reasonTexts[r.Reason]
	}
}

// verify checks that the issuer has signed, or somebody whom it lets do so.
func (b *basicResponse) verify(issuer *x509.Certificate, now time.Time) error {
	algorithm, ok := SignatureAlgorithms[b.Algorithm.Algorithm.String()]
	if !ok {
		return errors.New("signature algorithm")
	}
	signed := func(by *x509.Certificate) bool {
		return by.CheckSignature(algorithm, b.Data.Raw, b.Signature.RightAlign()) == nil
	}
	if signed(issuer) {
		return nil
	}
	for _, raw := range b.Certs {
		cert, err := x509.ParseCertificate(raw.FullBytes)
		if err != nil || cert.CheckSignatureFrom(issuer) != nil || now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
			continue
		}
		for _, usage := range cert.ExtKeyUsage {
			if usage == x509.ExtKeyUsageOCSPSigning && signed(cert) {
				return nil
			}
		}
	}
	return errors.New("signer")
}

var SignatureAlgorithms = map[string]x509.SignatureAlgorithm{
	"1.2.840.113549.1.1.11": x509.SHA256WithRSA, "1.2.840.113549.1.1.12": x509.SHA384WithRSA,
	"1.2.840.113549.1.1.13": x509.SHA512WithRSA, "1.2.840.10045.4.3.2": x509.ECDSAWithSHA256,
	"1.2.840.10045.4.3.3": x509.ECDSAWithSHA384, "1.2.840.10045.4.3.4": x509.ECDSAWithSHA512,
	"1.3.101.112": x509.PureEd25519,
}

// find returns the answer about cert.
func (b *basicResponse) find(cert, issuer *x509.Certificate) *singleResponse {
	var key struct {
		Algorithm pkix.AlgorithmIdentifier
		Bits      asn1.BitString
	}
	if _, err := asn1.Unmarshal(issuer.RawSubjectPublicKeyInfo, &key); err != nil {
		return nil
	}
	for i := range b.Data.Single {
		s := &b.Data.Single[i]
		hash, ok := Hashes[s.Cert.Hash.Algorithm.String()]
		if ok && s.Cert.Serial.Cmp(cert.SerialNumber) == 0 && bytes.Equal(s.Cert.Name, digest(hash, cert.RawIssuer)) &&
			bytes.Equal(s.Cert.Key, digest(hash, key.Bits.RightAlign())) {
			return s
		}
	}
	return nil
}

var Hashes = map[string]crypto.Hash{
	"1.3.14.3.2.26": crypto.SHA1, "2.16.840.1.101.3.4.2.1": crypto.SHA256,
	"2.16.840.1.101.3.4.2.2": crypto.SHA384, "2.16.840.1.101.3.4.2.3": crypto.SHA512,
}

// digest names the issuer; nothing rests on the hash being strong.
func digest(hash crypto.Hash, b []byte) []byte {
	if hash == crypto.SHA1 {
		sum := sha1.Sum(b)
		return sum[:]
	}
	h := hash.New()
	h.Write(b)
	return h.Sum(nil)
}
