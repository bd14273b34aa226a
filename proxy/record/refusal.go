package record

import (
	"bytes"
	"crypto/tls"
	"net"
	"sync"
)

// Alert is why a peer's certificate is refused (RFC 8446, section 6.2).
type Alert = alert

// Alerts about certificates. crypto/tls has the first for all that a callback finds.
const (
	AlertBadCertificate               Alert = 42
	AlertUnsupportedCertificate       Alert = 43
	AlertCertificateRevoked           Alert = 44
	AlertCertificateExpired           Alert = 45
	AlertCertificateUnknown           Alert = 46
	AlertUnknownCA                    Alert = 48
	AlertDecryptError                 Alert = 51
	AlertBadCertificateStatusResponse Alert = 113
)

// Refuse has the peer told by this alert why the handshake fails. It is called by the callback that fails it
// (VerifyConnection), with the state that it was given. Where the suite is none that this package has, or the
// connection is renegotiating, the alert stays crypto/tls's.
func (c *Conn) Refuse(a Alert, state tls.ConnectionState) {
	r := c.refusal
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alert = a
	if state.Version == tls.VersionTLS13 {
		r.suite = suites[state.CipherSuite]
	}
}

// refusal changes the alert by which crypto/tls ends a handshake that a callback of ours has failed.
type refusal struct {
	isClient bool
	in       counter // of a bare connection: what its peer sends

	mu     sync.Mutex
	secret []byte // of TLS 1.3: what crypto/tls says when it looks at certificates goes under it
	alert  alert  // 0: as crypto/tls has it
	suite  *suite
}

// note takes the secret from a line of the key log. The client looks at certificates before its handshake is
// over, and the server when it has said all of its own. nil, as in restate, is of a handshake that is over.
func (r *refusal) note(line []byte) {
	if r == nil {
		return
	}
	label := "SERVER_TRAFFIC_SECRET_0"
	if r.isClient {
		label = "CLIENT_HANDSHAKE_TRAFFIC_SECRET"
	}
	if secret := secretIn(line, label); secret != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.secret = secret
	}
}

func (r *refusal) wipe() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.secret)
	r.secret = nil
}

// restate changes the alert that ends b, whole records of crypto/tls's, if there is one.
func (r *refusal) restate(b []byte) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.alert == 0 {
		return
	}
	var c counter
	last := b
	for rest := b; len(rest) > 0; {
		if c.between() {
			last = rest
		}
		n := min(len(rest), c.next())
		c.pass(rest[:n])
		rest = rest[n:]
	}
	const plainLen = headerLen + 2
	switch {
	case !c.between() || len(last) < plainLen:
	case contentType(last[0]) == alertType && len(last) == plainLen:
		if last[headerLen+1] == byte(AlertBadCertificate) {
			last[headerLen+1] = byte(r.alert)
		}
	case r.suite != nil && r.secret != nil:
		if half, err := newHalf13(r.suite, bytes.Clone(r.secret), 0); err == nil {
			half.restate(last, r.alert)
			half.wipe()
		}
	}
}

// mostBefore is more than the records that crypto/tls has sealed before an alert.
const mostBefore = 8

// restate seals another alert in the place of bad_certificate, under the number of the record, which is not
// sent. That number is found out: the tickets of a resumed session may have gone before it.
func (h *half) restate(record []byte, a alert) {
	for number := range uint64(mostBefore) {
		try := *h
		try.seq = number
		content, kind, err := try.open(make([]byte, 0, len(record)), record)
		if err != nil {
			continue
		}
		if kind != alertType || len(content) != 2 || content[1] != byte(AlertBadCertificate) {
			return
		}
		h.seq, content[1] = number, byte(a)
		if sealed, err := h.seal(make([]byte, 0, len(record)), alertType, content); err == nil {
			copy(record, sealed)
		}
		return
	}
}

// bare is a connection that is no Transport as crypto/tls sees it.
type bare struct {
	net.Conn
	*refusal
}

// Read notes the records that come.
func (b bare) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	for rest := p[:n]; len(rest) > 0; {
		most := min(len(rest), b.in.next())
		b.in.pass(rest[:most])
		rest = rest[most:]
	}
	return n, err
}

// Write takes whole records.
func (b bare) Write(p []byte) (int, error) {
	b.restate(p)
	return b.Conn.Write(p)
}
