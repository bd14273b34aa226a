package record

import (
	"bytes"
	"testing"
)

// FuzzRecords has the same records, of any sort, read by crypto/tls and by us.
func FuzzRecords(f *testing.F) {
	f.Add(byte(0), []byte("\x00\x05\x01\x03\x00\x00\x02\x20\x04\x00"))
	f.Add(byte(1), []byte("\x00\x05\x0a\x01\x00\x09\x00\x30\x02\x00"))
	f.Add(byte(2), []byte("\x03\x00\x03\x01\x00\x07\x05\x02\x06\x01"))
	f.Add(byte(7), []byte("\x07\x00\x08\x09\x00\x11\x01\x00\x09\x44"))
	f.Fuzz(func(t *testing.T, setting byte, script []byte) {
		c, role := cases[int(setting>>1)%2], "client"
		if setting&1 != 0 {
			role = "server"
		}
		steps, cut := decode(c, script)
		compare(t, c, role, steps, cut, int(setting>>2)*7)
	})
}

// decode makes steps of bytes, two for each.
func decode(c testCase, b []byte) (steps []step, cut int) {
	cut = -1
	for len(b) >= 2 && len(steps) < 30 {
		kind, arg := b[0], int(b[1])
		b = b[2:]
		var s step
		switch kind % 12 {
		case 0:
			s = data(string(bytes.Repeat([]byte{'a' + kind>>4}, arg*arg/4)))
		case 1:
			s = keyUpdate(byte(arg & 1))
		case 2:
			s = ticket
		case 3:
			s = closeNotify
		case 4:
			s = changed(data("changed"), flip(arg%30))
		case 5:
			s = step{typ: contentType(20 + arg%6), content: b[:min(len(b), arg>>3)]}
		case 6:
			s = step{typ: handshakeType, content: b[:min(len(b), arg>>3)]}
		case 7:
			s = step{typ: alertType, content: []byte{1 + byte(arg&1), byte(arg >> 1)}}
		case 8:
			s = step{raw: true, content: b[:min(len(b), arg)]}
		case 9:
			s = data("again or not at all")
			s.skip, s.again = arg&1 != 0, arg&2 != 0
		case 10:
			s = padded(data("padded"), arg*arg/5)
		case 11:
			cut = arg * 3
			continue
		}
		steps = append(steps, s)
	}
	return steps, cut
}
