package starttls

import (
	"bytes"
	"encoding/binary"
	"io"
	"sync/atomic"

	"tlswrap/proxy/quote"
)

// MySQL and MariaDB: the connection phase of the client/server protocol. The server greets,
// the client asks for TLS with a packet (SSLRequest) that has its own capabilities in it,
// and says who it is under TLS, where the packets' numbers go on.
//
// So the client has to speak before TLS, and for that it has to see the greeting of before
// TLS: the number that its answer to the password depends on is in there. That is all that
// whoever tampers with it can spoil, as the answer is sent to nobody but the verified
// server. What is shown is checked to be a greeting, and does not offer TLS. A client that
// asks for TLS all the same gets an error, as from a server without it.
var mysql = Protocol{
	Ask:       mysqlAsk,
	Secured:   mysqlSecured,
	NewFilter: func(d *Dialogue) Filter { return d.filter },
	Refusal:   mysqlRefusal,
}

// The capabilities that matter here, and which a client has that is only curious.
const (
	mysqlSSL      = 1 << 11
	mysql41       = 1 << 9
	mysqlSecure   = 1 << 15
	mysqlPlugin   = 1 << 19
	mysqlExplains = mysql41 | mysqlSecure | mysqlPlugin
)

// Packets: a length of three bytes, a number, the payload.
const (
	mysqlHeadLen   = 4
	mysqlMost      = 64 << 10 // of the client's first, with its attributes; see readLogin
	mysqlShortLen  = 5        // of SSLRequest before 4.1
	mysqlLongLen   = 32
	mysqlVersion   = 10
	mysqlOK        = 0x00
	mysqlErr       = 0xff
	mysqlErrNumber = 1043 // ER_HANDSHAKE_ERROR; clients take no number of their own from a server
)

func mysqlPacket(number byte, payload []byte) []byte {
	head := binary.LittleEndian.AppendUint32(nil, uint32(len(payload)))
	head[3] = number
	return append(head, payload...)
}

// mysqlLength is that of the payload, which a header tells.
func mysqlLength(head []byte) int { return int(binary.LittleEndian.Uint32(head) & 0xffffff) }

func mysqlAsk(d *Dialogue) error {
	greeting, at, err := d.mysqlGreeting()
	if err != nil {
		return err
	}
	f := new(mysqlFilter)
	d.filter = f
	login := make([]byte, mysqlLongLen)
	binary.LittleEndian.PutUint32(login, mysqlExplains)
	if d.Open != nil {
		program, err := d.Open()
		if err != nil {
			return err
		}
		greeting[at+1] &^= mysqlSSL >> 8
		if _, err := program.Write(mysqlPacket(0, greeting)); err != nil {
			return err
		}
		if login, err = f.readLogin(program); err != nil {
			return err
		}
	}
	n := mysqlShortLen
	if len(login) >= n && binary.LittleEndian.Uint16(login)&mysql41 != 0 {
		n = mysqlLongLen
	}
	if len(login) < n {
		return errorf("the program does not speak MySQL's protocol: its first packet has %d bytes", len(login))
	}
	login[1] |= mysqlSSL >> 8
	d.note(false, []byte("SSLRequest"))
	return d.write(mysqlPacket(1, login[:n]))
}

// mysqlGreeting reads the first packet, and finds its lower capabilities.
func (d *Dialogue) mysqlGreeting() (greeting []byte, at int, err error) {
	head, err := d.exchange(nil, mysqlHeadLen, "its greeting")
	if err != nil {
		return nil, 0, err
	}
	n := mysqlLength(head)
	if head[3] != 0 || n == 0 || n > maxLine {
		return nil, 0, errorf("the server does not speak MySQL's protocol: it said %s", quote.Line(head))
	}
	greeting, err = d.exchange(nil, n, "its greeting")
	if err != nil {
		return nil, 0, err
	}
	version, rest, _ := bytes.Cut(greeting[1:], []byte{0})
	d.note(true, version)
	// The connection's number, the first part of the salt, and a zero are before them.
	const before, lower = 4 + 8 + 1, 2
	switch {
	case greeting[0] == mysqlErr:
		return nil, 0, errorf("the server takes no connection: it said %s", quote.Line(greeting[1:]))
	case greeting[0] != mysqlVersion || len(rest) < before+lower || !isPrintable(version):
		return nil, 0, errorf("the server does not speak MySQL's protocol: it said %s", quote.Line(greeting))
	}
	at = 1 + len(version) + 1 + before
	if binary.LittleEndian.Uint16(greeting[at:])&mysqlSSL == 0 {
		return nil, 0, errorf("the server does not offer TLS: its greeting, as version %s, is without CLIENT_SSL", quote.Line(version))
	}
	return greeting, at, nil
}

func isPrintable(b []byte) bool {
	return !bytes.ContainsFunc(b, func(r rune) bool { return r < ' ' || r > '~' })
}

// mysqlSecured sends under TLS what the program has said so far.
func mysqlSecured(d *Dialogue) error {
	f := d.filter.(*mysqlFilter)
	out, _, err := f.FromProgram(f.said)
	f.said = nil
	if err == nil && len(out) > 0 {
		err = d.write(out)
	}
	return err
}

// mysqlRefusal is an error packet, the answer to the program's first.
func mysqlRefusal(reason string) []byte {
	payload := binary.LittleEndian.AppendUint16([]byte{mysqlErr}, mysqlErrNumber)
	return mysqlPacket(2, append(append(payload, "#08S01"...), reason...))
}

// mysqlFilter hides, until the client is logged in, that there was one packet more.
type mysqlFilter struct {
	said            []byte // by the program before TLS
	program, server mysqlPackets
	in              atomic.Bool // the client is, or is not going to be, logged in
	within          atomic.Bool // a packet of the program's has not come whole
}

// readLogin reads the program's first packet, and returns its payload, a part of said.
func (f *mysqlFilter) readLogin(program io.Reader) ([]byte, error) {
	// As much as a program's connection gives at once: nothing is left behind in it.
	buf := make([]byte, mysqlMost)
	for {
		if len(f.said) >= mysqlHeadLen {
			switch n := mysqlLength(f.said); {
			case n > mysqlMost:
				return nil, errorf("the program does not speak MySQL's protocol: its first packet has %d bytes", n)
			case len(f.said) >= mysqlHeadLen+n:
				login := f.said[mysqlHeadLen:][:n]
				if n == mysqlLongLen && login[1]&(mysqlSSL>>8) != 0 {
					return nil, errorf("the program asks for TLS itself, which it was not offered: it has it already")
				}
				return login, nil
			}
		}
		n, err := program.Read(buf)
		f.said = append(f.said, buf[:n]...)
		if err != nil {
			return nil, err
		}
	}
}

// FromProgram gives packets a number more. One with the number 0 is a command, by a program
// that does not wait for the answer to its login.
func (f *mysqlFilter) FromProgram(b []byte) (toServer, toProgram []byte, err error) {
	if f.Done() {
		return b, nil, nil
	}
	toServer = f.program.renumber(b, func(number byte) byte {
		if number == 0 {
			return 0
		}
		return number + 1
	}, func(byte) bool { return true })
	f.within.Store(!f.program.between())
	return toServer, nil, nil
}

// FromServer gives packets a number less, until one says how the login has ended.
func (f *mysqlFilter) FromServer(b []byte) (toProgram []byte, err error) {
	if f.in.Load() {
		return b, nil
	}
	return f.server.renumber(b, func(number byte) byte { return number - 1 }, func(kind byte) bool {
		ended := kind == mysqlOK || kind == mysqlErr
		if ended {
			f.in.Store(true)
		}
		return !ended
	}), nil
}

// Over: servers end connections without a close_notify. Packets have lengths and results an
// end of their own, so no client takes what was cut short for the whole.
func (f *mysqlFilter) Over() bool { return f.in.Load() }

func (f *mysqlFilter) Done() bool { return f.in.Load() && !f.within.Load() }

// mysqlPackets follows the packets of one direction.
type mysqlPackets struct {
	head []byte // of the current packet, as far as it came
	left int    // of its payload
}

// between reports whether nothing of a packet has come.
func (p *mysqlPackets) between() bool { return len(p.head) == 0 && p.left == 0 }

// renumber gives the packets in b other numbers, as long as goOn says so of the first byte
// of each. It returns what goes on of them.
func (p *mysqlPackets) renumber(b []byte, number func(byte) byte, goOn func(kind byte) bool) []byte {
	var out []byte
	for len(b) > 0 {
		if p.left > 0 {
			n := min(p.left, len(b))
			if len(p.head) > 0 {
				p.head = nil
				if !goOn(b[0]) {
					p.left = 0
					return append(out, b...)
				}
			}
			out, b, p.left = append(out, b[:n]...), b[n:], p.left-n
			continue
		}
		n := min(mysqlHeadLen-len(p.head), len(b))
		p.head, b = append(p.head, b[:n]...), b[n:]
		if len(p.head) < mysqlHeadLen {
			break
		}
		p.left = mysqlLength(p.head)
		out = append(out, p.head[0], p.head[1], p.head[2], number(p.head[3]))
		if p.left == 0 {
			p.head = nil
		}
	}
	return out
}
