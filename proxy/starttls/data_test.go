package starttls

import (
	"bytes"
	"os"
	"testing"
)

func TestPostgresAsksForTLS(t *testing.T) {
	testAsk(t, "postgres", []askTest{
		{name: "good", server: "S", worker: "\x00\x00\x00\x08\x04\xd2\x16\x2f"},
		{name: "not offered", server: "N", want: "does not offer TLS"},
		{name: "error", server: "E\x00\x00\x00\x0cSFATAL\x00\x00", want: `refused TLS: it said "SFATAL`},
		{name: "long error", server: "E\x7f\x00\x00\x00", want: "an error of"},
		{name: "other", server: "HTTP", want: `it answered "H"`},
		{name: "extra", server: "SR\x00", want: "said more than it may before TLS"},
		{name: "silent", end: os.ErrDeadlineExceeded, want: "did not send the answer to SSLRequest in time"},
		{name: "closed", want: "closed the connection"},
	})
}

func FuzzPostgres(f *testing.F) { fuzzAsk(f, "postgres", "S", "N", "E\x00\x00\x00\x06ab") }

// What a client asks, however it is cut into pieces, and what goes on to the server.
func TestPostgresClientIsToldThatThereIsNoEncryption(t *testing.T) {
	const (
		ssl = "\x00\x00\x00\x08\x04\xd2\x16\x2f"
		gss = "\x00\x00\x00\x08\x04\xd2\x16\x30"
		go3 = "\x00\x00\x00\x10\x00\x03\x00\x00user\x00x\x00\x00"
	)
	for name, c := range map[string]struct{ program, answer, server string }{
		"both":    {gss + ssl + go3, "NN", go3},
		"neither": {go3, "", go3},
		"cancel":  {"\x00\x00\x00\x10\x04\xd2\x16\x2e12345678", "", "\x00\x00\x00\x10\x04\xd2\x16\x2e12345678"},
	} {
		for size := 1; size <= len(c.program); size++ {
			f := newPostgresFilter(nil)
			var answer, server bytes.Buffer
			for b := []byte(c.program); len(b) > 0; {
				n := min(size, len(b))
				out, said, err := f.FromProgram(b[:n])
				if err != nil {
					t.Fatal(err)
				}
				server.Write(out)
				answer.Write(said)
				b = b[n:]
			}
			if answer.String() != c.answer || server.String() != c.server {
				t.Errorf("%s by %d: answer %q, to the server %q", name, size, answer.String(), server.String())
			}
		}
	}
}

// A server that offers to bind to TLS does so only under TLS, and the client knows of none.
func TestPostgresClientIsNotOfferedBinding(t *testing.T) {
	const (
		version = "v\x00\x00\x00\x0c\x00\x03\x00\x00\x00\x00\x00\x00"
		plus    = "R\x00\x00\x00\x2a\x00\x00\x00\x0aSCRAM-SHA-256-PLUS\x00SCRAM-SHA-256\x00\x00"
		plain   = "R\x00\x00\x00\x17\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00"
		ok      = "R\x00\x00\x00\x08\x00\x00\x00\x00"
		more    = "S\x00\x00\x00\x08a\x00b\x00" + plus
	)
	for server, want := range map[string]string{
		plus + more: plain + more, version + plus: version + plain, ok + more: ok + more, "E\x00\x00\x00\x05\x00": "E\x00\x00\x00\x05\x00",
	} {
		for size := 1; size <= len(server); size++ {
			f := newPostgresFilter(nil)
			got := ""
			for b := []byte(server); len(b) > 0; {
				n := min(size, len(b))
				out, err := f.FromServer(b[:n])
				if err != nil {
					t.Fatal(err)
				}
				got += string(out)
				b = b[n:]
			}
			if got != want {
				t.Errorf("by %d: %q became %q, want %q", size, server, got, want)
			}
		}
	}
	if _, err := newPostgresFilter(nil).FromServer([]byte("R\x7f\x00\x00\x00")); err == nil {
		t.Error("a message of 2 GB is no error")
	}
}

func TestLDAPAsksForTLS(t *testing.T) {
	testAsk(t, "ldap", []askTest{
		{name: "good", server: "\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00", worker: string(ldapRequest)},
		{name: "long length", server: "\x30\x84\x00\x00\x00\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00"},
		{name: "refused", server: "\x30\x0e\x02\x01\x01\x78\x09\x0a\x01\x02\x04\x00\x04\x02no", want: `refused TLS: result 2, "no"`},
		{name: "other message", server: "\x30\x0c\x02\x01\x02\x78\x07\x0a\x01\x00\x04\x00\x04\x00", want: "does not speak LDAP"},
		{name: "other protocol", server: "220 hi\r\n", want: "does not speak LDAP"},
		{name: "too long", server: "\x30\x84\x7f\xff\xff\xff", want: "does not speak LDAP"},
		{name: "extra", server: "\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00\x30", want: "more than it may before TLS"},
		{name: "silent", end: os.ErrDeadlineExceeded, want: "did not send the answer to StartTLS in time"},
		{name: "closed", server: "\x30\x0c\x02", want: "closed the connection"},
	})
}

func FuzzLDAP(f *testing.F) {
	fuzzAsk(f, "ldap", "\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00")
}

// Whatever both say, the filter ends, and makes no more of it than there is.
func FuzzPostgresFilter(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x08\x04\xd2\x16\x2f\x00\x00\x00\x10\x00\x03\x00\x00"), []byte("R\x00\x00\x00\x0c\x00\x00\x00\x0aX\x00\x00"), 3)
	f.Fuzz(func(t *testing.T, program, server []byte, size int) {
		size = max(1, min(size, 1<<10))
		p := newPostgresFilter(nil)
		out, answers := 0, 0
		for b := program; len(b) > 0; b = b[min(size, len(b)):] {
			toServer, toProgram, err := p.FromProgram(bytes.Clone(b[:min(size, len(b))]))
			if err != nil {
				break
			}
			out, answers = out+len(toServer), answers+len(toProgram)
		}
		if out+answers*pgRequestLen > len(program) {
			t.Errorf("%d bytes became %d and %d answers", len(program), out, answers)
		}
		out = 0
		for b := server; len(b) > 0; b = b[min(size, len(b)):] {
			toProgram, err := p.FromServer(bytes.Clone(b[:min(size, len(b))]))
			if err != nil {
				break
			}
			out += len(toProgram)
		}
		if out > len(server)+2 { // names that no NUL has ended
			t.Errorf("%d bytes became %d", len(server), out)
		}
	})
}
