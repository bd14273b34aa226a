package engine

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

// OCSP responses (RFC 6960, section 4.2.1), as far as tls_ocsp.c looks at them.

type ocspResponse struct {
	Status asn1.Enumerated
	Bytes  struct {
		Type  asn1.ObjectIdentifier
		Value []byte
	} `asn1:"explicit,tag:0,optional"`
}

type ocspBasic struct {
	Data      ocspData
	Algorithm pkix.AlgorithmIdentifier
	Signature asn1.BitString
	Certs     []asn1.RawValue `asn1:"explicit,tag:0,optional"`
}

type ocspData struct {
	Raw       asn1.RawContent
	Version   int `asn1:"optional,default:0,explicit,tag:0"`
	Responder asn1.RawValue
	Produced  time.Time `asn1:"generalized"`
	Single    []ocspSingle
}

type ocspSingle struct {
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

// ocspResult is what tls_peer_ocsp_* report.
type ocspResult struct {
	status     int // of the response, as on the wire
	cert       int // TLS_OCSP_CERT_*, or -1
	reason     int // TLS_CRL_REASON_*, or -1
	thisUpdate time.Time
	nextUpdate time.Time
	revoked    time.Time
	text       string
}

const (
	certGood = iota
	certRevoked
	certUnknown
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
	ocspJitter = time.Minute
	ocspMost   = 14 * 24 * time.Hour
)

var oidOCSPBasic = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}

// checkResponse verifies a response about chain[0], whose issuer is chain[1]. What it says is
// returned with an error too, as far as it was found.
func checkResponse(der []byte, chain []*x509.Certificate, now time.Time) (*ocspResult, *problem) {
	var response ocspResponse
	if rest, err := asn1.Unmarshal(der, &response); err != nil || len(rest) > 0 {
		return nil, stapleProblem("unable to parse OCSP response")
	}
	result := &ocspResult{status: int(response.Status), cert: -1}
	if response.Status != 0 {
		result.text = responseTexts[int(response.Status)]
		return result, stapleProblem("ocsp verify failed: response - " + result.text)
	}
	var basic ocspBasic
	if !response.Bytes.Type.Equal(oidOCSPBasic) {
		return result, stapleProblem("unable to parse OCSP response")
	}
	if rest, err := asn1.Unmarshal(response.Bytes.Value, &basic); err != nil || len(rest) > 0 {
		return result, stapleProblem("unable to parse OCSP response")
	}
	if len(chain) < 2 {
		return result, stapleProblem("ocsp verify failed: no issuer cert")
	}
	if basic.verify(chain[1], now) != nil {
		return result, stapleProblem("ocsp verify failed")
	}
	single := basic.find(chain[0], chain[1])
	if single == nil {
		return result, stapleProblem("ocsp verify failed: no result for cert")
	}
	result.take(single)
	switch {
	case single.ThisUpdate.After(now.Add(ocspJitter)),
		!single.NextUpdate.IsZero() && single.NextUpdate.Before(now.Add(-ocspJitter)),
		now.Sub(single.ThisUpdate) > ocspMost+ocspJitter:
		return result, stapleProblem("ocsp verify failed: ocsp response not current")
	case result.cert == certRevoked:
		return result, stapleProblem("ocsp verify failed: revoked cert - " + reasonTexts[result.reason])
	}
	return result, nil
}

func (r *ocspResult) take(s *ocspSingle) {
	r.thisUpdate, r.nextUpdate = s.ThisUpdate, s.NextUpdate
	switch {
	case bool(s.Good):
		r.cert, r.text = certGood, "good"
	case bool(s.Unknown):
		r.cert, r.text = certUnknown, "unknown"
	default:
		r.cert, r.reason, r.revoked = certRevoked, int(s.Revoked.Reason), s.Revoked.Time
		r.text = reasonTexts[r.reason]
	}
}

// verify checks that the issuer has signed, or somebody whom it lets do so.
func (b *ocspBasic) verify(issuer *x509.Certificate, now time.Time) error {
	algorithm, ok := signatureAlgorithms[b.Algorithm.Algorithm.String()]
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

var signatureAlgorithms = map[string]x509.SignatureAlgorithm{
	"1.2.840.113549.1.1.11": x509.SHA256WithRSA, "1.2.840.113549.1.1.12": x509.SHA384WithRSA,
	"1.2.840.113549.1.1.13": x509.SHA512WithRSA, "1.2.840.10045.4.3.2": x509.ECDSAWithSHA256,
	"1.2.840.10045.4.3.3": x509.ECDSAWithSHA384, "1.2.840.10045.4.3.4": x509.ECDSAWithSHA512,
	"1.3.101.112": x509.PureEd25519,
}

// find returns the answer about cert.
func (b *ocspBasic) find(cert, issuer *x509.Certificate) *ocspSingle {
	var key struct {
		Algorithm pkix.AlgorithmIdentifier
		Bits      asn1.BitString
	}
	if _, err := asn1.Unmarshal(issuer.RawSubjectPublicKeyInfo, &key); err != nil {
		return nil
	}
	for i := range b.Data.Single {
		s := &b.Data.Single[i]
		hash, ok := hashes[s.Cert.Hash.Algorithm.String()]
		if ok && s.Cert.Serial.Cmp(cert.SerialNumber) == 0 && bytes.Equal(s.Cert.Name, digest(hash, cert.RawIssuer)) &&
			bytes.Equal(s.Cert.Key, digest(hash, key.Bits.RightAlign())) {
			return s
		}
	}
	return nil
}

var hashes = map[string]crypto.Hash{
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
