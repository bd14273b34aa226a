package testkit

import (
	"crypto"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"
)

// Staple says what an OCSP response (RFC 6960) is to say.
type Staple struct {
	Revoked, Unknown bool          // good, where neither is set
	Age              time.Duration // since it was made, for an hour
}

// Staple makes a response about a certificate of a's.
func (a *Authority) Staple(c *Certificate, s Staple) ([]byte, error) {
	response, err := a.staple(c, s)
	if err != nil {
		return nil, fmt.Errorf("making an OCSP response: %w", err)
	}
	return response, nil
}

func (a *Authority) staple(c *Certificate, s Staple) ([]byte, error) {
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(a.cert.RawSubjectPublicKeyInfo, &spki); err != nil {
		return nil, err
	}
	name, key := sha1.Sum(a.cert.RawSubject), sha1.Sum(spki.Key.RightAlign())
	type certID struct {
		Hash      pkix.AlgorithmIdentifier
		Name, Key []byte
		Serial    *big.Int
	}
	made := time.Now().Add(-s.Age).UTC().Truncate(time.Second)
	status := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0}
	switch {
	case s.Revoked:
		when, err := asn1.MarshalWithParams(made, "generalized")
		if err != nil {
			return nil, err
		}
		status = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, IsCompound: true, Bytes: when}
	case s.Unknown:
		status.Tag = 2
	}
	type single struct {
		Cert       certID
		Status     asn1.RawValue
		ThisUpdate time.Time `asn1:"generalized"`
		NextUpdate time.Time `asn1:"generalized,explicit,tag:0"`
	}
	data, err := asn1.Marshal(struct {
		Responder asn1.RawValue
		Produced  time.Time `asn1:"generalized"`
		Single    []single
	}{
		asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, IsCompound: true, Bytes: a.cert.RawSubject}, made,
		[]single{{certID{pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}}, name[:], key[:], c.Leaf.SerialNumber}, status, made, made.Add(time.Hour)}},
	})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	signature, err := a.key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	basic, err := asn1.Marshal(struct {
		Data      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: data}, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}, asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}})
	if err != nil {
		return nil, err
	}
	type inside struct {
		Type  asn1.ObjectIdentifier
		Value []byte
	}
	return asn1.Marshal(struct {
		Status asn1.Enumerated
		Bytes  inside `asn1:"explicit,tag:0"`
	}{0, inside{asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}, basic}})
}
