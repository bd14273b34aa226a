package engine

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

// revocationLab is a root, an authority below it, what that has issued, and a folder.
type revocationLab struct {
	dir           string
	root, between *authority
	leaves        map[string]*x509.Certificate
}

type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newRevocationLab(t *testing.T) *revocationLab {
	t.Helper()
	lab := &revocationLab{dir: t.TempDir(), leaves: make(map[string]*x509.Certificate)}
	lab.root = newAuthority(t, "root", nil, nil)
	lab.between = newAuthority(t, "between", lab.root, nil)
	lab.write(t, "root.pem", "CERTIFICATE", lab.root.cert.Raw)
	lab.write(t, "between.pem", "CERTIFICATE", lab.between.cert.Raw)
	for name, points := range leafPoints(lab.between.cert.RawSubject, lab.root.cert.RawSubject) {
		lab.leaves[name] = newAuthority(t, name, lab.between, func(c *x509.Certificate) {
			c.IsCA, c.KeyUsage = name == "authority", x509.KeyUsageDigitalSignature
			if points != nil {
				c.ExtraExtensions = []pkix.Extension{{Id: oidPoints, Value: element(derSequence, slices.Concat(points...))}}
			}
		}).cert
		lab.write(t, name+".pem", "CERTIFICATE", lab.leaves[name].Raw)
	}
	return lab
}

func (lab *revocationLab) serials(names []string) []*big.Int {
	var serials []*big.Int
	for _, name := range names {
		serials = append(serials, lab.leaves[name].SerialNumber)
	}
	return serials
}

func (lab *revocationLab) write(t *testing.T, name, kind string, blocks ...[]byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(lab.dir, name), pemBlocks(kind, blocks...), 0o600); err != nil {
		t.Fatal(err)
	}
}

func pemBlocks(kind string, blocks ...[]byte) []byte {
	var b []byte
	for _, block := range blocks {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: block})...)
	}
	return b
}

var lastSerial atomic.Int64

func newAuthority(t *testing.T, name string, by *authority, change func(*x509.Certificate)) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return newAuthorityWith(t, key, name, by, change)
}

func newAuthorityWith(t *testing.T, key crypto.Signer, name string, by *authority, change func(*x509.Certificate)) *authority {
	t.Helper()
	now := time.Now()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1<<20 + lastSerial.Add(1)), NotBefore: now.Add(-100 * day), NotAfter: now.Add(100 * day),
		Subject: pkix.Name{Organization: []string{"Lists"}, CommonName: name}, DNSNames: []string{name + ".test"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if change != nil {
		change(c)
	}
	parent, signer := c, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return &authority{c, key}
}

const day = 24 * time.Hour

// today is one moment for all lists: which is the newer is not left to chance.
var today = time.Now()

// Pieces of what lists and certificates say.
func uri(at string) []byte      { return element(derContext+6, []byte(at)) }
func directory(n []byte) []byte { return element(derContextWith+4, n) }
func full(names ...[]byte) []byte { // a DistributionPointName in its field
	return element(derContextWith+0, element(derContextWith+0, slices.Concat(names...)))
}
func relative(attribute []byte) []byte {
	return element(derContextWith+0, element(derContextWith+1, attribute))
}

var (
	pointA, pointB = uri("http://lists.test/a"), uri("http://lists.test/b")
	shard          = slices.Concat([]byte{0x30, 0x0c, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x05}, []byte("shard")) // CN
)

// leafPoints are the distribution points of certificates.
func leafPoints(issuer, other []byte) map[string][][]byte {
	point := func(fields ...[]byte) []byte { return element(derSequence, slices.Concat(fields...)) }
	reasons := func(bits ...byte) []byte { return element(derContext+1, bits) }
	issuers := func(names ...[]byte) []byte { return element(derContextWith+2, slices.Concat(names...)) }
	return map[string][][]byte{
		"plain":        nil,
		"authority":    nil,
		"at-a":         {point(full(pointA))},
		"at-b":         {point(full(pointB))},
		"at-both":      {point(full(pointA, pointB))},
		"at-each":      {point(full(pointA)), point(full(pointB))},
		"some-reasons": {point(full(pointA), reasons(4, 0x70))},
		"no-reasons":   {point(full(pointA), reasons(0))},
		"two-reasons":  {point(full(pointA), reasons(4, 0x70)), point(full(pointB), reasons(7, 0x0f, 0x80))},
		"all-reasons":  {point(full(pointA), reasons(7, 0xff, 0x80))},
		"by-issuer":    {point(full(pointA), issuers(directory(issuer)))},
		"by-other":     {point(full(pointA), issuers(directory(other)))},
		"by-uri":       {point(full(pointA), issuers(uri("http://lists.test/")))},
		"of-issuer":    {point(issuers(directory(issuer)))},
		"named":        {point(full(directory(joined(issuer, shard))))},
	}
}

// joined is a name with one attribute more.
func joined(name, attribute []byte) []byte {
	d := readDER(name)
	return element(derSequence, slices.Concat(d.content(derSequence), element(derSet, attribute)))
}

// writtenList is a list to be written. The zero value is an empty one of version 2, good for two days.
type writtenList struct {
	version    []byte // "" is 2
	since      time.Duration
	until      time.Duration // from now; never is none
	at         func(time.Time) []byte
	issuer     []byte
	extensions [][]byte
	entries    [][]byte // extensions of the entries, if any
	before     [][]byte // entries in front
	signer     crypto.Signer
	change     func(signed, algorithm, signature []byte) []byte // of the whole
	inner      []byte                                           // the algorithm inside
}

const never = time.Duration(-1 << 62)

var (
	version1 = []byte{0}
	absent   = []byte{}
)

func written(oid []int, critical bool, value []byte) []byte {
	encoded, err := asn1.Marshal(pkix.Extension{Id: oid, Critical: critical, Value: value})
	if err != nil {
		panic(err)
	}
	return encoded
}

func issuing(fields ...[]byte) [][]byte { return [][]byte{rawIssuing(slices.Concat(fields...))} }

func rawIssuing(content []byte) []byte {
	return written([]int{2, 5, 29, 28}, true, element(derSequence, content))
}

func yes(tag byte) []byte { return element(derContext+tag, []byte{0xff}) }

func utc(at time.Time) []byte { return element(derUTCTime, []byte(at.UTC().Format("060102150405Z"))) }

func number(n byte) []byte { return element(derInteger, []byte{n}) }

var ecdsaSHA256 = []byte{0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02}

// der writes the list, by an authority and with these serial numbers on it.
func (w writtenList) der(t *testing.T, by *authority, revoked ...*big.Int) []byte {
	t.Helper()
	at := w.at
	if at == nil {
		at = utc
	}
	algorithm := ecdsaSHA256
	var in []byte
	switch {
	case w.version == nil:
		in = number(1)
	case len(w.version) > 0:
		in = element(derInteger, w.version)
	}
	in = append(in, cmp.Or(string(w.inner), string(algorithm))...)
	in = append(in, cmp.Or(string(w.issuer), string(by.cert.RawSubject))...)
	in = append(in, at(today.Add(cmp.Or(w.since, -day)))...)
	if w.until != never {
		in = append(in, at(today.Add(cmp.Or(w.until, day)))...)
	}
	entries := slices.Concat(w.before...)
	for _, serial := range revoked {
		entry, err := asn1.Marshal(serial)
		if err != nil {
			t.Fatal(err)
		}
		entry = append(entry, utc(today.Add(-2*day))...)
		if w.entries != nil {
			entry = append(entry, element(derSequence, slices.Concat(w.entries...))...)
		}
		entries = append(entries, element(derSequence, entry)...)
	}
	if entries != nil {
		in = append(in, element(derSequence, entries)...)
	}
	if w.extensions != nil {
		in = append(in, element(derContextWith+0, element(derSequence, slices.Concat(w.extensions...)))...)
	}
	signed := element(derSequence, in)
	signer := w.signer
	if signer == nil {
		signer = by.key
	}
	signature, err := crypto.SignMessage(signer, rand.Reader, signed, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if w.change != nil {
		return w.change(signed, algorithm, signature)
	}
	return sealed(signed, algorithm, signature)
}

func sealed(signed, algorithm, signature []byte) []byte {
	return element(derSequence, slices.Concat(signed, algorithm, element(derBitString, append([]byte{0}, signature...))))
}

var (
	unknownOID = []int{1, 3, 6, 1, 4, 1, 99999, 1}
	reasonOID  = []int{2, 5, 29, 21}
)

// lists are all that a list can say about what it covers, and some that say it wrongly.
func lists(t *testing.T, by, other *authority) map[string]writtenList {
	t.Helper()
	entry := func(oid []int, critical bool, value []byte) writtenList {
		return writtenList{entries: [][]byte{written(oid, critical, value)}}
	}
	with := func(extensions ...[]byte) writtenList { return writtenList{extensions: extensions} }
	reason := func(n byte) []byte { return element(derEnumerated, []byte{n}) }
	authorityKey := func(fields ...[]byte) []byte {
		return written([]int{2, 5, 29, 35}, false, element(derSequence, slices.Concat(fields...)))
	}
	serial := func(n *big.Int) []byte { return element(derContext+2, n.Bytes()) }
	somebody, err := asn1.Marshal(pkix.Name{CommonName: "somebody"}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	stranger := newAuthority(t, "stranger", nil, nil)
	generalized := func(at time.Time) []byte {
		return element(derTime, []byte(at.UTC().Format("20060102150405Z")))
	}
	otherEntry := element(derSequence, slices.Concat(number(3), utc(time.Now()),
		element(derSequence, written(unknownOID, true, []byte{5, 0}))))
	crlNumber := written([]int{2, 5, 29, 20}, false, number(7))
	delta := written([]int{2, 5, 29, 27}, true, number(5))
	return map[string]writtenList{
		"version 2":                     {},
		"version 1":                     {version: absent},
		"version 1, said":               {version: version1},
		"version 1 with extensions":     {version: absent, extensions: issuing(yes(2))},
		"of the future":                 {since: day / 2},
		"of the past":                   {since: -10 * day, until: -2 * day},
		"without an end":                {until: never},
		"without an end, of the future": {since: day / 2, until: never},
		"generalized time":              {at: generalized},
		"number":                        with(crlNumber),
		"number, critical":              with(written([]int{2, 5, 29, 20}, true, number(7))),
		"unknown":                       with(written(unknownOID, false, []byte{5, 0})),
		"unknown, critical":             with(written(unknownOID, true, []byte{5, 0})),
		"freshest":                      with(written([]int{2, 5, 29, 46}, false, element(derSequence, element(derSequence, full(pointB))))),
		"delta":                         with(crlNumber, delta),
		"delta without number":          with(delta),
		"delta, not critical":           with(crlNumber, written([]int{2, 5, 29, 27}, false, number(5))),
		"delta that is none":            with(crlNumber, written([]int{2, 5, 29, 27}, true, []byte("x"))),
		"issuing nothing":               {extensions: issuing()},
		"users":                         {extensions: issuing(yes(1))},
		"users, not critical":           with(written([]int{2, 5, 29, 28}, false, element(derSequence, yes(1)))),
		"authorities":                   {extensions: issuing(yes(2))},
		"attributes":                    {extensions: issuing(yes(5))},
		"users and authorities":         {extensions: issuing(yes(1), yes(2))},
		"some reasons":                  {extensions: issuing(element(derContext+3, []byte{4, 0x70}))},
		"all reasons":                   {extensions: issuing(element(derContext+3, []byte{7, 0xff, 0x80}))},
		"indirect":                      {extensions: issuing(yes(4))},
		"said not to be indirect":       {extensions: issuing(element(derContext+4, []byte{0}))},
		"at a":                          {extensions: issuing(full(pointA))},
		"at b":                          {extensions: issuing(full(pointB))},
		"at both":                       {extensions: issuing(full(pointB, pointA))},
		"at none":                       {extensions: issuing(full())},
		"at a, users":                   {extensions: issuing(full(pointA), yes(1))},
		"at a, authorities":             {extensions: issuing(full(pointA), yes(2))},
		"relative":                      {extensions: issuing(relative(shard))},
		"named":                         {extensions: issuing(full(directory(joined(by.cert.RawSubject, shard))))},
		"of the issuer":                 {extensions: issuing(full(directory(by.cert.RawSubject)))},
		"twice":                         with(rawIssuing(yes(2)), rawIssuing(nil)),
		"junk in issuing":               with(written([]int{2, 5, 29, 28}, true, []byte("junk"))),
		"more in issuing":               with(rawIssuing(slices.Concat(yes(1), yes(9)))),
		"more behind issuing":           with(written([]int{2, 5, 29, 28}, true, append(element(derSequence, nil), 5, 0))),
		"other issuer":                  {issuer: other.cert.RawSubject, since: -5 * day},
		"somebody's":                    {issuer: somebody},
		"somebody's, indirect":          {issuer: somebody, extensions: issuing(yes(4))},
		"signed by another":             {signer: stranger.key},
		"signed wrongly": {change: func(signed, algorithm, signature []byte) []byte {
			signature[len(signature)-1] ^= 1
			return sealed(signed, algorithm, signature)
		}},
		"key":                 with(authorityKey(element(derContext+0, by.cert.SubjectKeyId))),
		"key of another":      with(authorityKey(element(derContext+0, other.cert.SubjectKeyId))),
		"issuer's serial":     with(authorityKey(element(derContextWith+1, directory(by.cert.RawIssuer)), serial(by.cert.SerialNumber))),
		"another's serial":    with(authorityKey(element(derContextWith+1, directory(by.cert.RawIssuer)), serial(big.NewInt(77)))),
		"another's issuer":    with(authorityKey(element(derContextWith+1, directory(somebody)), serial(by.cert.SerialNumber))),
		"key, critical":       with(written([]int{2, 5, 29, 35}, true, element(derSequence, element(derContext+0, by.cert.SubjectKeyId)))),
		"junk in key":         with(written([]int{2, 5, 29, 35}, false, []byte("junk"))),
		"entry: reason":       entry(reasonOID, false, reason(1)),
		"entry: hold":         entry(reasonOID, false, reason(6)),
		"entry: removed":      entry(reasonOID, false, reason(8)),
		"entry: reason of 99": entry(reasonOID, false, reason(99)),
		"entry: critical":     entry(reasonOID, true, reason(1)),
		"entry: removed twice": {entries: [][]byte{
			written(reasonOID, false, reason(8)), written(reasonOID, false, reason(1))}},
		"entry: junk":                       entry(reasonOID, false, []byte("junk")),
		"entry: unknown":                    entry(unknownOID, false, []byte{5, 0}),
		"entry: unknown, critical":          entry(unknownOID, true, []byte{5, 0}),
		"entry: another's unknown":          {before: [][]byte{otherEntry}},
		"entry: issuer":                     entry([]int{2, 5, 29, 29}, true, element(derSequence, directory(by.cert.RawSubject))),
		"entry: another issuer":             entry([]int{2, 5, 29, 29}, true, element(derSequence, directory(other.cert.RawSubject))),
		"entry: another issuer, uncritical": entry([]int{2, 5, 29, 29}, false, element(derSequence, directory(other.cert.RawSubject))),
		"another algorithm inside":          {inner: []byte{0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03}},
	}
}

const (
	noList    = "unable to get certificate CRL"
	unhandled = "unhandled critical CRL extension"
	invalid   = "invalid or inconsistent certificate extension"
)

// stricter are lists that OpenSSL 3.0 takes, and what is said of them here.
var stricter = map[string]string{
	"delta":                             noList, // which is no complete one
	"delta without number":              noList,
	"delta, not critical":               noList,
	"delta that is none":                noList,
	"twice":                             invalid, // OpenSSL ignores extensions that it cannot read
	"junk in issuing":                   invalid,
	"more in issuing":                   invalid,
	"more behind issuing":               invalid,
	"junk in key":                       invalid,
	"entry: removed twice":              invalid,
	"entry: junk":                       invalid,
	"entry: issuer":                     invalid, // which indirect lists alone have
	"entry: another issuer":             invalid,
	"entry: another issuer, uncritical": invalid,
	"another algorithm inside":          "CRL signature failure",
}

// expected is what is to be said where OpenSSL says theirs. Where it takes a list that is not taken here, nothing
// that the list says counts. Where both refuse, either may be the first to have a reason.
func expected(kind, certificate string, listed bool, got, theirs string) string {
	text := stricter[kind]
	if strings.HasPrefix(kind, "entry:") && !listed {
		text = "" // there are no entries
	}
	// OpenSSL takes any partition for that of a certificate that names an issuer of lists and no partition; by
	// RFC 5280, section 6.3.3, the partition has to have the issuer's name.
	if certificate == "of-issuer" && slices.Contains([]string{"at a", "at b", "at both", "at none", "at a, users", "relative", "named"}, kind) {
		text = "different CRL scope"
	}
	if text == "" || got == theirs && theirs != "" && theirs != "certificate revoked" {
		return theirs
	}
	return text
}

// ours is the verdict of a client with these lists: nothing, or why not.
func (lab *revocationLab) ours(lists []byte, flags flag, leaf *x509.Certificate, between ...*x509.Certificate) string {
	c, err := build(flagVerifyCert|flags, map[Kind][]byte{kindCA: pemBlocks("CERTIFICATE", lab.root.cert.Raw), kindCRL: lists})
	if err != nil {
		return err.Error()
	}
	_, p := c.verify(append([]*x509.Certificate{leaf}, between...), time.Now())
	if p == nil {
		return ""
	}
	return strings.TrimPrefix(p.text, "certificate verification failed: ")
}

// build makes a configuration of what is not nil.
func build(flags flag, things map[Kind][]byte) (*Config, error) {
	store := NewStore(&Shares{})
	settings := make([]byte, settingsHeader)
	ne := binary.NativeEndian
	ne.PutUint32(settings, uint32(flags))
	ne.PutUint32(settings[8:], 6) // the depth
	for kind, data := range things {
		if data == nil {
			continue
		}
		number, err := store.Load(kind, data)
		if err != nil {
			return nil, err
		}
		ne.PutUint64(settings[settingsNumbers+8*int(kind):], number)
	}
	number, err := store.Build(settings)
	if err != nil {
		return nil, err
	}
	return store.Config(number)
}

var (
	errorLine = regexp.MustCompile(`^error \d+ at \d+ depth lookup: (.*)$`)
	endLine   = regexp.MustCompile(`^error (\S+): verification failed$`)
)

// openssl returns the command's verdicts, by the names of the certificates.
func (lab *revocationLab) openssl(t *testing.T, lists []byte, names []string, options ...string) map[string]string {
	t.Helper()
	testkit.Need(t, "openssl")
	file := filepath.Join(t.TempDir(), "lists.pem")
	if err := os.WriteFile(file, lists, 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"verify", "-no-CApath", "-no-CAstore", "-CAfile", "root.pem", "-untrusted", "between.pem", "-CRLfile", file}, options...)
	for _, name := range names {
		args = append(args, name+".pem")
	}
	cmd := exec.CommandContext(t.Context(), "openssl", args...)
	cmd.Dir = lab.dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	verdicts := make(map[string]string)
	for line := range strings.Lines(stdout.String()) {
		if name, ok := strings.CutSuffix(strings.TrimSpace(line), ".pem: OK"); ok {
			verdicts[name] = ""
		}
	}
	first := ""
	for line := range strings.Lines(stderr.String()) {
		line = strings.TrimSpace(line)
		if m := errorLine.FindStringSubmatch(line); m != nil && first == "" {
			first = m[1]
		} else if m := endLine.FindStringSubmatch(line); m != nil {
			verdicts[strings.TrimSuffix(m[1], ".pem")] = first
			first = ""
		}
	}
	if len(verdicts) != len(names) {
		t.Fatalf("openssl verify says of %v\n%s%s", names, &stdout, &stderr)
	}
	return verdicts
}

// tally counts verdicts, so that a comparison is not one of nothing with nothing.
type tally map[string]int

func (n tally) compare(t *testing.T, what, got, want, theirs string) {
	t.Helper()
	n[got]++
	if got != want {
		t.Errorf("%s: got %q, want %q; OpenSSL says %q", what, got, want, theirs)
	}
}

func (n tally) demand(t *testing.T, verdicts ...string) {
	t.Helper()
	t.Log(n)
	for _, v := range verdicts {
		if n[v] == 0 {
			t.Errorf("no case with the verdict %q", v)
		}
	}
}

// Every list against every certificate, which is on it or not: OpenSSL's verdict, and its words.
func TestRevocationLists(t *testing.T) {
	t.Parallel()
	lab := newRevocationLab(t)
	names := slices.Sorted(maps.Keys(lab.leaves))
	good := writtenList{}.der(t, lab.root)
	seen := make(tally)
	for kind, list := range lists(t, lab.between, lab.root) {
		for _, revoked := range [][]*big.Int{nil, lab.serials(names)} {
			file := pemBlocks("X509 CRL", list.der(t, lab.between, revoked...), good)
			compare := func(flags flag, options ...string) {
				theirs := lab.openssl(t, file, names, append(options, "-crl_check_all")...)
				for _, name := range names {
					got := lab.ours(file, flags, lab.leaves[name], lab.between.cert)
					what := fmt.Sprintf("list %q, certificate %q, revoked %v, %v", kind, name, revoked != nil, options)
					seen.compare(t, what, got, expected(kind, name, revoked != nil, got, theirs[name]), theirs[name])
				}
			}
			compare(flagVerifyTime)
			if list.since != 0 || list.until != 0 {
				compare(0, "-no_check_time")
			}
		}
	}
	seen.demand(t, "", noList, unhandled, "certificate revoked", "different CRL scope", "CRL has expired", "CRL is not yet valid", "CRL signature failure")
}

// The same for the authorities of a chain.
func TestRevocationListsOfAuthorities(t *testing.T) {
	t.Parallel()
	lab := newRevocationLab(t)
	good := writtenList{}.der(t, lab.between)
	seen := make(tally)
	for kind, list := range lists(t, lab.root, lab.between) {
		for _, revoked := range [][]*big.Int{nil, {lab.root.cert.SerialNumber}, {lab.between.cert.SerialNumber}} {
			if len(revoked) > 0 && revoked[0] == lab.root.cert.SerialNumber && kind != "version 2" {
				continue
			}
			file := pemBlocks("X509 CRL", good, list.der(t, lab.root, revoked...))
			theirs := lab.openssl(t, file, []string{"plain"}, "-crl_check_all")["plain"]
			got := lab.ours(file, flagVerifyTime, lab.leaves["plain"], lab.between.cert)
			seen.compare(t, fmt.Sprintf("list %q, on it %v", kind, revoked), got, expected(kind, "", revoked != nil, got, theirs), theirs)
		}
	}
	seen.demand(t, "", noList, unhandled, "certificate revoked", "different CRL scope", "CRL has expired")
}

// Of several lists by one issuer the same one counts as with OpenSSL.
func TestSeveralRevocationLists(t *testing.T) {
	t.Parallel()
	lab := newRevocationLab(t)
	good := writtenList{}.der(t, lab.root)
	all := lists(t, lab.between, lab.root)
	kinds := []string{
		"version 1", "of the past", "unknown, critical", "authorities", "some reasons", "at a", "at b",
		"signed by another", "key of another", "delta", "junk in issuing",
	}
	names := []string{"plain", "at-a", "at-each", "two-reasons"}
	serials := lab.serials(names)
	seen := make(tally)
	for _, one := range kinds {
		for _, two := range kinds {
			for on := range 2 {
				older, newer := all[one], all[two]
				older.since -= 20 * day
				both := [][]byte{older.der(t, lab.between, serials...), good, newer.der(t, lab.between)}
				if on == 1 {
					both = [][]byte{newer.der(t, lab.between, serials...), good, older.der(t, lab.between)}
				}
				file := pemBlocks("X509 CRL", both...)
				theirs := lab.openssl(t, file, names, "-crl_check_all")
				for _, name := range names {
					got := lab.ours(file, flagVerifyTime, lab.leaves[name], lab.between.cert)
					what := fmt.Sprintf("lists %q and %q, certificate %q, on the newer: %v", one, two, name, on == 1)
					if stricter[one]+stricter[two] != "" {
						if got == "" && theirs[name] != "" {
							t.Errorf("%s: accepted, and OpenSSL says %q", what, theirs[name])
						}
						continue
					}
					seen.compare(t, what, got, theirs[name], theirs[name])
				}
			}
		}
	}
	seen.demand(t, "", noList, unhandled, "certificate revoked", "different CRL scope", "CRL has expired", "CRL signature failure")

	// OpenSSL takes either where two have one date. Here both have to be good.
	same := writtenList{since: -day}
	for _, file := range [][]byte{
		pemBlocks("X509 CRL", same.der(t, lab.between, serials...), same.der(t, lab.between), good),
		pemBlocks("X509 CRL", same.der(t, lab.between), same.der(t, lab.between, serials...), good),
	} {
		if got := lab.ours(file, flagVerifyTime, lab.leaves["plain"], lab.between.cert); got != "certificate revoked" {
			t.Errorf("of one date: %q", got)
		}
	}
	// A list counts once, however often it is there.
	one := writtenList{}.der(t, lab.between)
	if got := lab.ours(pemBlocks("X509 CRL", one, good, one, good), flagVerifyTime, lab.leaves["plain"], lab.between.cert); got != "" {
		t.Errorf("a list that is there twice: %q", got)
	}
}

// An authority that has a new key, certified with its old one: the list may be signed with either.
func TestRevocationListsOverKeys(t *testing.T) {
	t.Parallel()
	lab := newRevocationLab(t)
	renewed := newAuthority(t, "root", lab.root, func(c *x509.Certificate) { c.AuthorityKeyId = lab.root.cert.SubjectKeyId })
	leaf := newAuthority(t, "leaf", renewed, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, 0 }).cert
	lab.write(t, "between.pem", "CERTIFICATE", renewed.cert.Raw)
	lab.write(t, "leaf.pem", "CERTIFICATE", leaf.Raw)
	kinds := map[string]*authority{"old": lab.root, "new": renewed}
	seen := make(tally)
	for _, which := range [][]string{{"old key"}, {"new key"}, {"old key", "new key"}, {"old"}, {"new"}, {"old", "new key"}, {"old key", "new"}} {
		for _, revoked := range [][]*big.Int{nil, {leaf.SerialNumber}, {renewed.cert.SerialNumber}} {
			var both [][]byte
			for _, one := range which {
				name, kind, _ := strings.Cut(one, " ")
				by := kinds[name]
				list := lists(t, by, by)[cmp.Or(kind, "version 2")]
				list.since = -day - time.Duration(len(both))*time.Hour
				both = append(both, list.der(t, by, revoked...))
			}
			file := pemBlocks("X509 CRL", both...)
			theirs := lab.openssl(t, file, []string{"leaf"}, "-crl_check_all")["leaf"]
			got := lab.ours(file, flagVerifyTime, leaf, renewed.cert)
			seen.compare(t, fmt.Sprintf("%v, on it %v", which, revoked), got, theirs, theirs)
		}
	}
	seen.demand(t, "", noList, "certificate revoked", "CRL signature failure")
}

// Who may sign lists, with which keys and algorithms.
func TestIssuersOfRevocationLists(t *testing.T) {
	t.Parallel()
	lab := newRevocationLab(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		key     crypto.Signer
		usage   x509.KeyUsage
		options []string
	}{
		"ecdsa":       {ecKey, x509.KeyUsageCertSign | x509.KeyUsageCRLSign, []string{"-md", "sha384"}},
		"ecdsa, sha1": {ecKey, x509.KeyUsageCertSign | x509.KeyUsageCRLSign, []string{"-md", "sha1"}},
		"ed25519":     {edKey, x509.KeyUsageCertSign | x509.KeyUsageCRLSign, []string{"-md", "null"}},
		"rsa":         {rsaKey, x509.KeyUsageCertSign | x509.KeyUsageCRLSign, []string{"-md", "sha256"}},
		"rsa, sha1":   {rsaKey, x509.KeyUsageCertSign | x509.KeyUsageCRLSign, []string{"-md", "sha1"}},
		"rsa, pss":    {rsaKey, x509.KeyUsageCertSign | x509.KeyUsageCRLSign, []string{"-md", "sha512", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:-1"}},
		"no use said": {rsaKey, 0, nil},
		"no lists":    {rsaKey, x509.KeyUsageCertSign, nil},
		"lists of its own": {ecKey, x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
			[]string{"-crlexts", "own"}},
	} {
		by := newAuthorityWith(t, c.key, "issuer", lab.root, func(cert *x509.Certificate) { cert.KeyUsage = c.usage })
		leaf := newAuthority(t, "leaf", by, func(cert *x509.Certificate) { cert.IsCA, cert.KeyUsage = false, 0 }).cert
		lab.write(t, "between.pem", "CERTIFICATE", by.cert.Raw)
		lab.write(t, "leaf.pem", "CERTIFICATE", leaf.Raw)
		for _, line := range []string{"", "R\t991231235959Z\t260101000000Z,keyCompromise\t%X\tunknown\t/CN=leaf\n",
			"R\t991231235959Z\t260101000000Z,removeFromCRL\t%X\tunknown\t/CN=leaf\n"} {
			if line != "" {
				line = fmt.Sprintf(line, leaf.SerialNumber)
			}
			list := lab.generate(t, by, line, c.options...)
			file := append(list, pemBlocks("X509 CRL", writtenList{}.der(t, lab.root))...)
			want := lab.openssl(t, file, []string{"leaf"}, "-crl_check_all")["leaf"]
			if got := lab.ours(file, flagVerifyTime, leaf, by.cert); got != want {
				t.Errorf("%s, %q: ours says %q and OpenSSL %q", what, line, got, want)
			}
			if what == "rsa" && line == "" {
				block, _ := pem.Decode(list)
				if _, err := x509.ParseRevocationList(block.Bytes); err == nil || want != "" {
					t.Errorf("no list of version 1 that is accepted: %v, %q", err, want)
				}
			}
		}
	}
}

// generate has the openssl command make a list with the system's own configuration, as it says for version 1 unless
// options say otherwise, or with ours.
func (lab *revocationLab) generate(t *testing.T, by *authority, index string, options ...string) []byte {
	t.Helper()
	testkit.Need(t, "openssl")
	dir := t.TempDir()
	key, err := x509.MarshalPKCS8PrivateKey(by.key)
	if err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile("/etc/ssl/openssl.cnf")
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case slices.Contains(options, "-crlexts"):
		config = []byte(ownConfig)
	case !slices.Contains(options, "-crl_lastupdate"):
		// "crlnumber must also be commented out to leave a V1 CRL."
		config = bytes.ReplaceAll(config, []byte("\ncrlnumber"), []byte("\n#crlnumber"))
	}
	if err := errors.Join(
		os.Mkdir(filepath.Join(dir, "demoCA"), 0o700),
		os.WriteFile(filepath.Join(dir, "demoCA", "index.txt"), []byte(index), 0o600),
		os.WriteFile(filepath.Join(dir, "demoCA", "crlnumber"), []byte("01\n"), 0o600),
		os.WriteFile(filepath.Join(dir, "openssl.cnf"), config, 0o600),
		os.WriteFile(filepath.Join(dir, "key.pem"), pemBlocks("PRIVATE KEY", key), 0o600),
		os.WriteFile(filepath.Join(dir, "cert.pem"), pemBlocks("CERTIFICATE", by.cert.Raw), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"ca", "-config", "openssl.cnf", "-gencrl", "-keyfile", "key.pem", "-cert", "cert.pem", "-out", "list.pem"}, options...)
	cmd := exec.CommandContext(t.Context(), "openssl", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	list, err := os.ReadFile(filepath.Join(dir, "list.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

const ownConfig = `
[ca]
default_ca = here
[here]
dir = ./demoCA
database = $dir/index.txt
crlnumber = $dir/crlnumber
default_md = sha256
default_crl_days = 3
[own]
authorityKeyIdentifier = keyid:always,issuer:always
issuingDistributionPoint = critical, @point
[point]
onlyuser = TRUE
`

// Lists that cannot be read stop the configuration: no older one is taken in their place.
func TestUnreadableRevocationLists(t *testing.T) {
	lab := newRevocationLab(t)
	good := writtenList{}.der(t, lab.between)
	text := string(pemBlocks("X509 CRL", good, writtenList{}.der(t, lab.root)))
	if got := lab.ours([]byte(text), flagVerifyTime, lab.leaves["plain"], lab.between.cert); got != "" {
		t.Fatal(got)
	}
	at := func(format string) writtenList {
		return writtenList{at: func(at time.Time) []byte { return element(derUTCTime, []byte(at.UTC().Format(format))) }}
	}
	whole := readDER(good)
	in := whole.in(derSequence)
	for what, bad := range map[string]string{
		"no PEM":              text + strings.Replace(text, "\nM", "\n!", 1),
		"cut off":             text + text[:len(text)/4],
		"no DER":              text + string(pemBlocks("X509 CRL", []byte("junk"))),
		"something behind it": text + string(pemBlocks("X509 CRL", append(slices.Clone(good), 0))),
		"something in it":     text + string(pemBlocks("X509 CRL", element(derSequence, slices.Concat(in.rest, number(1))))),
		"version 3":           text + string(pemBlocks("X509 CRL", writtenList{version: []byte{2}}.der(t, lab.between))),
		"time without zone":   text + string(pemBlocks("X509 CRL", at("060102150405").der(t, lab.between))),
		"time with a zone":    text + string(pemBlocks("X509 CRL", at("060102150405+0000").der(t, lab.between))),
		"no seconds":          text + string(pemBlocks("X509 CRL", at("0601021504Z").der(t, lab.between))),
		"fraction":            text + string(pemBlocks("X509 CRL", at("060102150405.0Z").der(t, lab.between))),
		"padded serial": text + string(pemBlocks("X509 CRL", writtenList{before: [][]byte{
			element(derSequence, slices.Concat(element(derInteger, []byte{0, 1}), utc(time.Now())))}}.der(t, lab.between))),
	} {
		if got := lab.ours([]byte(bad), flagVerifyTime, lab.leaves["plain"], lab.between.cert); got != "failed to parse crl" {
			t.Errorf("%s: %q", what, got)
		}
	}
}

// FuzzRevocationList: nothing that a list can be makes the worker panic, and what is read is what
// crypto/x509 reads, where that reads it.
func FuzzRevocationList(f *testing.F) {
	t := new(testing.T)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	by := newAuthorityWith(t, key, "between", nil, nil)
	for _, list := range lists(t, by, by) {
		f.Add(list.der(t, by, by.cert.SerialNumber, big.NewInt(-5)))
	}
	f.Fuzz(func(t *testing.T, encoded []byte) {
		list, err := parseList(encoded)
		known, knownErr := x509.ParseRevocationList(encoded)
		if err != nil {
			return
		}
		list.mayBeBy(by.cert)
		list.scope(by.cert, []distributionPoint{{names: [][]byte{{}}, reasons: allReasons}, {issuers: [][]byte{{}}}})
		(&candidate{revocationList: list, issuer: by.cert, score: scoreScope}).check(by.cert, true, time.Now())
		if knownErr != nil {
			return
		}
		if !bytes.Equal(known.RawIssuer, list.issuer) || !known.ThisUpdate.Equal(list.thisUpdate) || !known.NextUpdate.Equal(list.nextUpdate) ||
			!bytes.Equal(known.RawTBSRevocationList, list.signed) || known.SignatureAlgorithm != list.algorithm && list.algorithm != 0 {
			t.Errorf("%+v and %+v", known, list)
		}
		for _, entry := range known.RevokedCertificateEntries {
			_, listed := slices.BinarySearchFunc(list.revoked, serialNumber(&x509.Certificate{SerialNumber: entry.SerialNumber}), bytes.Compare)
			if !listed && entry.ReasonCode != 8 {
				t.Errorf("%v is not on the list", entry.SerialNumber)
			}
		}
	})
}

// FuzzDistributionPoints: nor does anything that a certificate says about its lists.
func FuzzDistributionPoints(f *testing.F) {
	name, err := asn1.Marshal(pkix.Name{CommonName: "issuer"}.ToRDNSequence())
	if err != nil {
		f.Fatal(err)
	}
	for _, points := range leafPoints(name, name) {
		f.Add(element(derSequence, slices.Concat(points...)))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		cert := &x509.Certificate{RawIssuer: name, Extensions: []pkix.Extension{{Id: oidPoints, Value: value}}}
		points, ok := distributionPoints(cert)
		for _, p := range points {
			if ok && p.names == nil && len(p.issuers) == 0 {
				t.Errorf("a point that names nothing: %x", value)
			}
		}
	})
}
