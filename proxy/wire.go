package proxy

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// The control protocol, as preload/wire.h has it; a test compares the two.

const (
	wireMagic    = 0x544c5701
	wireTokenLen = 16
	wireNameLen  = 256
	wireMaxAddrs = 32

	requestHeader = 40 + wireNameLen // offsetof(struct tw_request, addrs)
	replyHeader   = 16 + wireNameLen // offsetof(struct tw_reply, addrs)
	addrLen       = 24
	requestMax    = requestHeader + wireMaxAddrs*addrLen
)

type op uint16

const (
	opHello op = iota + 1
	opConnect
	opTaken
	opVerdict
	opRestart
	opUpstream
	opNames
	opAddress
	opExec
	opListen
	opAccept
	opSweep
)

// The part of libtls/wire.h.
const (
	opTLSLoad op = iota + 32
	opTLSBuild
	opTLSDrop
	opTLSStart
	opTLSEnd
	opTLSName
	opTLSOCSP
	opTLSDecrypt
	opTLSRing
)

// A frame in a ring, and struct tw_tls_ring.
const (
	frameInRing   uint32 = 1 << 31
	ringSlotShift        = 16
	ringSlots            = 32
	ringHeader           = 4096
)

const (
	tlsHeader   = 40                     // offsetof(struct tw_tls_request, body)
	tlsBody     = requestMax - tlsHeader // sizeof body
	tlsTextMost = 1023
)

// What comes along with opTLSStart, in flags.
const (
	startTwoWays uint16 = 1 << iota
	startSession
	startCallbacks
)

const (
	flagConsume uint16 = 1 << iota
	flagNoNewPrivs
	flagStderr
	flagVerbose
	flagQuiet
	flagDatagram
	flagUntold
	flagIDsDiffer
	flagIDsReset
	flagLibraryNoExec
	flagUnfollowed
	flagDestination
	flagInterpreter
	flagArgument
	flagMapped
)

type answer uint16

const (
	answerPass answer = iota + 1
	answerChannel
	answerError
	answerPending
	answerGood
	answerIsConn
	answerFD
	answerAddrs
	answerExec
	answerScript
	answerGone
	answerArgument
	answerProgram
)

// Token names a session: whoever knows it belongs to it.
type Token [wireTokenLen]byte

// sockAddr is an Internet address as a program wrote it. An IPv4-mapped IPv6 address
// stays one, so that the program gets back what it knows.
type sockAddr struct {
	ip    netip.Addr
	port  uint16
	scope uint32 // sin6_scope_id
}

// real returns the address without its IPv6 mapping, as rules and names see it.
func (a sockAddr) real() netip.Addr { return a.ip.Unmap() }

// with returns ip in the form that a has: mapped where a is.
func (a sockAddr) with(ip netip.Addr, scope uint32) sockAddr {
	if a.ip.Is4In6() && ip.Is4() {
		ip = netip.AddrFrom16(ip.As16())
	}
	a.ip, a.scope = ip, scope
	return a
}

type request struct {
	op      op
	flags   uint16
	token   Token
	channel uint64
	name    string
	addrs   []sockAddr
	body    []byte // of libtls's requests, which have neither name nor addresses
}

func (r request) isTLS() bool { return r.op >= opTLSLoad }

type reply struct {
	answer answer
	number uint16
	errno  unix.Errno
	name   string
	addrs  []sockAddr
}

// parseRequest reads one message. Whatever does not fit is an error.
func parseRequest(b []byte) (request, error) {
	var r request
	if len(b) < tlsHeader {
		return r, fmt.Errorf("control request of %d bytes, expected at least %d", len(b), tlsHeader)
	}
	ne := binary.NativeEndian
	if m := ne.Uint32(b); m != wireMagic {
		return r, fmt.Errorf("control request begins with %#x, expected %#x", m, wireMagic)
	}
	r.op, r.flags = op(ne.Uint16(b[4:])), ne.Uint16(b[6:])
	copy(r.token[:], b[8:])
	r.channel = ne.Uint64(b[24:])
	count := ne.Uint32(b[32:])
	if reserved := ne.Uint32(b[36:]); reserved != 0 {
		return r, fmt.Errorf("control request has %#x in a reserved field", reserved)
	}
	if r.isTLS() {
		if r.body = b[tlsHeader:]; len(r.body) > tlsBody || uint32(len(r.body)) != count {
			return r, fmt.Errorf("control request of %d bytes with a body of %d", len(b), count)
		}
		return r, nil
	}
	if len(b) < requestHeader {
		return r, fmt.Errorf("control request of %d bytes, expected at least %d", len(b), requestHeader)
	}
	if count > wireMaxAddrs || len(b) != requestHeader+int(count)*addrLen {
		return r, fmt.Errorf("control request of %d bytes with %d addresses", len(b), count)
	}
	name := string(b[40 : 40+wireNameLen])
	end := strings.IndexByte(name, 0)
	if end < 0 {
		return r, fmt.Errorf("control request has a name without an end")
	}
	r.name = name[:end]
	for b = b[requestHeader:]; len(b) > 0; b = b[addrLen:] {
		a, err := parseAddr(b[:addrLen])
		if err != nil {
			return r, err
		}
		r.addrs = append(r.addrs, a)
	}
	return r, nil
}

func parseAddr(b []byte) (sockAddr, error) {
	ne := binary.NativeEndian
	a := sockAddr{port: ne.Uint16(b[2:]), scope: ne.Uint32(b[4:])}
	switch family := ne.Uint16(b); family {
	case unix.AF_INET:
		a.ip = netip.AddrFrom4([4]byte(b[8:]))
	case unix.AF_INET6:
		a.ip = netip.AddrFrom16([16]byte(b[8:]))
	default:
		return a, fmt.Errorf("control request has an address of family %d", family)
	}
	return a, nil
}

func appendAddr(b []byte, a sockAddr) []byte {
	ne := binary.NativeEndian
	family := uint16(unix.AF_INET6)
	if a.ip.Is4() {
		family = unix.AF_INET
	}
	b = ne.AppendUint16(b, family)
	b = ne.AppendUint16(b, a.port)
	b = ne.AppendUint32(b, a.scope)
	var ip [16]byte
	copy(ip[:], a.ip.AsSlice())
	return append(b, ip[:]...)
}

// appendName appends name in wireNameLen bytes with at least one NUL, cut to fit.
func appendName(b []byte, name string) []byte {
	var field [wireNameLen]byte
	copy(field[:wireNameLen-1], name)
	return append(b, field[:]...)
}

func (r reply) marshal() []byte {
	ne := binary.NativeEndian
	b := make([]byte, 0, replyHeader+len(r.addrs)*addrLen)
	b = ne.AppendUint32(b, wireMagic)
	b = ne.AppendUint16(b, uint16(r.answer))
	b = ne.AppendUint16(b, r.number)
	b = ne.AppendUint32(b, uint32(r.errno))
	b = ne.AppendUint32(b, uint32(len(r.addrs)))
	b = appendName(b, r.name)
	for _, a := range r.addrs {
		b = appendAddr(b, a)
	}
	return b
}

func (r request) marshal() []byte {
	ne := binary.NativeEndian
	b := make([]byte, 0, requestHeader+len(r.addrs)*addrLen)
	b = ne.AppendUint32(b, wireMagic)
	b = ne.AppendUint16(b, uint16(r.op))
	b = ne.AppendUint16(b, r.flags)
	b = append(b, r.token[:]...)
	b = ne.AppendUint64(b, r.channel)
	if r.isTLS() {
		b = ne.AppendUint32(b, uint32(len(r.body)))
		return append(ne.AppendUint32(b, 0), r.body...)
	}
	b = ne.AppendUint32(b, uint32(len(r.addrs)))
	b = ne.AppendUint32(b, 0)
	b = appendName(b, r.name)
	for _, a := range r.addrs {
		b = appendAddr(b, a)
	}
	return b
}

// tlsReply is a struct tw_tls_reply.
type tlsReply struct {
	answer answer
	value  uint16
	number uint64
	text   string
}

func (r tlsReply) marshal() []byte {
	ne := binary.NativeEndian
	text := r.text[:min(len(r.text), tlsTextMost)]
	b := make([]byte, 0, 16+len(text)+1)
	b = ne.AppendUint32(b, wireMagic)
	b = ne.AppendUint16(b, uint16(r.answer))
	b = ne.AppendUint16(b, r.value)
	b = ne.AppendUint64(b, r.number)
	return append(append(b, strings.ReplaceAll(text, "\x00", "?")...), 0)
}
