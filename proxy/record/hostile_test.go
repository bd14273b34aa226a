package record

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
)

// flip changes one bit of the i-th byte, from the end for a negative i.
func flip(i int) func([]byte) []byte {
	return func(b []byte) []byte {
		b = bytes.Clone(b)
		b[(i+len(b))%len(b)] ^= 1 << (i & 7)
		return b
	}
}

func changed(s step, change func([]byte) []byte) step {
	s.change = change
	return s
}

func padded(s step, pad int) step {
	s.pad = pad
	return s
}

func repeat(s step, n int) []step {
	var all []step
	for range n {
		all = append(all, s)
	}
	return all
}

var (
	closeNotify = step{typ: alertType, content: []byte{1, byte(alertCloseNotify)}}
	empty       = data("")
	full        = data(strings.Repeat("x", maxPlaintext))
	ticket      = message(typeNewSessionTicket, 0, 0, 14, 16, 1, 2, 3, 4, 1, 9, 0, 3, 't', 'k', 't', 0, 0)
)

// hostile are scripts for which crypto/tls is the measure. None may show what comes behind
// the first record that is not good.
var hostile = []struct {
	name  string
	steps []step
}{
	{"good", []step{data("one"), full, data("two"), closeNotify}},
	{"no close_notify", []step{data("one")}},
	{"nothing", nil},
	{"data after close_notify", []step{data("one"), closeNotify, data("two")}},
	{"replayed", []step{data("one"), {typ: applicationData, content: []byte("two"), again: true}, data("three")}},
	{"dropped", []step{data("one"), {typ: applicationData, content: []byte("two"), skip: true}, data("three")}},
	{"a few empty", append(repeat(empty, 10), data("one"), closeNotify)},
	{"many empty", append(repeat(empty, 40), data("one"), closeNotify)},
	{"too long", []step{data(strings.Repeat("x", maxPlaintext+1)), data("one")}},
	{"much too long", []step{data("one"), {raw: true, content: []byte{23, 3, 3, 0xff, 0xff, 1, 2, 3}}}},
	{"plaintext", []step{data("one"), {raw: true, content: []byte("HTTP/1.1 400 Bad Request\r\n\r\n")}}},
	{"another version", []step{data("one"), changed(data("two"), func(b []byte) []byte { b[2] = 1; return b })}},
	{"no tag", []step{data("one"), {raw: true, content: []byte{23, 3, 3, 0, 4, 1, 2, 3, 4}}, data("two")}},
	{"an empty record", []step{data("one"), {raw: true, content: []byte{23, 3, 3, 0, 0}}, data("two")}},
	{"an alert in plaintext", []step{data("one"), {raw: true, content: []byte{21, 3, 3, 0, 2, 1, 0}}}},
	{"fatal alert", []step{data("one"), {typ: alertType, content: []byte{2, 80}}, data("two")}},
	{"warnings", append(repeat(step{typ: alertType, content: []byte{1, 90}}, 5), data("one"), closeNotify)},
	{"many warnings", append(repeat(step{typ: alertType, content: []byte{1, 90}}, 40), data("one"), closeNotify)},
	{"another warning", []step{{typ: alertType, content: []byte{1, 110}}, data("one"), closeNotify}},
	{"an alert of one byte", []step{{typ: alertType, content: []byte{1}}, data("one")}},
	{"an alert of three bytes", []step{{typ: alertType, content: []byte{1, 0, 0}}, data("one")}},
	{"an alert of no level", []step{{typ: alertType, content: []byte{7, 50}}, data("one")}},
	{"an empty alert", []step{{typ: alertType}, data("one")}},
	{"an unknown type", []step{data("one"), {typ: 99, content: []byte("two")}, data("three")}},
	{"type 0", []step{data("one"), {typ: 0, content: []byte("two\x00")}, data("three")}},
	{"change_cipher_spec inside", []step{data("one"), {typ: changeCipherSpec, content: []byte{1}}, data("three")}},
	{"an empty handshake record", []step{data("one"), {typ: handshakeType}, data("two")}},
	{"a hello request", []step{data("one"), message(typeHelloRequest), data("two")}},
	{"a client hello", []step{data("one"), message(1, make([]byte, 60)...), data("two")}},
	{"a finished", []step{data("one"), message(20, make([]byte, 32)...), data("two")}},
	{"a long message", []step{{typ: handshakeType, content: []byte{typeNewSessionTicket, 2, 0, 0}}, data("two")}},
}

// hostile13 are scripts with what only TLS 1.3 has.
var hostile13 = []struct {
	name  string
	steps []step
}{
	{"padding", []step{padded(data("one"), 1), padded(data("two"), 5000), padded(full, 255), closeNotify}},
	{"too much padding", []step{data("one"), padded(full, 256), data("two")}},
	{"nothing but padding", []step{data("one"), {typ: 0, pad: 100}, data("two")}},
	{"empty with padding", append(repeat(padded(empty, 100), 3), data("one"), closeNotify)},
	{"key update", []step{data("one"), keyUpdate(0), data("two"), keyUpdate(1), data("three"), closeNotify}},
	{"keys that did not change", []step{data("one"), message(typeKeyUpdate, 0), data("two")}},
	{"keys that changed unsaid", []step{{typ: applicationData, content: []byte("one"), update: true}, data("two")}},
	{"a key update of value 2", []step{keyUpdate(2), data("one")}},
	{"a key update of two bytes", []step{message(typeKeyUpdate, 0, 0), data("one")}},
	{"a key update of none", []step{message(typeKeyUpdate), data("one")}},
	{"key updates one behind the other", append(repeat(keyUpdate(0), 10), data("one"), closeNotify)},
	{"key updates without end", append(repeat(keyUpdate(0), 40), data("one"), closeNotify)},
	{"a ticket", []step{data("one"), ticket, data("two"), closeNotify}},
	{"two tickets in a record", []step{{typ: handshakeType, content: append(bytes.Clone(ticket.content), ticket.content...)}, data("two"), closeNotify}},
	{"tickets without end", append(repeat(ticket, 40), data("one"), closeNotify)},
	{"tickets between data", append(manyTimes([]step{data("x"), ticket}, 50), closeNotify)},
	{"a ticket in two records", []step{
		{typ: handshakeType, content: ticket.content[:7]}, {typ: handshakeType, content: ticket.content[7:]}, data("two"), closeNotify}},
	{"tickets byte by byte", append(inPieces(append(bytes.Clone(ticket.content), ticket.content...), 1), data("two"), closeNotify)},
	{"tickets in odd pieces", append(inPieces(bytes.Repeat(ticket.content, 5), len(ticket.content)*2/3), data("two"), closeNotify)},
	{"data within a ticket", []step{{typ: handshakeType, content: ticket.content[:7]}, data("two"), {typ: handshakeType, content: ticket.content[7:]}}},
	{"the end within a ticket", []step{{typ: handshakeType, content: ticket.content[:7]}}},
	{"close_notify within a ticket", []step{{typ: handshakeType, content: ticket.content[:7]}, closeNotify}},
	{"a ticket cut short", []step{message(typeNewSessionTicket, ticket.content[4:14]...), data("two")}},
	{"a ticket with more behind it", []step{message(typeNewSessionTicket, append(bytes.Clone(ticket.content[4:]), 1)...), data("two")}},
	{"a ticket for too long", []step{message(typeNewSessionTicket, append([]byte{9, 0, 0, 0}, ticket.content[8:]...)...), data("two")}},
	{"a ticket without a label", []step{message(typeNewSessionTicket, 0, 0, 14, 16, 1, 2, 3, 4, 1, 9, 0, 0, 0, 0), data("two")}},
}

// inPieces are handshake messages in records of n bytes each.
func inPieces(messages []byte, n int) []step {
	var all []step
	for piece := range slices.Chunk(messages, n) {
		all = append(all, step{typ: handshakeType, content: piece})
	}
	return all
}

func manyTimes(steps []step, n int) []step {
	var all []step
	for range n {
		all = append(all, steps...)
	}
	return all
}

func TestWhatCryptoTLSRefusesWeRefuse(t *testing.T) {
	for _, c := range cases {
		scripts := hostile
		if c.version == cases[0].version {
			scripts = append(scripts[:len(scripts):len(scripts)], hostile13...)
		}
		for _, role := range []string{"client", "server"} {
			for _, s := range scripts {
				t.Run(c.String()+"/"+role+"/"+s.name, func(t *testing.T) {
					t.Parallel()
					compare(t, c, role, s.steps, -1, 0)
				})
			}
		}
	}
}

// compare plays a script to crypto/tls and to us.
func compare(t *testing.T, c testCase, role string, steps []step, cut, most int) {
	t.Helper()
	want := play(t, c, role, byCryptoTLS, steps, cut, most)
	for _, m := range []mode{byUs, takingOver} {
		got := play(t, c, role, m, steps, cut, most)
		if alert := stricter(c, role, steps); alert != "" && got.err == "refused" && got.alert == alert && bytes.HasPrefix(want.plain, got.plain) {
			continue
		}
		if got.err != want.err || got.alert != want.alert || !bytes.Equal(got.plain, want.plain) {
			t.Errorf("%v: %v\nwant %v", m, got, want)
		}
	}
}

// stricter is the alert with which we may end a connection otherwise than crypto/tls does, or
// earlier: it takes messages apart that their sender must not send, calls a value of
// KeyUpdate badly encoded that is an illegal parameter (RFC 8446, section 4.6.3), and ignores a
// change_cipher_spec that has come under protection (section 5).
func stricter(c testCase, role string, steps []step) string {
	for _, s := range steps {
		switch {
		case s.typ == changeCipherSpec && !s.raw:
			return "remote error: tls: unexpected message"
		case s.typ != handshakeType || len(s.content) == 0:
		case s.content[0] == typeKeyUpdate:
			if len(s.content) == 5 && s.content[4] > updateRequested {
				return "remote error: tls: illegal parameter"
			}
		case s.content[0] != typeNewSessionTicket || role == "server" || c.version < tls.VersionTLS13:
			return "remote error: tls: unexpected message"
		}
	}
	return ""
}

// Whatever byte of a record is changed, its plaintext does not come out, and the peer
// is told.
func TestEveryByteIsAuthenticated(t *testing.T) {
	for _, c := range cases {
		for _, role := range []string{"client", "server"} {
			t.Run(c.String()+"/"+role, func(t *testing.T) {
				t.Parallel()
				size := headerLen + len("secret") + 1 + tagLen
				if c.version != cases[0].version {
					size = headerLen + 8 + len("secret") + tagLen
				}
				for i := range size {
					for _, m := range modes {
						o := play(t, c, role, m, []step{data("good"), changed(data("secret"), flip(i)), data("more")}, -1, 0)
						if string(o.plain) != "good" {
							t.Errorf("byte %d, %v: %v", i, m, o)
						}
						inLength := i == 3 || i == 4
						if !inLength && o.err != "refused" && !strings.HasPrefix(o.err, "no record") {
							t.Errorf("byte %d, %v: %v", i, m, o)
						}
						if !inLength && !strings.Contains(o.alert, "bad record MAC") && !strings.Contains(o.alert, "protocol version") {
							t.Errorf("byte %d, %v: the peer gets %q", i, m, o.alert)
						}
					}
				}
			})
		}
	}
}

// A stream that ends before its close_notify is cut short, wherever it ends.
func TestCutAnywhere(t *testing.T) {
	steps := []step{data("one"), data("twotwo"), closeNotify}
	for _, c := range cases[:2] {
		for _, role := range []string{"client", "server"} {
			t.Run(c.String()+"/"+role, func(t *testing.T) {
				t.Parallel()
				ends := endsOf(t, c, role, steps)
				for cut := range ends[2] {
					want := ""
					for i, s := range steps[:2] {
						if cut >= ends[i] {
							want += string(s.content)
						}
					}
					for _, m := range modes {
						o := play(t, c, role, m, steps, cut, 1+cut%3*20)
						if string(o.plain) != want || o.err != "unexpected EOF" {
							t.Errorf("cut at %d, %v: %v, want %q", cut, m, o, want)
						}
					}
				}
			})
		}
	}
}

// endsOf is where the records of steps end.
func endsOf(t *testing.T, c testCase, role string, steps []step) []int {
	_, theirs, _ := scriptPair(t, c, role, byUs)
	out := seal(t, theirs.tap.writer.half, steps)
	var ends []int
	for at := 0; at < len(out); {
		at += headerLen + int(binary.BigEndian.Uint16(out[at+3:]))
		ends = append(ends, at)
	}
	return ends
}

// Nothing depends on how a stream comes in.
func TestByteByByte(t *testing.T) {
	for _, c := range cases[:2] {
		for _, most := range []int{1, 5, 23, 1000} {
			compare(t, c, "client", []step{data("one"), full, data("two"), closeNotify}, -1, most)
		}
	}
}
