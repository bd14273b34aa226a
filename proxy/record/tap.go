package record

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
)

// tap is the connection as crypto/tls sees it. It gives crypto/tls no byte past the
// record at hand, so that none is ever read ahead, and counts the records of both
// directions. Its Write method stays when the writing was taken over: then it is where
// crypto/tls, which may go on reading, has something to say.
type tap struct {
	Transport

	isClient bool

	in     counter
	hello  []byte // the first bytes that the server sends, up to its capacity
	atOnce bool   // Read does not wait for a record to begin

	taken atomic.Bool // writer is set; to be looked at while a write is under way

	mu      sync.Mutex // guards what follows; of others only the refusal's is locked under it
	keep    bool
	out     counter
	last    []byte // a copy of the last record, while keep is set
	held    []byte // where what is written is gathered; nil where it is not
	secrets secrets
	refusal *refusal // nil after the handshake
	writer  *writer  // set when the writing was taken over
}

// keyLog is the key log of one connection.
type keyLog struct {
	refusal *refusal // of a bare one; nil where there is a tap
	tap     *tap
}

// Write takes one line, and wipes it. An io.Writer must not do that; crypto/tls made the
// line for this call only, and it is a secret.
func (k keyLog) Write(line []byte) (int, error) {
	refusal := k.refusal
	if k.tap != nil {
		k.tap.mu.Lock()
		defer k.tap.mu.Unlock()
		k.tap.secrets.note(line)
		refusal = k.tap.refusal
	}
	refusal.note(line)
	clear(line)
	return len(line), nil
}

// counter follows the records of one direction.
type counter struct {
	header    [headerLen]byte // of the current record, as far as it has passed
	headerLen uint8
	said      [alertLen]byte // the beginning of the last record, where that is an alert
	saidLen   uint8
	left      uint16 // bytes of the current record that are still to come
	records   uint64 // since the last change_cipher_spec
}

// A ServerHello begins with the record's header, its own header, a version and the
// server's random (RFC 5246, sections 6.2.1 and 7.4.1.3).
const (
	randomAt  = headerLen + 4 + 2
	randomLen = 32
	helloLen  = randomAt + randomLen
)

// next is how many bytes the current header or body has left.
func (c *counter) next() int {
	if c.headerLen < headerLen {
		return headerLen - int(c.headerLen)
	}
	return int(c.left)
}

// between reports whether all records that began have passed.
func (c *counter) between() bool { return c.headerLen == 0 }

// pass notes bytes, at most next of them.
func (c *counter) pass(b []byte) {
	if c.headerLen < headerLen {
		c.headerLen += uint8(copy(c.header[c.headerLen:], b))
		if c.headerLen < headerLen {
			return
		}
		c.left = binary.BigEndian.Uint16(c.header[3:])
		c.saidLen = 0
	} else {
		if contentType(c.header[0]) == alertType {
			c.saidLen += uint8(copy(c.said[c.saidLen:], b))
		}
		c.left -= uint16(len(b))
	}
	if c.left > 0 {
		return
	}
	c.headerLen = 0
	if contentType(c.header[0]) == changeCipherSpec {
		c.records = 0
	} else {
		c.records++
	}
}

// alertLen is the length of an alert that is not encrypted.
const alertLen = 2

// plainAlert is the alert that was the last record, as it came.
func (c *counter) plainAlert() (a alert, ok bool) {
	if !c.between() || c.saidLen < alertLen || binary.BigEndian.Uint16(c.header[3:]) != alertLen {
		return 0, false
	}
	return alert(c.said[1]), true
}

// serverRandom is the random in the ServerHello that the server began with, or nil.
// One that comes in pieces, or after a warning, is not looked for.
func (t *tap) serverRandom() []byte {
	const serverHello = 2
	if len(t.hello) < helloLen || contentType(t.hello[0]) != handshakeType || t.hello[headerLen] != serverHello {
		return nil
	}
	return t.hello[randomAt:helloLen]
}

// hear notes the first bytes of what the server sends.
func (t *tap) hear(b []byte) {
	t.hello = append(t.hello, b[:min(len(b), cap(t.hello)-len(t.hello))]...)
}

// errLater is what Read returns where it would wait and must not. crypto/tls takes it for
// a deadline, after which it can go on.
type errLater struct{}

func (errLater) Error() string   { return "no record is here" }
func (errLater) Timeout() bool   { return true }
func (errLater) Temporary() bool { return true }

// Read reads at most to the end of the current record, or of its header.
func (t *tap) Read(b []byte) (int, error) {
	if t.atOnce && t.in.between() && !atHand(t.Ahead()) {
		return 0, errLater{}
	}
	n, err := t.Transport.Read(b[:min(len(b), t.in.next())])
	if t.isClient {
		t.hear(b[:n])
	}
	t.in.pass(b[:n])
	return n, err
}

// Write takes whole records, which is how crypto/tls writes.
func (t *tap) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.writer != nil {
		return t.writer.relay(b)
	}
	t.refusal.restate(b)
	if !t.isClient {
		t.hear(b)
	}
	record := b
	for rest := b; len(rest) > 0; {
		if t.out.between() {
			record = rest
		}
		n := min(len(rest), t.out.next())
		t.out.pass(rest[:n])
		rest = rest[n:]
	}
	if t.keep {
		t.last = append(t.last[:0], record...)
	}
	if t.held != nil {
		t.held = append(t.held, b...)
		return len(b), nil
	}
	return t.Transport.Write(b)
}

// gather makes writes wait for flush, in buf.
func (t *tap) gather(buf []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held = buf[:0]
}

// flush writes what was gathered with one call.
func (t *tap) flush() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	held := t.held
	t.held = nil
	if len(held) == 0 {
		return nil
	}
	_, err := t.Transport.Write(held)
	return err
}
