package proxy

import (
	"encoding/binary"
	"io"

	"golang.org/x/sys/unix"
)

// PostgreSQL's clients ask for TLS before they begin it (the message formats SSLRequest
// and GSSENCRequest in its documentation). Nothing else begins with such bytes, and a
// ClientHello begins with another, so every service answers them.
const (
	pgRequestLen  = 8
	pgSSLRequest  = 80877103
	pgGSSRequest  = 80877104
	pgYes, pgNo   = 'S', 'N'
	pgMostRequest = 4
)

// answerSSLRequest lets a client of PostgreSQL begin TLS.
func (ch *channel) answerSSLRequest() error {
	for range pgMostRequest {
		if err := ch.up.await(); err != nil {
			return err
		}
		if ahead := ch.up.Ahead(); len(ahead) == 0 || ahead[0] != 0 {
			return nil
		}
		var b [pgRequestLen]byte
		if _, err := io.ReadFull(plain{ch.up}, b[:]); err != nil {
			return err
		}
		answer := []byte{pgNo}
		switch code := binary.BigEndian.Uint32(b[4:]); {
		case binary.BigEndian.Uint32(b[:]) != pgRequestLen, code != pgSSLRequest && code != pgGSSRequest:
			return failf(unix.EPROTO, "the client does not speak TLS")
		case code == pgSSLRequest:
			answer[0] = pgYes
		}
		// What came with the request was not said under TLS (CVE-2021-23214).
		if len(ch.up.Ahead()) > 0 {
			return failf(unix.EPROTO, "the client said more than it may before TLS")
		}
		if _, err := ch.up.Write(answer); err != nil {
			return err
		}
	}
	return failf(unix.EPROTO, "the client asks for TLS again and again")
}
