// Package starttls asks servers for TLS in the words of their own protocols, and hides from the program
// that this was done: one file for each protocol, and one for the proxies on the way. It opens no
// sockets: it is given a connection to talk on, and tells what came of it. The outgoing front has a
// Dialogue with a server before TLS; relay has a Filter change the stream after.
//
// Nothing that a server says before TLS is believed: a dialogue only finds out that the server will
// speak TLS next, and what the program is shown is made anew, or said by the server once more under TLS.
// Where a protocol leaves no choice its file says so. A server is read from as far as an answer goes;
// what lies behind its go-ahead before the handshake fails the connection (CVE-2011-0411).
//
// It is larger than others because each protocol is by itself: none calls another.
package starttls

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"tlswrap/proxy/quote"
)

// Protocol is one way to ask for TLS.
type Protocol struct {
	// Ask asks. When it returns nil the next byte from the server belongs to the TLS
	// handshake. nil where TLS begins at once.
	Ask func(*Dialogue) error
	// Secured goes on under TLS, before the program is let in. nil for nothing.
	Secured func(*Dialogue) error
	// Greeting is what the program reads first, in place of the greeting that the
	// server gave before TLS. nil where the program speaks first, or the server greets
	// once more.
	Greeting func(*Dialogue) string
	// NewFilter makes the filter of a connection whose stream has to be changed. nil
	// where it has not.
	NewFilter func(*Dialogue) Filter
	// Refusal says in the protocol's words why there is no connection, to a program
	// that was let in before TLS (see Dialogue.Open).
	Refusal func(reason string) []byte
	// ALPN is offered where the rule has no list of its own.
	ALPN []string
	// Data is the protocol of the connections that Dialogue.Expect announces. nil where
	// there are none.
	Data *Protocol
}

// Filter changes what goes by after the dialogue. FromProgram and FromServer may be
// called at the same time, each by one goroutine; the slices that they are given and
// return are the caller's until the next call. An error ends the connection.
type Filter interface {
	// FromProgram takes what the program wrote, and returns what goes to the server and
	// what the program reads as an answer.
	FromProgram(b []byte) (toServer, toProgram []byte, err error)
	// FromServer takes what the server sent, and returns what the program reads.
	FromServer(b []byte) (toProgram []byte, err error)
	// Done reports whether nothing will be changed any more, and nothing is held back. Both
	// call it.
	Done() bool
}

// Farewell is implemented by filters that know when the server has said its last word:
// nothing is cut short then by an end without close_notify.
type Farewell interface {
	// Over is called where FromServer is.
	Over() bool
}

// Of returns the protocol that a rule names, or nil.
func Of(name string) *Protocol { return protocols[name] }

var protocols = map[string]*Protocol{
	"ftp":             &ftp,
	"imap":            &imap,
	"irc":             &irc,
	"ldap":            &ldap,
	"lmtp":            &lmtp,
	"mariadb":         &mysql,
	"mysql":           &mysql,
	"nntp":            &nntp,
	"pop3":            &pop3,
	"postgres":        &postgres,
	"postgres-direct": &postgresDirect,
	"sieve":           &sieve,
	"smtp":            &smtp,
	"submission":      &smtp,
	"xmpp":            &xmpp,
	"xmpp-server":     &xmppServer,
}

// Limits of what a server may say before TLS.
const (
	maxLine     = 8 << 10
	maxDialogue = 64 << 10
)

// Dialogue is the talk with one server.
type Dialogue struct {
	// Host is the name that the server's certificate has to be for.
	Host string
	// Local is this end's address.
	Local netip.Addr
	// Peer is the server's address as the program knows it.
	Peer netip.Addr
	// Expect notes that the program will connect to another port of Peer, on behalf of
	// this connection (FTP's data connections). nil where nobody would connect.
	Expect func(port uint16)
	// Warn tells a person what the program was refused. nil where nobody would read it.
	Warn func(reason string)
	// Open lets the program in before TLS, for the protocols whose upgrade needs its
	// words, and returns the connection to it. What is not read of its words goes to the
	// server under TLS. From then on a failure is told by Refusal. nil where there is no
	// program.
	Open func() (io.ReadWriter, error)

	conn    io.ReadWriter
	proxy   bool   // the talk is with a proxy on the way to the server
	read    int    // bytes from the server so far
	waiting string // for what, for people
	notes   any    // the protocol's own, that Ask leaves to Secured and NewFilter
	said    []Line
}

// Conn is a connection before TLS. Its Read is cheap for single bytes.
type Conn interface {
	io.ReadWriter
	// Ahead returns what has been received and not been read.
	Ahead() []byte
}

// Line is one thing that was said before TLS, printable.
type Line struct {
	Proxy  bool // it is of the talk with a proxy
	Worker bool // we said it
	Text   string
}

// Said returns what was said so far.
func (d *Dialogue) Said() []Line { return d.said }

// Error is a server's fault, in words for a person.
type Error struct{ Reason string }

func (e *Error) Error() string { return e.Reason }

func errorf(format string, args ...any) error { return &Error{fmt.Sprintf(format, args...)} }

// Run lets step talk over conn. The error is an *Error or conn's own.
func (d *Dialogue) Run(conn io.ReadWriter, step func(*Dialogue) error) error {
	if step == nil {
		return nil
	}
	d.conn = conn
	return step(d)
}

// Ask is Run for a protocol's Ask. It makes sure that the server has said nothing beyond
// what was read: whoever can put words in front of the handshake could have them taken
// for the server's own under TLS (CVE-2011-0411).
func (d *Dialogue) Ask(conn Conn, p *Protocol) error {
	if err := d.Run(conn, p.Ask); err != nil {
		return err
	}
	if extra := conn.Ahead(); p.Ask != nil && len(extra) > 0 {
		return errorf("the server said more than it may before TLS: %s", quote.Line(extra))
	}
	return nil
}

// Read reads from the server, as all of a dialogue does, and bounds how much that is.
func (d *Dialogue) Read(b []byte) (int, error) {
	if d.read == maxDialogue {
		return 0, errorf("%s said more than %d bytes before TLS", d.peer(), maxDialogue)
	}
	n, err := d.conn.Read(b[:min(len(b), maxDialogue-d.read)])
	d.read += n
	return n, d.explain(err)
}

// ReadByte implements io.ByteReader.
func (d *Dialogue) ReadByte() (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(d, b[:])
	return b[0], err
}

func (d *Dialogue) peer() string {
	if d.proxy {
		return "the proxy"
	}
	return "the server"
}

// expect names what is read next, for people ("a greeting").
func (d *Dialogue) expect(what string) { d.waiting = what }

// line reads a line, without its end.
func (d *Dialogue) line() (string, error) {
	var line []byte
	for {
		c, err := d.ReadByte()
		switch {
		case err != nil && len(line) > 0:
			d.note(true, line)
			return "", errorf("%v, after %s", err, quote.Line(line))
		case err != nil:
			return "", err
		case c == '\n':
			text := strings.TrimSuffix(string(line), "\r")
			d.note(true, []byte(text))
			return text, nil
		case len(line) == maxLine:
			return "", errorf("%s sent a line of more than %d bytes instead of %s: %s", d.peer(), maxLine, d.waiting, quote.Line(line))
		}
		line = append(line, c)
	}
}

// explain says what an end of the connection, or of the time, means here.
func (d *Dialogue) explain(err error) error {
	switch {
	case err == nil:
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errorf("%s closed the connection instead of sending %s", d.peer(), d.waiting)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errorf("%s did not send %s in time", d.peer(), d.waiting)
	}
	return err
}

// write sends words to the server.
func (d *Dialogue) write(words []byte) error {
	_, err := d.conn.Write(words)
	return err
}

// say sends a line.
func (d *Dialogue) say(line string) error {
	d.note(false, []byte(line))
	return d.write([]byte(line + "\r\n"))
}

// maxSaid bounds what Said returns.
const maxSaid = 100

// note keeps what was said for people.
func (d *Dialogue) note(fromServer bool, text []byte) {
	if len(d.said) < maxSaid {
		d.said = append(d.said, Line{d.proxy, !fromServer, quote.Printable(text)})
	}
}
