package starttls

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"tlswrap/proxy/quote"
)

// MySQL and MariaDB: the connection phase of their protocol, with the packets HandshakeV10,
// SSLRequest and HandshakeResponse41 of MySQL's documentation.
//
// The server greets before TLS and not again under it, and the program needs that greeting:
// its nonce for the password, its version and capabilities for all that follows. So the
// program is shown what the server said, checked, without CLIENT_SSL. Who changes it on the
// way can do what he can to clients that speak TLS themselves: show another version and
// connection number, take features away, have the two sides disagree, choose a weaker method
// for the password. The program's answer goes to the verified server alone.
//
// Servers read the program's capabilities from SSLRequest and nowhere else
// (parse_client_handshake_packet in both). So that is made of the program's answer, for which
// it is let in before TLS.
var mysql = Protocol{Ask: mysqlAsk, Secured: mysqlSecured, NewFilter: newMySQLFilter, Refusal: mysqlRefusal}

// Capabilities, as both sides have them.
const (
	mysqlProtocol41   = 1 << 9
	mysqlSSL          = 1 << 11
	mysqlSecureConn   = 1 << 15
	mysqlPluginAuth   = 1 << 19
	mysqlLeastOffered = mysqlProtocol41 | mysqlSecureConn // since 4.1
)

const (
	mysqlHeaderLen   = 4         // length (3 bytes, little-endian) and sequence number
	mysqlRequestLen  = 32        // SSLRequest, and what a HandshakeResponse41 begins with
	mysqlMaxGreeting = 1 << 10   // they have about 100 bytes, errors at most 519
	mysqlMaxPacket   = 128 << 10 // during authentication: a program may have 64 KiB of attributes
)

// First bytes of packets.
const (
	mysqlOK         = 0x00
	mysqlMoreData   = 0x01
	mysqlVersion10  = 0x0a
	mysqlAuthSwitch = 0xfe
	mysqlErr        = 0xff
)

// mysqlTalk is what Ask leaves to Secured and the filter.
type mysqlTalk struct {
	greeting mysqlGreeting
	answer   []byte // the program's, for the server; nil where there is no program
}

func mysqlAsk(d *Dialogue) error {
	d.expect("a greeting")
	packet, err := mysqlRead(d, mysqlMaxGreeting, "the server")
	if err != nil {
		return err
	}
	greeting, err := parseMySQLGreeting(packet)
	if err != nil {
		return err
	}
	d.note(true, fmt.Appendf(nil, "greeting of version %s", greeting.version))
	talk := &mysqlTalk{greeting: greeting}
	d.notes = talk
	request := binary.LittleEndian.AppendUint32(nil, mysqlLeastOffered|mysqlPluginAuth|mysqlSSL)
	request = append(request, make([]byte, mysqlRequestLen-len(request))...)
	if d.Open != nil {
		if talk.answer, err = d.mysqlAnswer(greeting.shown); err != nil {
			return err
		}
		request = talk.answer[mysqlHeaderLen:][:mysqlRequestLen]
	}
	d.note(false, []byte("SSLRequest"))
	return d.write(mysqlPacket(1, request))
}

// mysqlAnswer lets the program in, and returns what it answers to the greeting, as the server
// is to have it under TLS.
func (d *Dialogue) mysqlAnswer(greeting []byte) ([]byte, error) {
	program, err := d.Open()
	if err != nil {
		return nil, err
	}
	if _, err := program.Write(greeting); err != nil {
		return nil, err
	}
	answer, err := mysqlRead(program, mysqlMaxPacket, "the program")
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, errorf("the program did not answer the server's greeting in time")
	}
	if err != nil {
		return nil, err
	}
	payload := answer[mysqlHeaderLen:]
	if len(payload) < 2 || answer[3] != 1 {
		return nil, errorf("the program does not speak MySQL's protocol: it said %s", quote.Line(answer))
	}
	capabilities := binary.LittleEndian.Uint16(payload)
	switch {
	case capabilities&mysqlProtocol41 == 0 || len(payload) < mysqlRequestLen:
		return nil, errorf("the program speaks a protocol from before MySQL 4.1")
	case capabilities&mysqlSSL != 0 && len(payload) == mysqlRequestLen:
		return nil, errorf("the program asks for TLS itself, and would have had TLS inside TLS: have it do without (ssl-mode=DISABLED, --skip-ssl)")
	}
	binary.LittleEndian.PutUint16(payload, capabilities|mysqlSSL)
	answer[3]++ // after SSLRequest
	return answer, nil
}

func mysqlSecured(d *Dialogue) error {
	if talk := d.notes.(*mysqlTalk); talk.answer != nil {
		return d.write(talk.answer)
	}
	return nil
}

// mysqlRefusal is an ERR_Packet after the program's answer, ER_HANDSHAKE_ERROR. Clients do not
// take the codes from a server that they have for TLS themselves.
func mysqlRefusal(reason string) []byte {
	const code, state = 1043, "#08S01"
	payload := binary.LittleEndian.AppendUint16([]byte{mysqlErr}, code)
	return mysqlPacket(2, append(append(payload, state...), reason...))
}

// mysqlPacket makes a packet.
func mysqlPacket(number byte, payload []byte) []byte {
	n := len(payload)
	return append([]byte{byte(n), byte(n >> 8), byte(n >> 16), number}, payload...)
}

// mysqlLen is the length of a packet that begins with b, which has a whole header.
func mysqlLen(b []byte) int {
	return mysqlHeaderLen + int(b[0]) + int(b[1])<<8 + int(b[2])<<16
}

// mysqlRead reads a packet of at most most bytes, and no more.
func mysqlRead(r io.Reader, most int, who string) ([]byte, error) {
	packet := make([]byte, mysqlHeaderLen)
	if _, err := io.ReadFull(r, packet); err != nil {
		return nil, err
	}
	n := mysqlLen(packet)
	if n > most {
		return nil, errorf("%s does not speak MySQL's protocol: it said %s", who, quote.Line(packet))
	}
	packet = append(packet, make([]byte, n-mysqlHeaderLen)...)
	_, err := io.ReadFull(r, packet[mysqlHeaderLen:])
	return packet, err
}

// mysqlGreeting is a Protocol::HandshakeV10.
type mysqlGreeting struct {
	shown   []byte // the packet, without CLIENT_SSL
	version string
	plugin  string // the method that the server suggests
	nonce   []byte // for it
}

// Offsets in a greeting, behind its version, and lengths.
const (
	mysqlNonce       = 4 // the first part of it
	mysqlFlagsLow    = 13
	mysqlFlagsHigh   = 18
	mysqlNonceLen    = 20 // the length of both parts
	mysqlSecond      = 31 // the nonce's second part
	mysqlFirstLen    = 8
	mysqlLeastSecond = 13
)

// parseMySQLGreeting takes a greeting apart, all of it: the program is shown nothing else.
// It takes CLIENT_SSL out of packet.
func parseMySQLGreeting(packet []byte) (g mysqlGreeting, err error) {
	payload := packet[mysqlHeaderLen:]
	strange := errorf("the server does not speak MySQL's protocol: it said %s", quote.Line(payload[min(1, len(payload)):]))
	switch {
	case len(payload) == 0:
		return g, strange
	case payload[0] == mysqlErr && len(payload) > 3:
		return g, errorf("the server refused the connection: error %d, %s", binary.LittleEndian.Uint16(payload[1:]), quote.Line(payload[3:]))
	case payload[0] != mysqlVersion10:
		return g, strange
	}
	version, rest, whole := bytes.Cut(payload[1:], []byte{0})
	if !whole || bytes.ContainsFunc(version, unprintable) || len(rest) < mysqlSecond || packet[3] != 0 {
		return g, strange
	}
	low, high := rest[mysqlFlagsLow:], rest[mysqlFlagsHigh:]
	flags := uint32(binary.LittleEndian.Uint16(low)) | uint32(binary.LittleEndian.Uint16(high))<<16
	if flags&mysqlLeastOffered != mysqlLeastOffered {
		return g, errorf("the server speaks a protocol from before MySQL 4.1: it is of version %s", quote.Line(version))
	}
	n := mysqlLeastSecond
	if flags&mysqlPluginAuth != 0 {
		n = max(n, int(rest[mysqlNonceLen])-mysqlFirstLen)
	}
	second := rest[mysqlSecond:]
	if len(second) < n {
		return g, strange
	}
	// Servers have left the plugin's NUL out (MySQL's bug 59453).
	second, plugin := second[:n], bytes.TrimSuffix(second[n:], []byte{0})
	if bytes.ContainsFunc(plugin, notOfAName) {
		return g, strange
	}
	if flags&mysqlSSL == 0 {
		return g, errorf("the server does not offer TLS: the greeting of its version %s has no CLIENT_SSL", quote.Line(version))
	}
	binary.LittleEndian.PutUint16(low, uint16(flags&^mysqlSSL))
	nonce := append(bytes.Clone(rest[mysqlNonce:][:mysqlFirstLen]), second...)
	return mysqlGreeting{shown: packet, version: string(version), plugin: string(plugin), nonce: nonce}, nil
}

// unprintable is for the version, which programs print.
func unprintable(r rune) bool { return r < ' ' || r > '~' }

// notOfAName is for the plugin: programs look for a file of its name.
func notOfAName(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '_' || r == '-')
}
