package relay

import (
	"encoding/binary"
	"errors"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/buffers"
	"tlswrap/proxy/quote"
	"tlswrap/proxy/verdict"
)

// speaksTLS reports whether a program's first bytes are those of a ClientHello (RFC
// 8446, sections 5.1 and 4). TLS libraries write the whole record at once.
func speaksTLS(b []byte) bool {
	const handshake, clientHello = 22, 1
	return len(b) > recordHeaderLen && b[0] == handshake && b[1] == 3 && b[2] <= 4 && b[5] == clientHello
}

// clientTLSError is the end of an upload whose program speaks TLS itself.
type clientTLSError struct {
	first []byte // that it wrote
}

func (*clientTLSError) Error() string { return "the program speaks TLS itself" }

// pass carries the records of a program that speaks TLS itself, of which first are, as they are.
func (c *Conn) pass(first []byte) *verdict.Failure {
	return c.bothWays(c.passDown, func(<-chan struct{}) *verdict.Failure {
		var f *verdict.Failure
		switch err := c.passUp(first); {
		case c.Abandoned(err):
			c.Abandon()
		case errors.As(err, &f):
			c.Upstream.Close()
		default:
			c.Upstream.CloseWrite()
			c.Upstream.SetReadDeadline(time.Now().Add(DrainTime))
		}
		return f
	})
}

// passUp carries what the program writes, as long as that is TLS records: nothing else
// may leave for a host that the rule covers. The error is a *verdict.Failure, or that of reading.
func (c *Conn) passUp(b []byte) error {
	var records framing
	for {
		if !records.next(b) {
			return verdict.Failf(unix.EPROTO, "the program spoke TLS itself, and then something else: refused, after %s", quote.Line(b))
		}
		if err := c.Sending(func() error { _, err := c.Upstream.Write(b); return err }); err != nil {
			return verdict.Broken(err)
		}
		buf, n, err := c.Channel.Next()
		if err == io.EOF {
			c.Upstream.CloseWrite()
			c.Channel.Ended()
			return c.Channel.Gone()
		}
		if err != nil {
			return err
		}
		b = append(b[:0], (*buf)[:n]...)
		buffers.Put(buf)
	}
}

// passDown carries what the server sends.
func (c *Conn) passDown() *verdict.Failure {
	buf := buffers.Get()
	defer buffers.Put(buf)
	for {
		n, err := c.Upstream.Plain().Read(*buf)
		if n > 0 && c.Channel.Send((*buf)[:n]) != nil {
			c.Undelivered()
			return nil
		}
		if err == io.EOF {
			c.Channel.Finish()
			return nil
		}
		if err != nil {
			c.Channel.Close()
			return nil
		}
	}
}

const recordHeaderLen = 5

// recordLen reads a record's length (RFC 8446, section 5.1).
func recordLen(header []byte) int { return int(binary.BigEndian.Uint16(header[3:])) }

// framing follows a stream of TLS records (RFC 8446, section 5.1).
type framing struct {
	header [recordHeaderLen]byte
	have   int // bytes of the header
	rest   int // bytes of the record that are still to come
}

// maxCiphertext is the most that a record has (RFC 5246, section 6.2.3).
const maxCiphertext = 16<<10 + 2048

// next reports whether b goes on with the stream.
func (f *framing) next(b []byte) bool {
	const first, last = 20, 24 // change_cipher_spec to heartbeat
	for len(b) > 0 {
		if f.rest > 0 {
			n := min(f.rest, len(b))
			f.rest, b = f.rest-n, b[n:]
			continue
		}
		n := copy(f.header[f.have:], b)
		f.have, b = f.have+n, b[n:]
		if f.header[0] < first || f.header[0] > last || (f.have > 1 && f.header[1] != 3) {
			return false
		}
		if f.have == recordHeaderLen {
			f.have, f.rest = 0, recordLen(f.header[:])
			if f.rest > maxCiphertext {
				return false
			}
		}
	}
	return true
}
