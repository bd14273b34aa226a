package starttls

import (
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

// postgresFilter answers a client's own requests for encryption. They are its first bytes.
type postgresFilter struct {
	held []byte
	done chan struct{} // closed when the client has begun
}

func newPostgresFilter(*Dialogue) Filter { return &postgresFilter{done: make(chan struct{})} }

func (f *postgresFilter) FromProgram(b []byte) (toServer, toProgram []byte, err error) {
	if f.Done() {
		return b, nil, nil
	}
	f.held = append(f.held, b...)
	for len(f.held) >= pgRequestLen {
		code := binary.BigEndian.Uint32(f.held[4:])
		if binary.BigEndian.Uint32(f.held) != pgRequestLen || code != pgSSLRequest && code != pgGSSRequest {
			close(f.done)
			toServer, f.held = f.held, nil
			return toServer, toProgram, nil
		}
		f.held = f.held[pgRequestLen:]
		toProgram = append(toProgram, 'N')
	}
	return nil, toProgram, nil
}

func (f *postgresFilter) FromServer(b []byte) ([]byte, error) { return b, nil }

func (f *postgresFilter) Done() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}
