package proxy

import (
	"encoding/binary"
	"io"
	"net/netip"
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

// clientTLS refuses a program that speaks TLS itself, or connects it anew to where it
// wanted to go, and carries its records as they are. Nothing else uses the upstream.
func (ch *connection) clientTLS(first []byte) *verdict.Failure {
	rule := ch.Target.Decision.Rule
	if !rule.PassClientTLS {
		return verdict.Failf(unix.EPROTO, "the program speaks TLS itself, and would have had TLS inside TLS: refused (client_tls = \"pass\" in the rule lets it through)")
	}
	ch.up.SetDeadline(time.Now().Add(rule.Timeout))
	err := ch.up.Reconnect(ch.Target.Addr)
	if err != nil {
		return verdict.Dial(err, netip.AddrPortFrom(ch.Target.Addr.Real(), ch.Target.Addr.Port), rule.Timeout)
	}
	ch.up.SetDeadline(time.Time{})
	ch.session.Passed(ch.Target, ch.pid, "the program speaks TLS itself")

	return ch.bothWays(ch.passDown, func(<-chan struct{}) *verdict.Failure {
		if f := ch.passUp(first); f != nil {
			ch.up.Close()
			return f
		}
		ch.up.CloseWrite()
		ch.pair.Ended()
		ch.pair.Gone()
		ch.up.SetReadDeadline(time.Now().Add(drainTime))
		return nil
	})
}

// passUp carries what the program writes, as long as that is TLS records: nothing else
// may leave for a host that the rule covers.
func (ch *connection) passUp(b []byte) *verdict.Failure {
	var records framing
	for {
		if !records.next(b) {
			return verdict.Failf(unix.EPROTO, "the program spoke TLS itself, and then something else: refused, after %s", quote.Line(b))
		}
		if _, err := ch.up.Write(b); err != nil {
			return verdict.Broken(err)
		}
		buf, n, err := ch.pair.Next()
		if err != nil {
			return nil
		}
		b = append(b[:0], (*buf)[:n]...)
		buffers.Put(buf)
	}
}

// passDown carries what the server sends.
func (ch *connection) passDown() *verdict.Failure {
	buf := buffers.Get()
	defer buffers.Put(buf)
	for {
		n, err := ch.up.Plain().Read(*buf)
		if n > 0 && ch.pair.Send((*buf)[:n]) != nil {
			return nil
		}
		if err == io.EOF {
			ch.pair.Finish()
			return nil
		}
		if err != nil {
			ch.pair.Close()
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
const maxCiphertext = maxPlaintext + 2048

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
