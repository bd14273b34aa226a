package relay

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"testing"
)

// clientHello is what a TLS client says first.
func clientHello(t *testing.T) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer client.Close()
	go func() {
		tls.Client(client, &tls.Config{ServerName: "server.example"}).Handshake()
		client.Close()
	}()
	b := make([]byte, 4<<10)
	n, err := server.Read(b)
	server.Close()
	if err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return b[:n]
}

func TestClientHelloIsRecognised(t *testing.T) {
	if hello := clientHello(t); !speaksTLS(hello) {
		t.Errorf("%x was not", hello[:min(len(hello), 16)])
	}
	for _, other := range []string{"", "GET / HTTP/1.1\r\n", "\x16\x03\x01", "\x16\x03\x01\x00\x05\x02", "\x16\x02\x00\x00\x05\x01", "\x80\x2e\x01\x00\x02"} {
		if speaksTLS([]byte(other)) {
			t.Errorf("%q was taken for one", other)
		}
	}
}

func TestRecordsAreFollowed(t *testing.T) {
	record := func(kind, major byte, n int) []byte {
		return append([]byte{kind, major, 3, byte(n >> 8), byte(n)}, bytes.Repeat([]byte{kind}, n)...)
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for _, test := range []struct {
		name  string
		words []byte
		good  bool
	}{
		{"hello", clientHello(t), true},
		{"records", join(record(22, 3, 300), record(20, 3, 1), record(23, 3, maxCiphertext), record(21, 3, 2), record(23, 3, 0)), true},
		{"half a record", join(record(22, 3, 300)[:100]), true},
		{"plaintext", join(record(22, 3, 300), []byte("GET / HTTP/1.1\r\n")), false},
		{"one byte of plaintext", join(record(22, 3, 300), []byte("G")), false},
		{"another version", record(23, 2, 1), false},
		{"another type", record(25, 3, 1), false},
		{"too long", record(23, 3, maxCiphertext+1), false},
	} {
		for size := 1; size <= len(test.words); size = size*3 + 1 {
			var f framing
			good := true
			for rest := test.words; len(rest) > 0 && good; rest = rest[min(size, len(rest)):] {
				good = f.next(rest[:min(size, len(rest))])
			}
			if good != test.good {
				t.Errorf("%s in pieces of %d: %v", test.name, size, good)
			}
		}
	}
}

// However a stream is cut into pieces, it is of records or it is not.
func FuzzFraming(f *testing.F) {
	f.Add([]byte("\x16\x03\x01\x00\x02ab\x17\x03\x03\x00\x00"), 2)
	f.Fuzz(func(t *testing.T, stream []byte, size int) {
		size = max(1, min(size, 1<<10))
		var whole, pieces framing
		want, got := whole.next(stream), true
		for b := stream; got && len(b) > 0; b = b[min(size, len(b)):] {
			got = pieces.next(b[:min(size, len(b))])
		}
		if got != want {
			t.Errorf("%q: %v, by %d bytes %v", stream, want, size, got)
		}
	})
}
