package starttls

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

// mysqlHello is a server's greeting with these capabilities.
func mysqlHello(version string, capabilities uint16) string {
	p := append([]byte{mysqlVersion}, version...)
	p = append(p, "\x00\x01\x00\x00\x00saltsalt\x00"...)
	p = binary.LittleEndian.AppendUint16(p, capabilities)
	p = append(p, "\x21\x02\x00\xff\xc1\x15\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00moresaltmore\x00mysql_native_password\x00"...)
	return string(mysqlPacket(0, p))
}

const mysqlOffers = mysqlSSL | mysql41 | mysqlSecure

// mysqlLogin is what a client of today says who it is with.
func mysqlLogin(flags uint32) string {
	p := binary.LittleEndian.AppendUint32(nil, flags)
	p = append(p, "\x00\x00\x00\x01\x21"...)
	p = append(p, make([]byte, 23)...)
	return string(mysqlPacket(1, append(p, "user\x00\x02pwmysql_native_password\x00"...)))
}

func TestMySQLAsksForTLS(t *testing.T) {
	hello := mysqlHello("8.0.36", mysqlOffers)
	testAsk(t, "mysql", []askTest{
		{name: "good", server: hello, worker: "\x20\x00\x00\x01\x00\x8a\x08\x00" + strings.Repeat("\x00", 28)},
		{name: "not offered", server: mysqlHello("8.0.36", mysql41), want: `does not offer TLS: its greeting, as version "8.0.36"`},
		{name: "error", server: string(mysqlPacket(0, []byte("\xff\x69\x04Host is blocked"))), want: "takes no connection: it said"},
		{name: "old", server: string(mysqlPacket(0, []byte("\x093.20\x00"))), want: "does not speak MySQL's protocol"},
		{name: "short", server: string(mysqlPacket(0, []byte("\x0a8.0\x00\x01\x00"))), want: "does not speak MySQL's protocol"},
		{name: "empty", server: "\x00\x00\x00\x00", want: "does not speak MySQL's protocol"},
		{name: "long", server: "\xff\xff\x00\x00", want: "does not speak MySQL's protocol"},
		{name: "number", server: "\x20\x00\x00\x01", want: "does not speak MySQL's protocol"},
		{name: "terminal", server: mysqlHello("\x1b[2J", mysqlOffers), want: "does not speak MySQL's protocol"},
		{name: "other", server: "220 mail.example ESMTP\r\n", want: "does not speak MySQL's protocol"},
		{name: "extra", server: hello + "x", want: "said more than it may before TLS"},
		{name: "silent", end: os.ErrDeadlineExceeded, want: "did not send its greeting in time"},
		{name: "closed", server: hello[:20], want: "closed the connection"},
	})
}

func FuzzMySQL(f *testing.F) {
	fuzzAsk(f, "mysql", mysqlHello("8.0.36", mysqlOffers), mysqlHello("5", 0), "\x03\x00\x00\x00\xff\x01\x02")
}

// inPieces is a program whose words come a few bytes at a time.
type inPieces struct {
	words string
	size  int
	heard bytes.Buffer
}

func (p *inPieces) Read(b []byte) (int, error) {
	if p.words == "" {
		return 0, io.EOF
	}
	n := copy(b, p.words[:min(p.size, len(p.words))])
	p.words = p.words[n:]
	return n, nil
}

func (p *inPieces) Write(b []byte) (int, error) { return p.heard.Write(b) }

// What goes where, however the program's words are cut into pieces.
func TestMySQLProgramIsNotSeenBeforeTLS(t *testing.T) {
	const own = mysql41 | mysqlSecure | 1<<20
	login := mysqlLogin(own)
	for name, c := range map[string]struct{ words, under string }{
		"waits":     {login, ""},
		"goes on":   {login + "\x05\x00\x00\x00\x03quit", "\x05\x00\x00\x00\x03quit"},
		"half more": {login + "\x05\x00", ""},
	} {
		for _, size := range []int{1, 3, 7, 4096} {
			program := &inPieces{words: c.words, size: size}
			server := &spoken{words: []byte(mysqlHello("11.4.2-MariaDB", mysqlOffers)), end: io.EOF}
			d := &Dialogue{Open: func() (io.ReadWriter, error) { return program, nil }}
			if err := d.Ask(server, &mysql); err != nil {
				t.Fatalf("%s by %d: %v", name, size, err)
			}
			if got := program.heard.String(); got != mysqlHello("11.4.2-MariaDB", mysqlOffers&^mysqlSSL) {
				t.Errorf("the program was greeted with %q", got)
			}
			request := server.heard.String()
			want := string(mysqlPacket(1, []byte(mysqlLogin(own | mysqlSSL)[4:36])))
			if request != want || strings.Contains(request, "user") {
				t.Errorf("%s by %d: before TLS the server got %q, want %q", name, size, request, want)
			}
			secured := &spoken{end: io.EOF}
			if err := d.Run(secured, mysql.Secured); err != nil {
				t.Fatal(err)
			}
			got := secured.heard.Bytes()
			if string(got[4:len(login)]) != mysqlLogin(own | mysqlSSL)[4:] || got[3] != 2 {
				t.Errorf("%s by %d: under TLS the server got %q", name, size, got)
			}
			if more := string(got[len(login):]); size == 4096 && more != c.under {
				t.Errorf("%s: and then %q, want %q", name, more, c.under)
			}
		}
	}
}

func TestMySQLProgramThatMakesNoSense(t *testing.T) {
	for name, c := range map[string]struct{ words, want string }{
		"asks for TLS": {string(mysqlPacket(1, []byte(mysqlLogin(mysql41 | mysqlSSL)[4:36]))), "asks for TLS itself"},
		"huge":         {"\xff\xff\xff\x01", "its first packet has 16777215 bytes"},
		"empty":        {"\x00\x00\x00\x01", "its first packet has 0 bytes"},
		"short":        {"\x06\x00\x00\x01\x00\x02abcd", "its first packet has 6 bytes"},
	} {
		server := &spoken{words: []byte(mysqlHello("8", mysqlOffers)), end: io.EOF}
		d := &Dialogue{Open: func() (io.ReadWriter, error) { return &inPieces{words: c.words, size: 4096}, nil }}
		if err := d.Ask(server, &mysql); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
		if server.heard.Len() > 0 {
			t.Errorf("%s: the server got %q", name, &server.heard)
		}
	}
	gone := errors.New("gone")
	d := &Dialogue{Open: func() (io.ReadWriter, error) { return nil, gone }}
	if err := d.Ask(&spoken{words: []byte(mysqlHello("8", mysqlOffers))}, &mysql); err != gone {
		t.Errorf("a program that was gone: %v", err)
	}
}

// What goes by until the login is over, and after, however it is cut into pieces.
func TestMySQLNumbersGoOn(t *testing.T) {
	pieces := func(words string, size int, f func([]byte) []byte) string {
		var out bytes.Buffer
		for b := []byte(words); len(b) > 0; {
			n := min(size, len(b))
			out.Write(f(bytes.Clone(b[:n])))
			b = b[n:]
		}
		return out.String()
	}
	for size := 1; size < 40; size++ {
		f := new(mysqlFilter)
		server := func(words string) string {
			return pieces(words, size, func(b []byte) []byte {
				out, err := f.FromServer(b)
				if err != nil {
					t.Fatal(err)
				}
				return out
			})
		}
		program := func(words string) string {
			return pieces(words, size, func(b []byte) []byte {
				out, answer, err := f.FromProgram(b)
				if err != nil || len(answer) > 0 {
					t.Fatal(answer, err)
				}
				return out
			})
		}
		for _, step := range []struct {
			way       func(string) string
			name      string
			said, got string
		}{
			{program, "login", "\x03\x00\x00\x01abc", "\x03\x00\x00\x02abc"},
			{server, "switch", "\x05\x00\x00\x03\xfename", "\x05\x00\x00\x02\xfename"},
			{program, "empty answer", "\x00\x00\x00\x03", "\x00\x00\x00\x04"},
			{server, "more", "\x02\x00\x00\x05\x01\x04", "\x02\x00\x00\x04\x01\x04"},
			{program, "answer", "\x01\x00\x00\x05\x02", "\x01\x00\x00\x06\x02"},
			{server, "key and OK", "\x02\x00\x00\x07\x01k\x03\x00\x00\x08\x00\x00\x02", "\x02\x00\x00\x06\x01k\x03\x00\x00\x07\x00\x00\x02"},
			{program, "command", "\x02\x00\x00\x00\x03q\x01\x00\x00\x01x", "\x02\x00\x00\x00\x03q\x01\x00\x00\x01x"},
			{server, "result", "\x01\x00\x00\x01\x05\x01\x00\x00\x02\x00", "\x01\x00\x00\x01\x05\x01\x00\x00\x02\x00"},
		} {
			if got := step.way(step.said); got != step.got {
				t.Fatalf("by %d, %s: %q, want %q", size, step.name, got, step.got)
			}
		}
		if !f.Done() {
			t.Errorf("by %d: the filter stays in the way", size)
		}
	}
}

func FuzzMySQLFilter(f *testing.F) {
	f.Add([]byte("\x03\x00\x00\x01abc"), []byte("\x05\x00\x00\x03\xfename\x01\x00\x00\x05\x00"), 3)
	f.Fuzz(func(t *testing.T, program, server []byte, size int) {
		size = max(1, min(size, 1<<10))
		m := new(mysqlFilter)
		var out int
		for b := server; len(b) > 0; b = b[min(size, len(b)):] {
			got, err := m.FromServer(bytes.Clone(b[:min(size, len(b))]))
			if out += len(got); err != nil {
				t.Fatal(err)
			}
		}
		if out > len(server) || out < len(server)-mysqlHeadLen {
			t.Errorf("%d bytes became %d", len(server), out)
		}
		for b := program; len(b) > 0; b = b[min(size, len(b)):] {
			m.FromProgram(bytes.Clone(b[:min(size, len(b))]))
		}
		m.Done()
	})
}
