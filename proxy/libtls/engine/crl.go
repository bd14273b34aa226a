package engine

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"slices"
	"time"

	"tlswrap/proxy/ocsp"
)

// revocationList is a CRL (RFC 5280, section 5). x509.ParseRevocationList refuses version 1, and does
// not look at what a list covers.
type revocationList struct {
	signed     []byte
	algorithm  x509.SignatureAlgorithm
	signature  []byte
	issuer     []byte // a Name, as all names here in DER, and compared byte by byte
	thisUpdate time.Time
	nextUpdate time.Time // zero where there is none
	revoked    [][]byte  // serial numbers in DER, sorted

	keyID        []byte // of the issuer, if the list names it
	issuerIssuer []byte
	issuerSerial []byte

	// What the list is about.
	only      listOnly // zero: all certificates
	points    [][]byte // GeneralNames; nil: those of all distribution points
	partial   bool     // about some reasons alone, indirect, or about no certificate that there can be
	delta     bool     // about what has changed alone
	unhandled bool     // with a critical extension whose meaning is not known here
	invalid   bool     // with an extension that cannot be read, or contradicts another
}

type listOnly uint8

const (
	onlyUser listOnly = 1 << iota
	onlyCA
	onlyAttribute
)

var errCRL = errors.New("failed to parse crl")

// parseLists reads the lists of a PEM file. A block that cannot be read is not passed over: an older
// list might be taken in its place.
func parseLists(data []byte) ([]*revocationList, error) {
	var lists []*revocationList
	for block := range blocks(data) {
		if block.Type != "X509 CRL" {
			continue
		}
		list, err := parseList(block.Bytes)
		if err != nil {
			return nil, err
		}
		lists = append(lists, list)
	}
	const begin = "-----BEGIN X509 CRL-----"
	begun := bytes.Count(data, []byte("\n"+begin))
	if bytes.HasPrefix(data, []byte(begin)) {
		begun++
	}
	if begun != len(lists) {
		return nil, errCRL
	}
	return lists, nil
}

func parseList(encoded []byte) (*revocationList, error) {
	l := new(revocationList)
	file := readDER(encoded)
	outer := file.in(derSequence)
	l.signed = outer.whole()
	algorithm := outer.whole()
	l.signature = outer.bits(derBitString)
	if !outer.end() || !file.end() {
		return nil, errCRL
	}
	content := readDER(l.signed)
	in := content.in(derSequence)
	if in.has(derInteger) {
		if version := in.integer(derInteger); len(version) != 1 || version[0] > 1 {
			return nil, errCRL // only 1 and 2 are known, as 0 and 1
		}
	}
	if bytes.Equal(in.whole(), algorithm) {
		l.algorithm = listAlgorithm(algorithm)
	}
	if !in.has(derSequence) {
		return nil, errCRL
	}
	l.issuer = in.whole()
	l.thisUpdate = in.time()
	if in.has(derUTCTime) || in.has(derTime) {
		l.nextUpdate = in.time()
	}
	others := false // whether an entry is about another issuer's certificate
	if in.has(derSequence) {
		in.each(derSequence, func(d *der) { others = l.readEntry(d) || others })
	}
	if in.has(derContextWith + 0) {
		wrapped := in.in(derContextWith + 0)
		l.readExtensions(&wrapped)
		wrapped.end()
	}
	l.invalid = l.invalid || others && !l.partial // which indirect lists alone may have
	if !in.end() || !content.end() {
		return nil, errCRL
	}
	if l.invalid { // then it may be about everything, and counts before those that are not
		l.keyID, l.issuerIssuer, l.issuerSerial = nil, nil, nil
		l.only, l.points, l.partial, l.delta, l.unhandled = 0, nil, false, false, false
	}
	slices.SortFunc(l.revoked, bytes.Compare)
	return l, nil
}

// time takes a time as RFC 5280, section 4.1.2.5, writes it.
func (d *der) time() time.Time {
	identifier, layout := byte(derUTCTime), "060102150405Z"
	if d.has(derTime) {
		identifier, layout = derTime, "20060102150405Z"
	}
	text := string(d.content(identifier))
	t, err := time.Parse(layout, text)
	if err != nil || len(text) != len(layout) {
		d.fail()
		return time.Time{}
	}
	if identifier == derUTCTime && t.Year() >= 2050 { // time.Parse divides the centuries at 69
		t = t.AddDate(-100, 0, 0)
	}
	return t
}

// The extensions that are known, and the reason that takes a certificate off a list again.
var (
	oidReason     = string([]byte{0x55, 0x1d, 21})
	oidCRLIssuer  = string([]byte{0x55, 0x1d, 29})
	oidDelta      = string([]byte{0x55, 0x1d, 27})
	oidIssuing    = string([]byte{0x55, 0x1d, 28})
	oidAuthority  = string([]byte{0x55, 0x1d, 35})
	removeFromCRL = []byte{8}
)

// extensions hands the extensions of a SEQUENCE on. It reports whether none is there twice.
func extensions(d *der, found func(oid string, critical bool, value []byte)) bool {
	seen := make(map[string]bool)
	once := true
	d.each(derSequence, func(d *der) {
		in := d.in(derSequence)
		oid := string(in.content(derOID))
		critical := in.has(derBoolean) && in.boolean(derBoolean)
		value := in.content(derOctetString)
		if !in.end() {
			return
		}
		once = once && !seen[oid]
		seen[oid] = true
		found(oid, critical, value)
	})
	return once
}

// readEntry reports whether this entry, and those behind it, may be another issuer's.
func (l *revocationList) readEntry(d *der) bool {
	in := d.in(derSequence)
	serial := in.integer(derInteger)
	if in.has(derTime) {
		in.content(derTime)
	} else {
		in.content(derUTCTime)
	}
	removed, others := false, false
	if in.has(derSequence) {
		once := extensions(&in, func(oid string, critical bool, value []byte) {
			if oid == oidCRLIssuer {
				others = true
				return
			}
			l.unhandled = l.unhandled || critical
			if oid == oidReason {
				d := readDER(value)
				removed = bytes.Equal(d.integer(derEnumerated), removeFromCRL)
				l.invalid = l.invalid || !d.end()
			}
		})
		l.invalid = l.invalid || !once
	}
	if in.end() && !removed {
		l.revoked = append(l.revoked, serial)
	}
	return others
}

func (l *revocationList) readExtensions(d *der) {
	once := extensions(d, func(oid string, critical bool, value []byte) {
		readable := true
		switch oid {
		case oidIssuing:
			readable = l.readIssuing(value)
		case oidAuthority:
			readable = l.readAuthority(value)
		case oidDelta:
			l.delta = true
		default:
			l.unhandled = l.unhandled || critical
		}
		l.invalid = l.invalid || !readable
	})
	l.invalid = l.invalid || !once
}

// readIssuing reads an IssuingDistributionPoint (section 5.2.5).
func (l *revocationList) readIssuing(value []byte) bool {
	d := readDER(value)
	in := d.in(derSequence)
	flag := func(tag byte) bool { return in.has(derContext+tag) && in.boolean(derContext+tag) }
	if in.has(derContextWith + 0) {
		l.points = pointNames(&in, l.issuer)
	}
	if flag(1) {
		l.only |= onlyUser
	}
	if flag(2) {
		l.only |= onlyCA
	}
	if in.has(derContext + 3) { // onlySomeReasons
		in.bits(derContext + 3)
		l.partial = true
	}
	if flag(4) { // indirectCRL
		l.partial = true
	}
	if flag(5) {
		l.only |= onlyAttribute
	}
	l.partial = l.partial || l.only&(l.only-1) != 0
	return in.end() && d.end()
}

// readAuthority reads an AuthorityKeyIdentifier (section 4.2.1.1).
func (l *revocationList) readAuthority(value []byte) bool {
	d := readDER(value)
	in := d.in(derSequence)
	if in.has(derContext + 0) {
		l.keyID = in.content(derContext + 0)
	}
	if in.has(derContextWith + 1) {
		l.issuerIssuer = directoryName(generalNames(&in, 1))
	}
	if in.has(derContext + 2) {
		l.issuerSerial = in.integer(derContext + 2)
	}
	return in.end() && d.end()
}

// generalNames returns GeneralNames one by one, each in DER; nil is for none at all.
func generalNames(d *der, tag byte) [][]byte {
	names := [][]byte{}
	d.each(derContextWith+tag, func(d *der) { names = append(names, d.whole()) })
	return names
}

// directoryName returns the Name of the first that has one.
func directoryName(names [][]byte) []byte {
	for _, name := range names {
		if d := readDER(name); d.has(derContextWith + 4) {
			return d.content(derContextWith + 4)
		}
	}
	return nil
}

// pointNames reads a list's DistributionPointName. What is relative to the issuer's name becomes a whole one.
func pointNames(d *der, issuer []byte) [][]byte {
	in := d.in(derContextWith + 0)
	defer in.end()
	if in.has(derContextWith + 0) {
		return generalNames(&in, 0)
	}
	last := in.content(derContextWith + 1)
	base := readDER(issuer)
	name := slices.Concat(base.content(derSequence), element(derSet, last))
	return [][]byte{element(derContextWith+4, element(derSequence, name))}
}

// element writes an element.
func element(identifier byte, content []byte) []byte {
	b, err := asn1.Marshal(asn1.RawValue{
		Class: int(identifier >> 6), Tag: int(identifier & 0x1f), IsCompound: identifier&0x20 != 0, Bytes: content,
	})
	if err != nil {
		panic(err) // only of a value that cannot be written, and bytes can
	}
	return b
}

// reasons are ReasonFlags (section 4.2.1.13).
type reasons uint16

const allReasons reasons = 0x7f80 // from keyCompromise to aACompromise

func readReasons(bits []byte) reasons {
	var r reasons
	for i, b := range bits[:min(len(bits), 2)] {
		r |= reasons(b) << (8 - 8*i)
	}
	return r & allReasons
}

// distributionPoint is where a certificate says that its list is (section 4.2.1.13).
type distributionPoint struct {
	names   [][]byte // nil: the issuers'
	reasons reasons
	issuers [][]byte // nil: the certificate's
}

var oidPoints = asn1.ObjectIdentifier{2, 5, 29, 31}

// distributionPoints reports also whether they could be read.
func distributionPoints(cert *x509.Certificate) ([]distributionPoint, bool) {
	at := slices.IndexFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidPoints) })
	if at < 0 {
		return nil, true
	}
	var points []distributionPoint
	d := readDER(cert.Extensions[at].Value)
	d.each(derSequence, func(d *der) {
		in := d.in(derSequence)
		p := distributionPoint{reasons: allReasons}
		if in.has(derContextWith + 0) {
			name := in.in(derContextWith + 0)
			p.names = generalNames(&name, 0) // crypto/x509 takes no certificate with a relative one
			name.end()
		}
		if in.has(derContext + 1) {
			p.reasons = readReasons(in.bits(derContext + 1))
		}
		if in.has(derContextWith + 2) {
			p.issuers = generalNames(&in, 2)
		}
		if p.names == nil && len(p.issuers) == 0 {
			in.fail()
		}
		if in.end() {
			points = append(points, p)
		}
	})
	return points, d.end()
}

// listAlgorithm is what a list is signed with, or zero. RSASSA-PSS is known as crypto/x509 knows it: with
// one hash for all, and as much salt.
func listAlgorithm(encoded []byte) x509.SignatureAlgorithm {
	var id pkix.AlgorithmIdentifier
	if rest, err := asn1.Unmarshal(encoded, &id); err != nil || len(rest) > 0 {
		return 0
	}
	if oid := id.Algorithm.String(); oid != "1.2.840.113549.1.1.10" {
		if algorithm, ok := ocsp.SignatureAlgorithms[oid]; ok {
			return algorithm
		}
		return olderAlgorithms[oid]
	}
	var pss struct {
		Hash pkix.AlgorithmIdentifier `asn1:"explicit,tag:0"`
		Mask struct {
			Function asn1.ObjectIdentifier
			Hash     pkix.AlgorithmIdentifier
		} `asn1:"explicit,tag:1"`
		Salt int `asn1:"explicit,tag:2"`
	}
	rest, err := asn1.Unmarshal(id.Parameters.FullBytes, &pss)
	hash := ocsp.Hashes[pss.Hash.Algorithm.String()]
	if err != nil || len(rest) > 0 || pss.Mask.Function.String() != "1.2.840.113549.1.1.8" ||
		!pss.Mask.Hash.Algorithm.Equal(pss.Hash.Algorithm) || hash == 0 || pss.Salt != hash.Size() {
		return 0
	}
	return pssAlgorithms[hash]
}

// Lists may be signed over SHA-1, as with OpenSSL.
var (
	olderAlgorithms = map[string]x509.SignatureAlgorithm{
		"1.2.840.113549.1.1.5": x509.SHA1WithRSA, "1.2.840.10045.4.1": x509.ECDSAWithSHA1,
	}
	pssAlgorithms = map[crypto.Hash]x509.SignatureAlgorithm{
		crypto.SHA256: x509.SHA256WithRSAPSS, crypto.SHA384: x509.SHA384WithRSAPSS, crypto.SHA512: x509.SHA512WithRSAPSS,
	}
)
