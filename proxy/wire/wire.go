// Package wire is the control protocol between the shim and the worker: the messages and the
// memory that preload/wire.h and libtls/wire.h describe, one exchange as the worker sees it (Call),
// and as tlswrap's own processes begin it (Conn). What a request means is not in here.
package wire

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	wireMagic    = 0x544c5702
	TokenLen     = 16
	wireNameLen  = 256
	wireMaxAddrs = 32

	requestHeader = 40 + wireNameLen // offsetof(struct tw_request, addrs)
	ReplyHeader   = 16 + wireNameLen // offsetof(struct tw_reply, addrs)
	AddrLen       = 24
	requestMax    = requestHeader + wireMaxAddrs*AddrLen
)

type Op uint16

const (
	OpHello Op = iota + 1
	OpConnect
	OpTaken
	OpVerdict
	OpRestart
	OpUpstream
	OpNames
	OpAddress
	OpExec
	OpListen
	OpAccept
	OpSweep
	OpSupervise
	OpFinish
	OpNotices
	OpPassed
)

// The part of libtls/wire.h.
const (
	OpTLSLoad Op = iota + 32
	OpTLSBuild
	OpTLSDrop
	OpTLSStart
	OpTLSEnd
	OpTLSName
	OpTLSOCSP
	OpTLSDecrypt
	OpTLSRing
)

const (
	tlsHeader   = 40   // offsetof(struct tw_tls_request, body)
	tlsBody     = 1024 // sizeof body
	TLSTextMost = 1023
)

// What comes along with opTLSStart, in flags.
const (
	StartTwoWays uint16 = 1 << iota
	StartSession
	StartCallbacks
)

const (
	FlagConsume uint16 = 1 << iota
	FlagNoNewPrivs
	FlagStderr
	FlagVerbose
	FlagQuiet
	FlagDatagram
	FlagUntold
	FlagIDsDiffer
	FlagIDsReset
	FlagLibraryNoExec
	FlagUnfollowed
	FlagDestination
	FlagInterpreter
	FlagArgument
	FlagMapped
	FlagLibraryAway
)

type answer uint16

const (
	AnswerPass answer = iota + 1
	AnswerChannel
	AnswerError
	AnswerPending
	AnswerGood
	AnswerIsConn
	AnswerFD
	AnswerAddrs
	AnswerExec
	AnswerScript
	AnswerGone
	AnswerArgument
	AnswerProgram
)

// NumberEnforce is the number of the reply to tlswrap's OpHello where the rules have "enforce".
const NumberEnforce = 1

// Token names a session: whoever knows it belongs to it.
type Token [TokenLen]byte

// Cookie is the part of it that the shim's calls carry, by which the kernel tells them from others
// (package seccomp).
func (t Token) Cookie() uint64 { return binary.NativeEndian.Uint64(t[:]) }

type Request struct {
	Op      Op
	Flags   uint16
	Token   Token
	Channel uint64
	Name    string
	Addrs   []Addr
	Body    []byte // of libtls's requests, which have neither name nor addresses
	Now     uint32 // of OpTLSStart: settings as they are at this moment
}

func (r Request) IsTLS() bool { return r.Op >= OpTLSLoad }

type Reply struct {
	Answer answer
	Number uint16
	Errno  unix.Errno
	Name   string
	Addrs  []Addr
}

// Message is what a Call answers with: a Reply, or a TLSReply.
type Message interface {
	Marshal() []byte
	outcome() string // in a word, for the log
}

// parseRequest reads one message. Whatever does not fit is an error.
func parseRequest(b []byte) (Request, error) {
	var r Request
	if len(b) < tlsHeader {
		return r, fmt.Errorf("control request of %d bytes, expected at least %d", len(b), tlsHeader)
	}
	ne := binary.NativeEndian
	if m := ne.Uint32(b); m != wireMagic {
		return r, fmt.Errorf("control request begins with %#x, expected %#x", m, wireMagic)
	}
	r.Op, r.Flags = Op(ne.Uint16(b[4:])), ne.Uint16(b[6:])
	copy(r.Token[:], b[8:])
	r.Channel = ne.Uint64(b[24:])
	count := ne.Uint32(b[32:])
	if reserved := ne.Uint32(b[36:]); r.Op == OpTLSStart {
		r.Now = reserved
	} else if reserved != 0 {
		return r, fmt.Errorf("control request has %#x in a reserved field", reserved)
	}
	if r.IsTLS() {
		if r.Body = b[tlsHeader:]; len(r.Body) > tlsBody || uint32(len(r.Body)) != count {
			return r, fmt.Errorf("control request of %d bytes with a body of %d", len(b), count)
		}
		return r, nil
	}
	if len(b) < requestHeader {
		return r, fmt.Errorf("control request of %d bytes, expected at least %d", len(b), requestHeader)
	}
	if count > wireMaxAddrs || len(b) != requestHeader+int(count)*AddrLen {
		return r, fmt.Errorf("control request of %d bytes with %d addresses", len(b), count)
	}
	name := string(b[40 : 40+wireNameLen])
	end := strings.IndexByte(name, 0)
	if end < 0 {
		return r, fmt.Errorf("control request has a name without an end")
	}
	r.Name = name[:end]
	for b = b[requestHeader:]; len(b) > 0; b = b[AddrLen:] {
		a, err := ParseAddr(b[:AddrLen])
		if err != nil {
			return r, err
		}
		r.Addrs = append(r.Addrs, a)
	}
	return r, nil
}

// ParseAddr reads a struct tw_addr.
func ParseAddr(b []byte) (Addr, error) {
	ne := binary.NativeEndian
	a := Addr{Port: ne.Uint16(b[2:]), Scope: ne.Uint32(b[4:])}
	switch family := ne.Uint16(b); family {
	case unix.AF_INET:
		a.IP = netip.AddrFrom4([4]byte(b[8:]))
	case unix.AF_INET6:
		a.IP = netip.AddrFrom16([16]byte(b[8:]))
	default:
		return a, fmt.Errorf("control request has an address of family %d", family)
	}
	return a, nil
}

// AppendAddr appends one.
func AppendAddr(b []byte, a Addr) []byte {
	ne := binary.NativeEndian
	family := uint16(unix.AF_INET6)
	if a.IP.Is4() {
		family = unix.AF_INET
	}
	b = ne.AppendUint16(b, family)
	b = ne.AppendUint16(b, a.Port)
	b = ne.AppendUint32(b, a.Scope)
	var ip [16]byte
	copy(ip[:], a.IP.AsSlice())
	return append(b, ip[:]...)
}

// appendName appends name in wireNameLen bytes with at least one NUL, cut to fit.
func appendName(b []byte, name string) []byte {
	var field [wireNameLen]byte
	copy(field[:wireNameLen-1], name)
	return append(b, field[:]...)
}

func (r Reply) Marshal() []byte {
	ne := binary.NativeEndian
	b := make([]byte, 0, ReplyHeader+len(r.Addrs)*AddrLen)
	b = ne.AppendUint32(b, wireMagic)
	b = ne.AppendUint16(b, uint16(r.Answer))
	b = ne.AppendUint16(b, r.Number)
	b = ne.AppendUint32(b, uint32(r.Errno))
	b = ne.AppendUint32(b, uint32(len(r.Addrs)))
	b = appendName(b, r.Name)
	for _, a := range r.Addrs {
		b = AppendAddr(b, a)
	}
	return b
}

func (r Request) Marshal() []byte {
	ne := binary.NativeEndian
	b := make([]byte, 0, requestHeader+len(r.Addrs)*AddrLen)
	b = ne.AppendUint32(b, wireMagic)
	b = ne.AppendUint16(b, uint16(r.Op))
	b = ne.AppendUint16(b, r.Flags)
	b = append(b, r.Token[:]...)
	b = ne.AppendUint64(b, r.Channel)
	if r.IsTLS() {
		b = ne.AppendUint32(b, uint32(len(r.Body)))
		return append(ne.AppendUint32(b, r.Now), r.Body...)
	}
	b = ne.AppendUint32(b, uint32(len(r.Addrs)))
	b = ne.AppendUint32(b, 0)
	b = appendName(b, r.Name)
	for _, a := range r.Addrs {
		b = AppendAddr(b, a)
	}
	return b
}

// TLSReply is a struct tw_tls_reply.
type TLSReply struct {
	Answer answer
	Value  uint16
	Number uint64
	Text   string
}

func (r TLSReply) Marshal() []byte {
	ne := binary.NativeEndian
	text := r.Text[:min(len(r.Text), TLSTextMost)]
	b := make([]byte, 0, 16+len(text)+1)
	b = ne.AppendUint32(b, wireMagic)
	b = ne.AppendUint16(b, uint16(r.Answer))
	b = ne.AppendUint16(b, r.Value)
	b = ne.AppendUint64(b, r.Number)
	return append(append(b, strings.ReplaceAll(text, "\x00", "?")...), 0)
}
