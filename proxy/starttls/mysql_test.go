package starttls

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

// A greeting in parts: capabilities are low and high.
const (
	mysqlHead   = "\x0a5.5.5-10.11-MariaDB\x00\x09\x00\x00\x00abcdefgh\x00"
	mysqlLow    = "\xfe\xff" // all but the first, so that MariaDB's own count
	mysqlMiddle = "\x2d\x02\x00"
	mysqlHigh   = "\xff\xc7"
	mysqlNonces = "\x15\x00\x00\x00\x00\x00\x00\x1d\x00\x00\x00ijklmnopqrst\x00"
	mysqlNative = "mysql_native_password\x00"
)

func mysqlSays(number byte, payload ...string) string {
	return string(mysqlPacket(number, []byte(strings.Join(payload, ""))))
}

var mysqlGood = mysqlSays(0, mysqlHead, mysqlLow, mysqlMiddle, mysqlHigh, mysqlNonces, mysqlNative)

func TestMySQLAsksForTLS(t *testing.T) {
	testAsk(t, "mysql", []askTest{
		{name: "good", server: mysqlGood, worker: mysqlSays(1, "\x00\x8a\x08\x00", strings.Repeat("\x00", 28))},
		{name: "no NUL at the end", server: mysqlSays(0, mysqlHead, mysqlLow, mysqlMiddle, mysqlHigh, mysqlNonces, "mysql_native_password")},
		{name: "no plugin", server: mysqlSays(0, mysqlHead, mysqlLow, mysqlMiddle, "\x00\x00", mysqlNonces)},
		{name: "long nonce", server: mysqlSays(0, mysqlHead, mysqlLow, mysqlMiddle, mysqlHigh, "\xff", mysqlNonces[1:11], strings.Repeat("n", 247), "x\x00")},
		{name: "not offered", server: mysqlSays(0, mysqlHead, "\xff\xf7", mysqlMiddle, mysqlHigh, mysqlNonces, mysqlNative),
			want: `the server does not offer TLS: the greeting of its version "5.5.5-10.11-MariaDB" has no CLIENT_SSL`},
		{name: "too old", server: mysqlSays(0, mysqlHead, "\x00\x08", mysqlMiddle, "\x00\x00", mysqlNonces), want: "before MySQL 4.1"},
		{name: "blocked", server: mysqlSays(1, "\xff\x69\x04Host 'x' is blocked\x1b"), want: `the server refused the connection: error 1129, "Host 'x' is blocked."`},
		{name: "short error", server: mysqlSays(0, "\xff\x69\x04"), want: "does not speak MySQL's protocol"},
		{name: "version 9", server: mysqlSays(0, "\x093.20\x00\x01\x00\x00\x00abcdefgh\x00"), want: "does not speak MySQL's protocol"},
		{name: "empty", server: mysqlSays(0), want: "does not speak MySQL's protocol"},
		{name: "other number", server: "\x4f\x00\x00\x01" + mysqlGood[4:4+0x4f], want: "does not speak MySQL's protocol"},
		{name: "other protocol", server: "SSH-2.0-x\r\n", want: `does not speak MySQL's protocol: it said "SSH-"`},
		{name: "too long", server: "\x01\x04\x00\x00" + strings.Repeat("\x0a", 1<<11), want: "does not speak MySQL's protocol"},
		{name: "unprintable version", server: mysqlSays(0, "\x0a5\x1b[2J\x00", mysqlGood[4+len("\x0a5.5.5-10.11-MariaDB\x00"):]), want: `it said "5.[2J.`},
		{name: "plugin is a path", server: mysqlSays(0, mysqlHead, mysqlLow, mysqlMiddle, mysqlHigh, mysqlNonces, "../../tmp/x\x00"), want: "does not speak MySQL's protocol"},
		{name: "more after the plugin", server: mysqlSays(0, mysqlHead, mysqlLow, mysqlMiddle, mysqlHigh, mysqlNonces, mysqlNative, "x\x00"), want: "does not speak"},
		{name: "cut short", server: mysqlSays(0, mysqlHead, mysqlLow, mysqlMiddle, mysqlHigh, "\x15"), want: "does not speak MySQL's protocol"},
		{name: "half a nonce", server: mysqlSays(0, mysqlHead, mysqlLow, mysqlMiddle, mysqlHigh, mysqlNonces[:20]), want: "does not speak MySQL's protocol"},
		{name: "no end of the version", server: mysqlSays(0, "\x0a5.5.5"), want: "does not speak MySQL's protocol"},
		{name: "extra", server: mysqlGood + mysqlSays(2, "\x00\x00\x00\x02\x00\x00\x00"), want: "said more than it may before TLS"},
		{name: "silent", end: os.ErrDeadlineExceeded, want: "the server did not send a greeting in time"},
		{name: "silent later", server: mysqlGood[:20], end: os.ErrDeadlineExceeded, want: "the server did not send a greeting in time"},
		{name: "closed", want: "the server closed the connection instead of sending a greeting"},
		{name: "closed within", server: mysqlGood[:20], want: "the server closed the connection instead of sending a greeting"},
	})
}

// askMySQL has a dialogue between a server and a program that say what is given.
func askMySQL(server, program string, end error) (d *Dialogue, toServer, toProgram string, rest []byte, err error) {
	s, p := &spoken{words: []byte(server), end: io.EOF}, &spoken{words: []byte(program), end: end}
	d = &Dialogue{Host: "server.example", Open: func() (io.ReadWriter, error) { return p, nil }}
	err = d.Ask(s, &mysql)
	return d, s.heard.String(), p.heard.String(), p.words, err
}

// What begins an answer: capabilities, sizes and MariaDB's own capabilities.
const (
	mysqlFlags  = "\x84\xa6\x0f\x00"
	mysqlTLS    = "\x84\xae\x0f\x00"
	mysqlSizes  = "\x00\x00\x00\x01\x2d"
	mysqlFiller = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x1d\x00\x00\x00"
	mysqlUser   = "me\x00\x14....................d\x00mysql_native_password\x00"
)

func TestMySQLProgramAnswersUnderTLS(t *testing.T) {
	const command = "\x01\x00\x00\x00\x0e"
	d, toServer, toProgram, rest, err := askMySQL(mysqlGood, mysqlSays(1, mysqlFlags, mysqlSizes, mysqlFiller, mysqlUser)+command, io.EOF)
	if err != nil {
		t.Fatal(err)
	}
	if want := mysqlSays(1, mysqlTLS, mysqlSizes, mysqlFiller); toServer != want {
		t.Errorf("the server read %q before TLS, want %q", toServer, want)
	}
	if want := mysqlSays(0, mysqlHead, "\xfe\xf7", mysqlMiddle, mysqlHigh, mysqlNonces, mysqlNative); toProgram != want {
		t.Errorf("the program read %q, want %q", toProgram, want)
	}
	if string(rest) != command {
		t.Errorf("the dialogue left %q of the program's words", rest)
	}
	s := &spoken{}
	if err := d.Run(s, mysql.Secured); err != nil {
		t.Fatal(err)
	}
	if got, want := s.heard.String(), mysqlSays(2, mysqlTLS, mysqlSizes, mysqlFiller, mysqlUser); got != want {
		t.Errorf("the server read %q under TLS, want %q", got, want)
	}
}

func TestMySQLProgramIsRefused(t *testing.T) {
	gone := errors.New("gone")
	for name, c := range map[string]struct {
		program, want string
		end           error
	}{
		"asks for TLS":     {mysqlSays(1, mysqlTLS, mysqlSizes, mysqlFiller), "the program asks for TLS itself", io.EOF},
		"too old":          {mysqlSays(1, "\x85\x24\x00\x00\x00me\x00password\x00"), "before MySQL 4.1", io.EOF},
		"short":            {mysqlSays(1, mysqlTLS), "before MySQL 4.1", io.EOF},
		"empty":            {mysqlSays(1), "the program does not speak MySQL's protocol", io.EOF},
		"other number":     {mysqlSays(0, mysqlFlags, mysqlSizes, mysqlFiller, mysqlUser), "the program does not speak MySQL's protocol", io.EOF},
		"other protocol":   {"GET / HTTP/1.1\r\n\r\n", `the program does not speak MySQL's protocol: it said "GET "`, io.EOF},
		"silent":           {"", "the program did not answer the server's greeting in time", os.ErrDeadlineExceeded},
		"silent within":    {"\x40\x00\x00\x01", "the program did not answer the server's greeting in time", os.ErrDeadlineExceeded},
		"gone":             {"\x40\x00", "gone", gone},
		"more than it may": {"\x00\x00\x02\x01" + strings.Repeat("x", 1<<17), "the program does not speak MySQL's protocol", io.EOF},
	} {
		_, toServer, _, _, err := askMySQL(mysqlGood, c.program, c.end)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %s", name, err, c.want)
		}
		if toServer != "" {
			t.Errorf("%s: the server read %q", name, toServer)
		}
	}
}

func TestMySQLRefusalIsAnErrorPacket(t *testing.T) {
	if got, want := string(mysqlRefusal("why")), "\x0c\x00\x00\x02\xff\x13\x04#08S01why"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// mysqlStep is what one side says, and what the other reads of it; back is what the one
// that spoke reads itself.
type mysqlStep struct {
	server           bool
	said, read, back string
}

func mysqlAfter(t *testing.T, plugin string) Filter {
	t.Helper()
	d := &Dialogue{}
	if err := d.Ask(&spoken{words: []byte(mysqlSays(0, mysqlHead, mysqlLow, mysqlMiddle, mysqlHigh, mysqlNonces, plugin))}, &mysql); err != nil {
		t.Fatal(err)
	}
	return mysql.NewFilter(d)
}

func TestMySQLPacketsAreNumberedForEachSide(t *testing.T) {
	const (
		ok      = "\x00\x00\x00\x02\x00\x00\x00"
		denied  = "\xff\x15\x04#28000Access denied"
		method  = "\xfemysql_native_password\x00tsrqponmlkjihgfedcba\x00"
		query   = "\x03select 1"
		program = false
		server  = true
	)
	hash := strings.Repeat("h", 20)
	for name, c := range map[string]struct {
		done  bool
		steps []mysqlStep
	}{
		"at once": {true, []mysqlStep{
			{server, mysqlSays(3, ok), mysqlSays(2, ok), ""},
			{program, mysqlSays(0, query), mysqlSays(0, query), ""},
			{server, mysqlSays(1, ok), mysqlSays(1, ok), ""},
		}},
		"denied": {false, []mysqlStep{{server, mysqlSays(3, denied), mysqlSays(2, denied), ""}}},
		"by another method": {true, []mysqlStep{
			{server, mysqlSays(3, method), mysqlSays(2, method), ""},
			{program, mysqlSays(3, hash), mysqlSays(4, hash), ""},
			{server, mysqlSays(5, ok), mysqlSays(4, ok), ""},
			{program, mysqlSays(0, query) + mysqlSays(0, query), mysqlSays(0, query) + mysqlSays(0, query), ""},
		}},
		"fast, as the server knows the password": {true, []mysqlStep{
			{server, mysqlSays(3, "\x01\x03") + mysqlSays(4, ok), mysqlSays(2, "\x01\x03") + mysqlSays(3, ok), ""},
			{program, mysqlSays(0, query), mysqlSays(0, query), ""},
		}},
		"empty packets": {true, []mysqlStep{
			{server, mysqlSays(3, ""), mysqlSays(2, ""), ""},
			{program, mysqlSays(3, ""), mysqlSays(4, ""), ""},
			{server, mysqlSays(5, ok) + mysqlSays(0, denied), mysqlSays(4, ok) + mysqlSays(0, denied), ""},
			{program, mysqlSays(0, ""), mysqlSays(0, ""), ""},
		}},
		"a command sent ahead": {true, []mysqlStep{
			{program, mysqlSays(0, query) + mysqlSays(0, query), mysqlSays(0, query) + mysqlSays(0, query), ""},
			{server, mysqlSays(3, "\x01\x03") + mysqlSays(4, ok) + mysqlSays(1, ok) + mysqlSays(1, ok),
				mysqlSays(2, "\x01\x03") + mysqlSays(3, ok) + mysqlSays(1, ok) + mysqlSays(1, ok), ""},
		}},
		"a command of more than one packet": {true, []mysqlStep{
			{server, mysqlSays(3, ok), mysqlSays(2, ok), ""},
			{program, "\xff\xff\xff\x00" + query, "\xff\xff\xff\x00" + query, ""},
			{server, mysqlSays(2, ok), mysqlSays(2, ok), ""},
		}},
		"a question for a key, where no password is wanted": {false, []mysqlStep{
			{server, mysqlSays(3, "\x01\x04"), mysqlSays(2, "\x01\x04"), ""},
			{program, mysqlSays(3, "\x02"), mysqlSays(4, "\x02"), ""},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for size := 1; size < 100; size++ {
				f := mysqlAfter(t, mysqlNative)
				talkMySQL(t, f, size, c.steps)
				if f.Done() != c.done {
					t.Errorf("by %d: done: %v", size, f.Done())
				}
			}
		})
	}
}

// talkMySQL has steps go through f in pieces of size.
func talkMySQL(t *testing.T, f Filter, size int, steps []mysqlStep) {
	t.Helper()
	for i, s := range steps {
		var read, back []byte
		for b := []byte(s.said); len(b) > 0; {
			n := min(size, len(b))
			var (
				out, answer []byte
				err         error
			)
			if s.server {
				out, err = f.FromServer(bytes.Clone(b[:n]))
			} else {
				out, answer, err = f.FromProgram(bytes.Clone(b[:n]))
			}
			if err != nil {
				t.Fatalf("step %d by %d: %v", i, size, err)
			}
			read, back, b = append(read, out...), append(back, answer...), b[n:]
		}
		if string(read) != s.read || string(back) != s.back {
			t.Fatalf("step %d by %d: %q became %q, want %q; and back %q, want %q", i, size, s.said, read, s.read, back, s.back)
		}
	}
}

// A server that is asked for its key under TLS takes the question for the password.
func TestMySQLProgramAsksForAKey(t *testing.T) {
	const (
		ok       = "\x00\x00\x00\x02\x00\x00\x00"
		password = "correct horse battery staple\x00"
		nonce    = "abcdefghijklmnopqrst"
		other    = "tsrqponmlkjihgfedcba"
	)
	key, err := mysqlPublicKey()
	if err != nil {
		t.Fatal(err)
	}
	encrypt := func(nonce string) string {
		block, _ := pem.Decode(key)
		public, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		mixed := []byte(password)
		for i := range mixed {
			mixed[i] ^= nonce[i%len(nonce)]
		}
		b, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, public.(*rsa.PublicKey), mixed, nil)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for name, c := range map[string]struct {
		plugin string
		steps  []mysqlStep
	}{
		"caching_sha2_password": {"caching_sha2_password\x00", []mysqlStep{
			{true, mysqlSays(3, "\x01\x04"), mysqlSays(2, "\x01\x04"), ""},
			{false, mysqlSays(3, "\x02"), "", mysqlSays(4, "\x01", string(key))},
			{false, mysqlSays(5, encrypt(nonce)), mysqlSays(4, password), ""},
			{true, mysqlSays(5, ok), mysqlSays(6, ok), ""},
		}},
		"caching_sha2_password, by a switch": {mysqlNative, []mysqlStep{
			{true, mysqlSays(3, "\xfecaching_sha2_password\x00", other, "\x00"), mysqlSays(2, "\xfecaching_sha2_password\x00", other, "\x00"), ""},
			{false, mysqlSays(3, "hash"), mysqlSays(4, "hash"), ""},
			{true, mysqlSays(5, "\x01\x04"), mysqlSays(4, "\x01\x04"), ""},
			{false, mysqlSays(5, "\x02"), "", mysqlSays(6, "\x01", string(key))},
			{false, mysqlSays(7, encrypt(other)), mysqlSays(6, password), ""},
			{true, mysqlSays(7, ok), mysqlSays(8, ok), ""},
		}},
		"sha256_password": {mysqlNative, []mysqlStep{
			{true, mysqlSays(3, "\xfesha256_password\x00", other, "\x00"), mysqlSays(2, "\xfesha256_password\x00", other, "\x00"), ""},
			{false, mysqlSays(3, "\x01"), "", mysqlSays(4, "\x01", string(key))},
			{false, mysqlSays(5, encrypt(other)), mysqlSays(4, password), ""},
			{true, mysqlSays(5, ok), mysqlSays(6, ok), ""},
		}},
		"as it is": {"caching_sha2_password\x00", []mysqlStep{
			{true, mysqlSays(3, "\x01\x04"), mysqlSays(2, "\x01\x04"), ""},
			{false, mysqlSays(3, password), mysqlSays(4, password), ""},
			{true, mysqlSays(5, ok), mysqlSays(4, ok), ""},
		}},
	} {
		for _, size := range []int{1, 5, 1000} {
			t.Run(name, func(t *testing.T) {
				f := mysqlAfter(t, c.plugin)
				talkMySQL(t, f, size, append(c.steps, mysqlStep{false, mysqlSays(0, "\x01"), mysqlSays(0, "\x01"), ""}))
				if !f.Done() {
					t.Error("it is not done")
				}
			})
		}
	}
	for name, words := range map[string][]string{
		"the program has a key of the server's and encrypts its password": {mysqlSays(3, encrypt(nonce))},
		"the program did not encrypt its password as it should":           {mysqlSays(3, "\x02"), mysqlSays(5, "what")},
	} {
		f := mysqlAfter(t, "caching_sha2_password\x00")
		if _, err := f.FromServer([]byte(mysqlSays(3, "\x01\x04"))); err != nil {
			t.Fatal(err)
		}
		var err error
		for _, w := range words {
			var toServer []byte
			if toServer, _, err = f.FromProgram([]byte(w)); len(toServer) > 0 {
				t.Errorf("the server reads %q", toServer)
			}
		}
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v, want %s", err, name)
		}
	}
}

func TestMySQLPacketsOfAuthenticationAreBounded(t *testing.T) {
	f := mysqlAfter(t, mysqlNative)
	if _, err := f.FromServer([]byte("\x00\x00\x7f\x03")); err == nil || !strings.Contains(err.Error(), "the server sent a packet of 8323076 bytes instead") {
		t.Errorf("error %v", err)
	}
	if _, _, err := f.FromProgram([]byte("\x00\x00\x7f\x03")); err == nil || !strings.Contains(err.Error(), "the program sent a packet of 8323076 bytes instead") {
		t.Errorf("error %v", err)
	}
}

func FuzzMySQL(f *testing.F) {
	fuzzAsk(f, "mysql", mysqlGood, mysqlSays(0, "\xff\x69\x04Host"), mysqlSays(0, mysqlHead, mysqlLow, mysqlMiddle, "\x00\x00", mysqlNonces))
}

func FuzzMySQLAnswer(f *testing.F) {
	f.Add([]byte(mysqlGood), []byte(mysqlSays(1, mysqlFlags, mysqlSizes, mysqlFiller, mysqlUser)))
	f.Add([]byte(mysqlGood), []byte(mysqlSays(1, mysqlTLS, mysqlSizes, mysqlFiller)))
	f.Fuzz(func(t *testing.T, server, program []byte) {
		_, toServer, toProgram, _, err := askMySQL(string(server), string(program), io.EOF)
		if len(toServer) != 0 && len(toServer) != mysqlHeaderLen+mysqlRequestLen {
			t.Errorf("the server reads %q before TLS", toServer)
		}
		if n := len(toProgram); n > mysqlMaxGreeting || err == nil && n == 0 {
			t.Errorf("the program reads %d bytes", n)
		}
		if toProgram != "" {
			if _, e := parseMySQLGreeting([]byte(toProgram)); e == nil || !strings.Contains(e.Error(), "CLIENT_SSL") {
				t.Errorf("the program reads %q: %v", toProgram, e)
			}
		}
	})
}

func FuzzMySQLFilter(f *testing.F) {
	f.Add([]byte(mysqlSays(3, "\x02")+mysqlSays(0, "\x03x")), []byte(mysqlSays(3, "\x01\x04")+mysqlSays(5, "\x00\x00")), byte(3))
	f.Add([]byte(mysqlSays(3, "\x01")+mysqlSays(5, "x")), []byte(mysqlSays(3, "\xfesha256_password\x00abcdefghijabcdefghij\x00")), byte(50))
	f.Fuzz(func(t *testing.T, program, server []byte, piece byte) {
		filter := newMySQLFilter(&Dialogue{notes: &mysqlTalk{greeting: mysqlGreeting{plugin: "caching_sha2_password"}}}).(*mysqlFilter)
		var read, written int
		for size := int(piece) + 1; len(program)+len(server) > 0; {
			n := min(size, len(server))
			toProgram, err := filter.FromServer(server[:n])
			if err != nil {
				return
			}
			server, read, written = server[n:], read+n, written+len(toProgram)
			n = min(size, len(program))
			toServer, _, err := filter.FromProgram(program[:n])
			if err != nil {
				return
			}
			program, read, written = program[n:], read+n, written+len(toServer)
			if held := len(filter.program) + len(filter.server); filter.ahead == 1 && read-written != held {
				t.Errorf("%d bytes became %d, and %d are held", read, written, held)
			}
			if filter.Done() && len(filter.program)+len(filter.server) > 0 {
				t.Error("it is done and holds something back")
			}
		}
	})
}
