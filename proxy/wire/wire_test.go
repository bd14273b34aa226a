package wire

import (
	"bytes"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"tlswrap/tests/testkit"
)

// What C has, for the comparison.
type (
	cAddr struct {
		Family, Port uint16
		Scope        uint32
		Ip           [16]byte
	}
	cRequest struct {
		Magic           uint32
		Op, Flags       uint16
		Token           [TokenLen]byte
		Channel         uint64
		Count, Reserved uint32
		Name            [wireNameLen]byte
		Addrs           [wireMaxAddrs]cAddr
	}
	cReply struct {
		Magic          uint32
		Answer, Number uint16
		Error          int32
		Count          uint32
		Name           [wireNameLen]byte
		Addrs          [wireMaxAddrs]cAddr
	}
	cReal6 struct {
		Ip           [16]byte
		Scope, Known uint32
	}
	cBell struct {
		Length uint32
		Token  [TokenLen]byte
		Name   [BellName]byte
	}
	cNotice struct {
		Turn uint32
		Pid  int32
		To   cAddr
	}
	cNotices struct {
		Next, Taken, Asleep, Untold uint32
		Reserved                    [4]uint32
		At                          [MostNotices]cNotice
	}
	cMap struct {
		Connects, Listens [MapPorts]byte
		Bell              cBell
		Real4             [MapCount4]uint32
		Real6             [MapCount6]cReal6
	}
	cLife       struct{ Owner uint32 }
	cTlsRequest struct {
		Magic          uint32
		Op, Kind       uint16
		Token          [TokenLen]byte
		Number         uint64
		Size, Settings uint32
		Body           [tlsBody]byte
	}
	cTlsReply struct {
		Magic         uint32
		Answer, Value uint16
		Number        uint64
		Text          [TLSTextMost + 1]byte
	}
	cRing struct {
		Taken    uint32
		Reserved [RingHeader - 4]byte
		Slots    [RingSlots][FrameMost]byte
	}
	cPump struct{ Kind, Value uint32 }
)

// The shim is built for programs of 64 and of 32 bits, and of other machines; the worker speaks with
// all of them.
func TestWireMatchesTheShims(t *testing.T) {
	testkit.Mirror{
		Header: "preload/wire.h",
		Numbers: map[string]any{
			"TW_MAGIC": wireMagic, "TW_TOKEN_SIZE": TokenLen, "TW_NAME_SIZE": wireNameLen, "TW_MAX_ADDRS": wireMaxAddrs,
			"TW_HELLO": OpHello, "TW_CONNECT": OpConnect, "TW_TAKEN": OpTaken, "TW_VERDICT": OpVerdict, "TW_RESTART": OpRestart,
			"TW_UPSTREAM": OpUpstream, "TW_NAMES": OpNames, "TW_ADDRESS": OpAddress, "TW_EXEC": OpExec, "TW_LISTEN": OpListen,
			"TW_ACCEPT": OpAccept, "TW_SWEEP": OpSweep, "TW_SUPERVISE": OpSupervise,
			"TW_FINISH": OpFinish, "TW_NOTICES": OpNotices, "TW_PASSED": OpPassed, "TW_NOTICES_MOST": MostNotices,
			"TW_CONSUME": FlagConsume, "TW_NO_NEW_PRIVS": FlagNoNewPrivs, "TW_STDERR": FlagStderr, "TW_VERBOSE": FlagVerbose,
			"TW_QUIET": FlagQuiet, "TW_DATAGRAM": FlagDatagram, "TW_UNTOLD": FlagUntold, "TW_IDS_DIFFER": FlagIDsDiffer,
			"TW_IDS_RESET": FlagIDsReset, "TW_LIBRARY_NOEXEC": FlagLibraryNoExec, "TW_UNFOLLOWED": FlagUnfollowed,
			"TW_DESTINATION": FlagDestination, "TW_INTERPRETER": FlagInterpreter, "TW_ARGUMENT": FlagArgument, "TW_MAPPED": FlagMapped, "TW_LIBRARY_AWAY": FlagLibraryAway,
			"TW_ANSWER_PASS": AnswerPass, "TW_ANSWER_CHANNEL": AnswerChannel, "TW_ANSWER_ERROR": AnswerError, "TW_ANSWER_PENDING": AnswerPending,
			"TW_ANSWER_GOOD": AnswerGood, "TW_ANSWER_ISCONN": AnswerIsConn, "TW_ANSWER_FD": AnswerFD, "TW_ANSWER_ADDRS": AnswerAddrs,
			"TW_ANSWER_EXEC": AnswerExec, "TW_ANSWER_SCRIPT": AnswerScript, "TW_ANSWER_GONE": AnswerGone, "TW_ANSWER_ARGUMENT": AnswerArgument,
			"TW_ANSWER_PROGRAM": AnswerProgram,
			"TW_NAME_PREFIX":    NamePrefix, "TW_LISTEN_PREFIX": "/" + ListenPrefix, "TW_NAME_WORDS": NameWords, "TW_WORDS_TIME": WordsTime, "TW_SEND_BUFFER": SendBuffer, "TW_WELCOMED": Welcomed, "TW_DELAYS": Delays, "TW_ENV": Env,
		},
		Structs: map[string]any{"tw_addr": cAddr{}, "tw_request": cRequest{}, "tw_reply": cReply{}, "tw_real6": cReal6{}, "tw_notice": cNotice{}, "tw_notices": cNotices{}, "tw_bell": cBell{}, "tw_map": cMap{}, "tw_life": cLife{}},
	}.Check(t)
}

func TestWireMatchesLibtls(t *testing.T) {
	testkit.Mirror{
		Header: "libtls/wire.h",
		Numbers: map[string]any{
			"TW_TLS_LOAD": OpTLSLoad, "TW_TLS_BUILD": OpTLSBuild, "TW_TLS_DROP": OpTLSDrop, "TW_TLS_START": OpTLSStart, "TW_TLS_END": OpTLSEnd,
			"TW_TLS_NAME": OpTLSName, "TW_TLS_OCSP": OpTLSOCSP, "TW_TLS_DECRYPT": OpTLSDecrypt, "TW_TLS_RING": OpTLSRing,
			"TW_TLS_TWO_WAYS": StartTwoWays, "TW_TLS_SESSION": StartSession, "TW_TLS_CALLBACKS": StartCallbacks,
			"TW_PUMP_HANDSHAKE": PumpHandshake, "TW_PUMP_READ": PumpRead, "TW_PUMP_WRITE": PumpWrite, "TW_PUMP_CLOSE": PumpClose, "TW_PUMP_IN": PumpIn,
			"TW_PUMP_OUT": PumpOut, "TW_PUMP_WANT": PumpWant, "TW_PUMP_DONE": PumpDone, "TW_PUMP_FAILED": PumpFailed, "TW_PUMP_MOST": PumpMost,
			"TW_TLS_BODY": tlsBody, "TW_TLS_FRAME": FrameMost, "TW_TLS_RING_SLOTS": RingSlots, "TW_TLS_IN_RING": FrameInRing, "TW_TLS_SLOT_SHIFT": RingSlotShift,
		},
		Structs: map[string]any{"tw_tls_request": cTlsRequest{}, "tw_tls_reply": cTlsReply{}, "tw_tls_ring": cRing{}, "tw_tls_pump_header": cPump{}},
		// proxy/libtls/engine has these.
		Others: []string{"tw_tls_kind", "tw_tls_setting", "tw_tls_number", "tw_tls_string", "tw_tls_keypair", "tw_tls_settings", "tw_tls_facts", "TW_TLS_TICKET_KEYS"},
	}.Check(t)
}

// bytesOf is what the shim sends of a struct up to size bytes.
func bytesOf[T any](v *T, size uintptr) []byte {
	return bytes.Clone(unsafe.Slice((*byte)(unsafe.Pointer(v)), size))
}

// What is read and written stands where the structs have it, and what they have beside is as large as
// the constants say.
func TestMessagesStandWhereTheStructsSay(t *testing.T) {
	var c cRequest
	c.Magic, c.Op, c.Flags, c.Channel, c.Count = wireMagic, uint16(OpNames), FlagDatagram, 0x1122334455667788, 1
	copy(c.Token[:], bytes.Repeat([]byte{0xab}, TokenLen))
	copy(c.Name[:], "db.example.com")
	c.Addrs[0] = cAddr{Family: unix.AF_INET, Port: 5432, Scope: 7, Ip: [16]byte{10, 0, 0, 1}}
	message := bytesOf(&c, unsafe.Offsetof(c.Addrs)+unsafe.Sizeof(c.Addrs[0]))
	want := Request{Op: OpNames, Flags: FlagDatagram, Channel: c.Channel, Name: "db.example.com", Token: c.Token,
		Addrs: []Addr{{IP: netip.MustParseAddr("10.0.0.1"), Port: 5432, Scope: 7}}}
	if got, err := parseRequest(message); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	if got := want.Marshal(); !bytes.Equal(got, message) {
		t.Errorf("got  %x\nwant %x", got, message)
	}

	r := cReply{Magic: wireMagic, Answer: uint16(AnswerAddrs), Number: 3, Error: int32(unix.EACCES), Count: 1}
	copy(r.Name[:], "name")
	r.Addrs[0] = cAddr{Family: unix.AF_INET6, Port: 1, Scope: 2, Ip: netip.MustParseAddr("2001:db8::1").As16()}
	reply := Reply{Answer: AnswerAddrs, Number: 3, Errno: unix.EACCES, Name: "name", Addrs: []Addr{{IP: netip.MustParseAddr("2001:db8::1"), Port: 1, Scope: 2}}}
	if got, want := reply.Marshal(), bytesOf(&r, unsafe.Offsetof(r.Addrs)+unsafe.Sizeof(r.Addrs[0])); !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}

	s := cTlsRequest{Magic: wireMagic, Op: uint16(OpTLSName), Kind: StartSession, Number: 42, Size: 4}
	s.Token, s.Body[0], s.Body[3] = c.Token, 'n', 'e'
	tls := Request{Op: OpTLSName, Flags: StartSession, Token: c.Token, Channel: 42, Body: []byte{'n', 0, 0, 'e'}}
	if got, err := parseRequest(bytesOf(&s, unsafe.Offsetof(s.Body)+4)); err != nil || !reflect.DeepEqual(got, tls) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, tls)
	}
	s.Op, s.Settings = uint16(OpTLSStart), 1<<5
	tls.Op, tls.Now = OpTLSStart, 1<<5
	if got, err := parseRequest(bytesOf(&s, unsafe.Offsetof(s.Body)+4)); err != nil || !reflect.DeepEqual(got, tls) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, tls)
	}
	a := cTlsReply{Magic: wireMagic, Answer: uint16(AnswerError), Value: 1, Number: 42}
	copy(a.Text[:], "why")
	if got, want := (TLSReply{Answer: AnswerError, Value: 1, Number: 42, Text: "why"}).Marshal(), bytesOf(&a, unsafe.Offsetof(a.Text)+4); !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}

	p := cBell{Length: 6, Token: c.Token}
	copy(p.Name[:], "\x00abcde")
	if got, want := (Bell{Token: c.Token, Name: "\x00abcde"}).Marshal(), bytesOf(&p, unsafe.Sizeof(p)); !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}

	var n cNotices
	var own SharedNotices
	for _, c := range []struct{ got, want uintptr }{
		{unsafe.Offsetof(n.Next), unsafe.Offsetof(own.Next)}, {unsafe.Offsetof(n.Taken), unsafe.Offsetof(own.Taken)},
		{unsafe.Offsetof(n.Asleep), unsafe.Offsetof(own.Asleep)}, {unsafe.Offsetof(n.Untold), unsafe.Offsetof(own.Untold)},
		{unsafe.Offsetof(n.At), unsafe.Offsetof(own.At)}, {unsafe.Sizeof(n), unsafe.Sizeof(own)},
		{unsafe.Offsetof(n.At[0].Turn), unsafe.Offsetof(own.At[0].Turn)}, {unsafe.Offsetof(n.At[0].Pid), unsafe.Offsetof(own.At[0].PID)},
		{unsafe.Offsetof(n.At[0].To), unsafe.Offsetof(own.At[0].To)}, {unsafe.Sizeof(n.At[0]), unsafe.Sizeof(own.At[0])},
	} {
		if c.got != c.want {
			t.Errorf("of notices: %d bytes in C, %d in Go", c.got, c.want)
		}
	}

	var m cMap
	for _, c := range []struct{ got, want uintptr }{
		{unsafe.Offsetof(m.Bell), MapBell}, {unsafe.Sizeof(m.Bell), MapBellLen}, {unsafe.Offsetof(m.Real4), MapReal4}, {unsafe.Offsetof(m.Real6), MapReal6}, {unsafe.Sizeof(m.Real6[0]), MapLen6}, {unsafe.Sizeof(m), MapSize},
		{unsafe.Sizeof(cLife{}), LifeSize}, {unsafe.Sizeof(cRing{}), RingSize}, {unsafe.Sizeof(cPump{}), PumpHeader},
		{unsafe.Offsetof(c.Addrs), requestHeader}, {unsafe.Offsetof(r.Addrs), ReplyHeader}, {unsafe.Sizeof(cAddr{}), AddrLen}, {unsafe.Offsetof(s.Body), tlsHeader},
	} {
		if c.got != c.want {
			t.Errorf("%d bytes in C, %d in Go", c.got, c.want)
		}
	}
}

func TestRequestsThatDoNotFitAreRefused(t *testing.T) {
	good := Request{Op: OpNames, Name: "a", Addrs: []Addr{{IP: netip.MustParseAddr("::1")}}}.Marshal()
	tests := map[string]func(b []byte) []byte{
		"empty":        func([]byte) []byte { return nil },
		"short":        func(b []byte) []byte { return b[:requestHeader-1] },
		"long":         func(b []byte) []byte { return append(b, 0) },
		"magic":        func(b []byte) []byte { b[0]++; return b },
		"count":        func(b []byte) []byte { b[32] = 2; return b },
		"many":         func(b []byte) []byte { b[35] = 0xff; return b },
		"reserved":     func(b []byte) []byte { b[36] = 1; return b },
		"endless name": func(b []byte) []byte { copy(b[40:], strings.Repeat("x", wireNameLen)); return b },
		"family":       func(b []byte) []byte { b[requestHeader] = unix.AF_UNIX; return b },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			if r, err := parseRequest(spoil(bytes.Clone(good))); err == nil {
				t.Errorf("got %+v", r)
			}
		})
	}
}

func FuzzRequest(f *testing.F) {
	f.Add(Request{Op: OpNames, Name: "a", Addrs: []Addr{{IP: netip.MustParseAddr("::1")}}}.Marshal())
	f.Add(Request{Op: OpConnect, Addrs: []Addr{{IP: netip.MustParseAddr("10.0.0.1"), Port: 1}}}.Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRequest(b)
		if err != nil {
			return
		}
		again, err := parseRequest(r.Marshal())
		if err != nil || !reflect.DeepEqual(r, again) {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
	})
}
