package starttls

import (
	"bytes"
	"encoding/binary"

	"tlswrap/proxy/quote"
)

// PostgreSQL: the messages SSLRequest, GSSENCRequest and ErrorResponse of its frontend and
// backend protocol. A client may ask for encryption itself, with its first bytes, and is
// told that there is none; it then goes on without, or not, as its user wants.
var (
	postgres = Protocol{Ask: askPostgres, NewFilter: newPostgresFilter}
	// From version 17 on servers take TLS at once, where ALPN says what it is for.
	postgresDirect = Protocol{NewFilter: newPostgresFilter, ALPN: []string{"postgresql"}}
)

const (
	pgRequestLen = 8
	pgSSLRequest = 80877103
	pgGSSRequest = 80877104
)

func askPostgres(d *Dialogue) error {
	d.note(false, []byte("SSLRequest"))
	answer, err := d.exchange(binary.BigEndian.AppendUint32([]byte{0, 0, 0, pgRequestLen}, pgSSLRequest), 1, "the answer to SSLRequest")
	if err != nil {
		return err
	}
	d.note(true, answer)
	switch answer[0] {
	case 'S':
		return nil
	case 'N':
		return errorf("the server does not offer TLS: it answered SSLRequest with N")
	case 'E':
		return d.postgresError()
	}
	return errorf("the server does not speak PostgreSQL's protocol: it answered %s", quote.Line(answer))
}

// postgresError reads an ErrorResponse, whose first byte has been read.
func (d *Dialogue) postgresError() error {
	head, err := d.exchange(nil, 4, "its error")
	if err != nil {
		return err
	}
	n := int(binary.BigEndian.Uint32(head)) - len(head)
	if n < 0 || n > maxLine {
		return errorf("the server refused TLS, with an error of %d bytes", n)
	}
	fields, err := d.exchange(nil, n, "its error")
	if err != nil {
		return err
	}
	return errorf("the server refused TLS: it said %s", quote.Line(fields))
}

// postgresFilter answers a client's own requests for encryption, its first bytes, and takes
// what needs TLS out of the server's first question: clients without TLS give up where
// they are offered a mechanism that binds to it (RFC 5802, section 6).
type postgresFilter struct {
	held  []byte        // of the client's
	begun chan struct{} // closed when the client has begun
	asked []byte        // of the server's
	known chan struct{} // closed when the server's question has gone by
}

func newPostgresFilter(*Dialogue) Filter {
	return &postgresFilter{begun: make(chan struct{}), known: make(chan struct{})}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (f *postgresFilter) FromProgram(b []byte) (toServer, toProgram []byte, err error) {
	if isClosed(f.begun) {
		return b, nil, nil
	}
	f.held = append(f.held, b...)
	for len(f.held) >= pgRequestLen {
		code := binary.BigEndian.Uint32(f.held[4:])
		if binary.BigEndian.Uint32(f.held) != pgRequestLen || code != pgSSLRequest && code != pgGSSRequest {
			close(f.begun)
			toServer, f.held = f.held, nil
			return toServer, toProgram, nil
		}
		f.held = f.held[pgRequestLen:]
		toProgram = append(toProgram, 'N')
	}
	return nil, toProgram, nil
}

// FromServer looks for the first message but NegotiateProtocolVersion.
func (f *postgresFilter) FromServer(b []byte) (toProgram []byte, err error) {
	const head, negotiateVersion = 5, 'v'
	if isClosed(f.known) {
		return b, nil
	}
	f.asked = append(f.asked, b...)
	for len(f.asked) >= head {
		n := 1 + int(binary.BigEndian.Uint32(f.asked[1:]))
		if n < head || n > maxLine {
			return nil, errorf("the server sent a message of %d bytes instead of asking for authentication", n)
		}
		if len(f.asked) < n {
			break
		}
		message := f.asked[:n]
		f.asked = f.asked[n:]
		toProgram = append(toProgram, withoutBinding(message)...)
		if message[0] != negotiateVersion {
			close(f.known)
			toProgram, f.asked = append(toProgram, f.asked...), nil
			break
		}
	}
	return toProgram, nil
}

// withoutBinding takes the mechanisms with channel binding out of AuthenticationSASL.
func withoutBinding(message []byte) []byte {
	const head, sasl = 9, 10
	if message[0] != 'R' || len(message) < head || binary.BigEndian.Uint32(message[5:]) != sasl {
		return message
	}
	out := append([]byte(nil), message[:head]...)
	for name := range bytes.SplitSeq(bytes.TrimRight(message[head:], "\x00"), []byte{0}) {
		if !bytes.HasSuffix(name, []byte("-PLUS")) {
			out = append(append(out, name...), 0)
		}
	}
	out = append(out, 0)
	binary.BigEndian.PutUint32(out[1:], uint32(len(out)-1))
	return out
}

func (f *postgresFilter) Done() bool { return isClosed(f.begun) && isClosed(f.known) }
