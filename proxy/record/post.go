package record

import (
	"encoding/binary"
	"time"
)

// Handshake messages after the handshake (RFC 8446, section 4.6).
const (
	typeHelloRequest     = 0
	typeNewSessionTicket = 4
	typeKeyUpdate        = 24

	updateNotRequested = 0
	updateRequested    = 1
)

const (
	messageHeaderLen = 4
	maxMessage       = 64 << 10           // as in crypto/tls
	maxTicketLife    = 7 * 24 * time.Hour // RFC 8446, section 4.6.1
	earlyDataType    = 42                 // RFC 8446, section 4.2
)

// handshake13 deals with a record of handshake messages, which may begin and end within
// a message.
func (r *reader) handshake13(plain []byte) error {
	if len(plain) == 0 {
		return alertUnexpectedMessage // RFC 8446, section 5.1
	}
	b := plain
	if len(r.partial) > 0 {
		r.partial = append(r.partial, plain...)
		b = r.partial
	}
	for len(b) > 0 {
		if b[0] != typeKeyUpdate && (b[0] != typeNewSessionTicket || !r.isClient) {
			return alertUnexpectedMessage
		}
		if len(b) < messageHeaderLen {
			break
		}
		n := int(binary.BigEndian.Uint32(b) & 0xffffff)
		if n > maxMessage {
			return alertInternalError
		}
		if len(b) < messageHeaderLen+n {
			break
		}
		message := b[messageHeaderLen : messageHeaderLen+n]
		if err := r.countUseless(); err != nil {
			return err
		}
		if b[0] == typeNewSessionTicket {
			if err := checkTicket(message); err != nil {
				return err
			}
		} else if err := r.keyUpdate(message, len(b) == messageHeaderLen+n); err != nil {
			return err
		}
		b = b[messageHeaderLen+n:]
	}
	switch {
	case len(b) == 0:
		r.partial = nil
	case len(b) != len(r.partial): // where it is the same, a message comes in small pieces
		r.partial = append(r.partial[:0], b...)
	}
	return nil
}

// keyUpdate changes to the peer's next keys. last says that nothing follows in the same
// record: what did would be under the wrong keys (RFC 8446, section 5.1).
func (r *reader) keyUpdate(message []byte, last bool) error {
	switch {
	case len(message) != 1:
		return alertDecodeError
	case message[0] != updateNotRequested && message[0] != updateRequested:
		return alertIllegalParameter
	case !last:
		return alertUnexpectedMessage
	}
	if r.updates++; r.updates > freeUpdates && r.updates > r.records/updateEvery {
		return alertUnexpectedMessage
	}
	if message[0] == updateRequested {
		r.askedForUpdate()
	}
	if err := r.half.update(); err != nil {
		return alertInternalError
	}
	return nil
}

// checkTicket looks whether a ticket is well formed. It is not kept: only crypto/tls can
// resume with it, and has got what came before the data.
func checkTicket(message []byte) error {
	f := fields{rest: message}
	lifetime := f.number(4)
	f.number(4) // ticket_age_add
	f.vector(1) // ticket_nonce
	ticket := f.vector(2)
	extensions := fields{rest: f.vector(2)}
	if f.short || len(f.rest) > 0 {
		return alertDecodeError
	}
	for len(extensions.rest) > 0 {
		typ := extensions.number(2)
		if data := extensions.vector(2); extensions.short || typ == earlyDataType && len(data) != 4 {
			return alertDecodeError
		}
	}
	switch {
	case lifetime == 0:
		return nil
	case time.Duration(lifetime)*time.Second > maxTicketLife:
		return alertIllegalParameter
	case len(ticket) == 0:
		return alertDecodeError
	}
	return nil
}

// fields takes a message apart. short is set when it ended too early.
type fields struct {
	rest  []byte
	short bool
}

func (f *fields) take(n int) []byte {
	if n > len(f.rest) {
		f.short, f.rest = true, nil
		return nil
	}
	b := f.rest[:n]
	f.rest = f.rest[n:]
	return b
}

func (f *fields) number(size int) int {
	n := 0
	for _, b := range f.take(size) {
		n = n<<8 | int(b)
	}
	return n
}

// vector takes bytes that come after their number.
func (f *fields) vector(size int) []byte { return f.take(f.number(size)) }

// handshake12 refuses what could only be a renegotiation, as crypto/tls does.
func (r *reader) handshake12(plain []byte) error {
	if r.isClient && string(plain) == "\x00\x00\x00\x00" { // HelloRequest
		return alertNoRenegotiation
	}
	return alertUnexpectedMessage
}
