package record

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"testing"
)

// step is one record that a peer sends, of any sort.
type step struct {
	typ     contentType
	content []byte
	pad     int                   // zero bytes behind it, in TLS 1.3
	raw     bool                  // content goes out as it is
	update  bool                  // the peer's keys change after it
	skip    bool                  // the record is made and does not go out
	again   bool                  // it goes out twice
	change  func(b []byte) []byte // made of the sealed record what goes out
}

func data(s string) step { return step{typ: applicationData, content: []byte(s)} }

func message(typ byte, body ...byte) step {
	return step{typ: handshakeType, content: append([]byte{typ, 0, 0, byte(len(body))}, body...)}
}

func keyUpdate(request byte) step {
	s := message(typeKeyUpdate, request)
	s.update = true
	return s
}

// mode is who reads on our side.
type mode int

const (
	byCryptoTLS mode = iota
	byUs
	takingOver // the first record of the script is the one that we take over with
)

var modes = []mode{byCryptoTLS, byUs, takingOver}

func (m mode) String() string { return [...]string{"crypto/tls", "ours", "taking over"}[m] }

const warmUpBytes = 40 << 10

func (m mode) after() int64 { return [...]int64{math.MaxInt64, 1, warmUpBytes}[m] }

// outcome is what has become of a script.
type outcome struct {
	plain []byte
	err   string // that reading ended in
	alert string // that the peer has got
}

func (o outcome) String() string {
	return fmt.Sprintf("%d bytes %.40q, then %q; the peer gets %q", len(o.plain), o.plain, o.err, o.alert)
}

// play has a peer send steps, cut short after cut bytes if that is not negative, and then a
// FIN. We read most bytes at once, if that is not 0.
func play(t testing.TB, c testCase, role string, m mode, steps []step, cut, most int) outcome {
	t.Helper()
	ours, theirs, wire := scriptPair(t, c, role, m)
	ours.tap.Transport.(*readAhead).most = most
	out := seal(t, theirs.tap.writer.half, steps)
	if cut >= 0 {
		out = out[:min(cut, len(out))]
	}
	sent := make(chan error, 1)
	go func() {
		_, err := wire.Write(out)
		sent <- errors.Join(err, wire.CloseWrite())
	}()
	var o outcome
	plain, err := receive(ours, 1000)
	o.plain, o.err = plain, kindOf(err)
	if taken := ours.reader != nil; m == byCryptoTLS && taken || m == byUs && !taken && cut < 0 && len(steps) > 0 {
		t.Fatalf("%v: reading taken over: %v", m, taken)
	}
	if err := <-sent; err != nil && !errors.Is(err, net.ErrClosed) && m == byCryptoTLS && o.err == "EOF" {
		t.Fatal(err)
	}
	ours.tap.Transport.(*readAhead).Conn.(*net.TCPConn).CloseWrite()
	_, err = receive(theirs, 1000)
	o.alert = kindOf(err)
	return o
}

// scriptPair is a connection after some bytes both ways. theirs has taken its writing
// over, so that its half can be had; wire is what is below it.
func scriptPair(t testing.TB, c testCase, role string, m mode) (ours, theirs *Conn, wire *net.TCPConn) {
	t.Helper()
	a, b := socketPair(t)
	if role == "client" {
		ours, theirs = Client(newReadAhead(a), c.clientConfig()), Server(newReadAhead(b), ServerConfig(c.serverConfig()))
	} else {
		ours, theirs = Server(newReadAhead(a), ServerConfig(c.serverConfig())), Client(newReadAhead(b), c.clientConfig())
	}
	ours.TakeOverAfter(m.after())
	theirs.TakeOverAfter(1)
	shakeHands(t, ours, theirs)
	// The first record has been read when the others come: were all read at once, the first of
	// a script would be the one to take over with.
	for _, records := range []int{1, warmUpBytes>>10 - 1} {
		sent := make(chan error, 1)
		go func() {
			for range records {
				if _, err := theirs.Write(make([]byte, 1<<10)); err != nil {
					sent <- err
					return
				}
			}
			sent <- nil
		}()
		if _, err := io.ReadFull(ours, make([]byte, records<<10)); err != nil {
			t.Fatal(err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
	if !theirs.taken() {
		t.Fatal("the peer has no half")
	}
	return ours, theirs, b.(*net.TCPConn)
}

// seal makes records of steps.
func seal(t testing.TB, h *half, steps []step) []byte {
	t.Helper()
	var out []byte
	for _, s := range steps {
		record := s.content
		if !s.raw {
			record = sealPadded(t, h, s)
		}
		if s.update && h.tls13() {
			if err := h.update(); err != nil {
				t.Fatal(err)
			}
		}
		if s.change != nil {
			record = s.change(record)
		}
		if !s.skip {
			out = append(out, record...)
		}
		if s.again {
			out = append(out, record...)
		}
	}
	return out
}

// sealPadded seals content of any length, with padding, which half does not do.
func sealPadded(t testing.TB, h *half, s step) []byte {
	t.Helper()
	if !h.tls13() {
		record, err := h.seal(make([]byte, 0, len(s.content)+100), s.typ, s.content)
		if err != nil {
			t.Fatal(err)
		}
		return record
	}
	inner := append(append(bytes.Clone(s.content), byte(s.typ)), make([]byte, s.pad)...)
	n := len(inner) + tagLen
	record := []byte{byte(applicationData), 3, 3, byte(n >> 8), byte(n)}
	record = h.aead.Seal(record, h.nextNonce(nil), inner, h.additional(record, 0))
	h.seq++
	return record
}

// kindOf is what an error means to others. What we refuse has a text of its own in
// crypto/tls; the alert that the peer gets says why.
func kindOf(err error) string {
	var header tls.RecordHeaderError
	switch {
	case err == nil:
		return "EOF"
	case errors.As(err, &header):
		return fmt.Sprintf("no record: % x", header.RecordHeader)
	case err == io.ErrUnexpectedEOF, strings.HasPrefix(err.Error(), "remote error"):
		return err.Error()
	}
	return "refused"
}
