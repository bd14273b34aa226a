package serving

import (
	"encoding/binary"
	"io"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/verdict"
)

// PostgreSQL's clients ask for TLS before they begin it (the messages SSLRequest and
// GSSENCRequest of its frontend and backend protocol). Nothing else begins with such
// bytes, and a ClientHello begins with another, so every service answers them.
const (
	pgRequestLen  = 8
	pgSSLRequest  = 80877103
	pgGSSRequest  = 80877104
	pgVersion     = 3     // the upper half of a StartupMessage's code
	pgMostStartup = 10000 // MAX_STARTUP_PACKET_LENGTH
	pgYes, pgNo   = 'S', 'N'
)

// pgRefusal is the ErrorResponse to a client that begins without TLS. One whose user
// leaves it the choice (sslmode=allow) tries again, and asks.
var pgRefusal = func() []byte {
	const fields = "SFATAL\x00VFATAL\x00C28000\x00Mthis server is reached by TLS only\x00\x00"
	return append(binary.BigEndian.AppendUint32([]byte{'E'}, uint32(4+len(fields))), fields...)
}()

// answerSSLRequest lets a client of PostgreSQL begin TLS. It may have asked for GSSAPI
// before, which there is none of.
func (c *Client) answerSSLRequest() error {
	for range 2 {
		if err := c.up.Await(); err != nil {
			return err
		}
		if ahead := c.up.Ahead(); len(ahead) == 0 || ahead[0] != 0 {
			return nil
		}
		var b [pgRequestLen]byte
		if _, err := io.ReadFull(c.up.Plain(), b[:]); err != nil {
			return err
		}
		size, code := binary.BigEndian.Uint32(b[:]), binary.BigEndian.Uint32(b[4:])
		switch {
		case size == pgRequestLen && code == pgSSLRequest:
			return c.answerRequest(pgYes)
		case size == pgRequestLen && code == pgGSSRequest:
			if err := c.answerRequest(pgNo); err != nil {
				return err
			}
		case code>>16 == pgVersion && size >= pgRequestLen && size <= pgMostStartup:
			return c.refuseStartup(int64(size - pgRequestLen))
		default:
			return verdict.Failf(unix.EPROTO, "the client does not speak TLS")
		}
	}
	return verdict.Failf(unix.EPROTO, "the client asks for encryption again and again")
}

// answerRequest answers a request. What came with it was not said under TLS
// (CVE-2021-23214).
func (c *Client) answerRequest(answer byte) error {
	if len(c.up.Ahead()) > 0 {
		return verdict.Failf(unix.EPROTO, "the client said more than it may before TLS")
	}
	_, err := c.up.Write([]byte{answer})
	return err
}

// refuseStartup tells a client that begins without TLS, of whose words rest bytes are to
// come, why there is no connection. It reads them, as closing a socket with unread bytes
// resets it, and the answer could be lost.
func (c *Client) refuseStartup(rest int64) error {
	if _, err := io.CopyN(io.Discard, c.up.Plain(), rest); err != nil {
		return err
	}
	if _, err := c.up.Write(pgRefusal); err != nil {
		return err
	}
	return verdict.Failf(unix.EPROTO, "the client speaks PostgreSQL's protocol without TLS")
}
