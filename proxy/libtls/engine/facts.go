package engine

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"strings"
	"time"

	"tlswrap/proxy/ocsp"
)

// facts are what tls_conn_* and tls_peer_* report: see struct tw_tls_facts.
type facts struct {
	numbers [numbers]int64
	strings [stringCount]*string
}

func (f *facts) set(which int, s string) { f.strings[which] = &s }

// Marshal writes the facts, with their size before them.
func (f *facts) marshal() []byte {
	ne := binary.NativeEndian
	b := make([]byte, 4, 4<<10)
	for _, n := range f.numbers {
		b = ne.AppendUint64(b, uint64(n))
	}
	for _, s := range f.strings {
		if s == nil {
			b = ne.AppendUint32(b, 0)
			continue
		}
		// The program's functions end them at the first NUL.
		text := strings.ReplaceAll(*s, "\x00", "?")
		b = ne.AppendUint32(b, uint32(len(text)+1))
		b = append(append(b, text...), 0)
	}
	ne.PutUint32(b, uint32(len(b)-4))
	return b
}

func newFacts() *facts {
	f := &facts{}
	f.setOCSP(&ocsp.Result{Status: -1, Cert: -1, Reason: -1})
	f.numbers[numNotBefore], f.numbers[numNotAfter] = -1, -1
	return f
}

func (f *facts) setOCSP(r *ocsp.Result) {
	f.numbers[numOCSPStatus], f.numbers[numOCSPCertStatus], f.numbers[numOCSPReason] = int64(r.Status), int64(r.Cert), int64(r.Reason)
	f.numbers[numOCSPThisUpdate] = seconds(r.ThisUpdate)
	f.numbers[numOCSPNextUpdate] = seconds(r.NextUpdate)
	f.numbers[numOCSPRevocationTime] = seconds(r.Revoked)
	if r.Text != "" {
		f.set(strOCSPResult, r.Text)
	}
}

func seconds(t time.Time) int64 {
	if t.IsZero() {
		return -1
	}
	return t.Unix()
}

// fail says why there is no more to tell.
func (f *facts) fail(text string) {
	f.numbers[numFailed] = 1
	f.set(strError, text)
}

// setPeer tells about the certificates that the peer sent.
func (f *facts) setPeer(sent []*x509.Certificate) {
	if len(sent) == 0 {
		return
	}
	leaf := sent[0]
	f.numbers[numProvided] = 1
	f.numbers[numNotBefore], f.numbers[numNotAfter] = leaf.NotBefore.Unix(), leaf.NotAfter.Unix()
	f.set(strSubject, oneLine(leaf.RawSubject))
	f.set(strIssuer, oneLine(leaf.RawIssuer))
	sum := sha256.Sum256(leaf.Raw)
	f.set(strHash, "SHA256:"+hex.EncodeToString(sum[:]))
	f.set(strCommonName, commonName(leaf))
	var chain strings.Builder
	for _, cert := range sent {
		pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	}
	f.set(strChain, chain.String())
	f.setOCSPURL(leaf)
}

func (f *facts) setOCSPURL(leaf *x509.Certificate) {
	if len(leaf.OCSPServer) > 0 {
		f.set(strOCSPURL, leaf.OCSPServer[0])
	}
}

func commonName(cert *x509.Certificate) string {
	names, _ := rdns(cert.RawSubject)
	for _, a := range names {
		if a.oid.Equal(oidCommonName) {
			return a.text()
		}
	}
	return ""
}
