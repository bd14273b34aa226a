package starttls

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
)

// spoken is a server that has said all that it will say, whatever it is told. Then the
// connection ends in end.
type spoken struct {
	words []byte
	end   error
	heard bytes.Buffer
}

func (s *spoken) Read(b []byte) (int, error) {
	if len(s.words) == 0 {
		return 0, s.end
	}
	n := copy(b, s.words)
	s.words = s.words[n:]
	return n, nil
}

func (s *spoken) Write(b []byte) (int, error) { return s.heard.Write(b) }
func (s *spoken) Ahead() []byte               { return s.words }

// askTest is a dialogue: what the server says, what the worker says, and the error.
type askTest struct {
	name, server, worker, want string
	end                        error // io.EOF where it is nil
}

// testAsk has dialogues with the protocol name.
func testAsk(t *testing.T, name string, tests []askTest) {
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := &spoken{words: []byte(test.server), end: test.end}
			if s.end == nil {
				s.end = io.EOF
			}
			d := &Dialogue{Host: "server.example", Local: netip.MustParseAddr("192.0.2.1")}
			err := d.Ask(s, Of(name))
			var fault *Error
			switch {
			case err == nil && test.want != "":
				t.Errorf("no error, want %s", test.want)
			case err != nil && (test.want == "" || !strings.Contains(err.Error(), test.want)):
				t.Errorf("error %v, want %s", err, test.want)
			case err != nil && !errors.As(err, &fault):
				t.Errorf("error of type %T", err)
			}
			if got := s.heard.String(); test.worker != "" && got != test.worker {
				t.Errorf("the worker said %q, want %q", got, test.worker)
			}
		})
	}
}

// fuzzAsk makes sure that whatever a server says the dialogue ends, within its bounds.
func fuzzAsk(f *testing.F, name string, seeds ...string) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, words []byte) {
		s := &spoken{words: words, end: io.EOF}
		d := &Dialogue{Host: "server.example", Local: netip.MustParseAddr("192.0.2.1")}
		if err := d.Ask(s, Of(name)); err == nil && len(s.words) > 0 {
			t.Errorf("%q were left in front of the handshake", s.words)
		}
		if read := len(words) - len(s.words); read > maxDialogue+1 {
			t.Errorf("it read %d bytes", read)
		}
		if s.heard.Len() > 4<<10 {
			t.Errorf("it said %d bytes", s.heard.Len())
		}
	})
}

func TestFTPAsksForTLS(t *testing.T) {
	long := strings.Repeat("x", maxLine+1)
	testAsk(t, "ftp", []askTest{
		{name: "good", server: "220 hi\r\n234 go\r\n", worker: "AUTH TLS\r\n"},
		{name: "lines", server: "220-hi\r\n220 \tis not the end of 120\r\n234-\r\n230 x\r\n234 go\r\n", worker: "AUTH TLS\r\n",
			want: ""},
		{name: "free lines", server: "220-hi\r\nfree text\r\n 220 text\r\n220 there\r\n234 go\r\n"},
		{name: "soon", server: "120 soon\r\n220 hi\r\n234 go\r\n"},
		{name: "bare line feeds", server: "220 hi\n234 go\n"},
		{name: "busy", server: "421-too\r\n421 many\r\n", worker: "", want: `it said "421-too"`},
		{name: "refused", server: "220 hi\r\n534 no\r\n", want: `the server did not send the go-ahead for TLS: it said "534 no"`},
		{name: "unknown", server: "220 hi\r\n500 AUTH?\r\n", want: `it said "500 AUTH?"`},
		{name: "extra", server: "220 hi\r\n234 go\r\n230 in\r\n", want: `said more than it may before TLS: "230 in"`},
		{name: "silent", end: os.ErrDeadlineExceeded, want: "the server did not send a greeting in time"},
		{name: "silent later", server: "220 hi\r\n", end: os.ErrDeadlineExceeded, want: "the server did not send the go-ahead for TLS in time"},
		{name: "closed", want: "closed the connection instead of sending a greeting"},
		{name: "closed within a line", server: "220 h", want: `, after "220 h"`},
		{name: "long line", server: "220 " + long, want: "a line of more than 8192 bytes"},
		{name: "no end", server: "220-" + strings.Repeat("220-\r\n", maxDialogue/6), end: os.ErrDeadlineExceeded, want: "more than 65536 bytes"},
		{name: "soon for ever", server: strings.Repeat("120 soon\r\n", maxDialogue/10+1), want: "more than 65536 bytes"},
		{name: "unprintable", server: "\x1b[2J\x00\r\n", want: `it said ".[2J."`},
	})
}

func FuzzFTP(f *testing.F) {
	fuzzAsk(f, "ftp", "220 hi\r\n234 go\r\n", "220-hi\r\n220 \r\n234-\r\n234 go\r\n", "120 \r\n", "220 hi\r\n502 no\r\n")
}

func TestFTPHasDataConnectionsProtected(t *testing.T) {
	for server, want := range map[string]string{
		"200 ok\r\n200 ok\r\n":         "",
		"200-PBSZ=0\r\n200 \r\n200 \n": "",
		"200 ok\r\n534 no\r\n":         `the server did not send its agreement to TLS on data connections: it said "534 no"`,
		"503 no\r\n":                   `the server did not send the answer to PBSZ: it said "503 no"`,
	} {
		s := &spoken{words: []byte(server), end: io.EOF}
		err := (&Dialogue{}).Run(s, ftp.Secured)
		if (err == nil) != (want == "") || (err != nil && err.Error() != want) {
			t.Errorf("%q: %v, want %q", server, err, want)
		}
		if got := s.heard.String(); want == "" && got != "PBSZ 0\r\nPROT P\r\n" {
			t.Errorf("the worker said %q", got)
		}
	}
}

// ftpTalk is a filter and what it did.
type ftpTalk struct {
	filter   Filter
	expected []uint16
	warnings int
}

func newFTPTalk(peer string) *ftpTalk {
	talk := &ftpTalk{}
	talk.filter = ftp.NewFilter(&Dialogue{
		Host: "server.example", Peer: netip.MustParseAddr(peer),
		Expect: func(port uint16) { talk.expected = append(talk.expected, port) },
		Warn:   func(string) { talk.warnings++ },
	})
	return talk
}

func TestFTPPassiveAddresses(t *testing.T) {
	const peer4, peer6 = "198.18.0.1", "2001:2::1"
	for _, test := range []struct {
		peer, server, program string
		port                  uint16
	}{
		{peer4, "227 Entering Passive Mode (10,0,0,1,4,1).\r\n", "227 Entering Passive Mode (198,18,0,1,4,1).\r\n", 1025},
		{peer4, "227 =10,0,0,1,255,255\r\n", "227 Entering Passive Mode (198,18,0,1,255,255).\r\n", 65535},
		{peer4, "227-wait\r\n227 (1,2,3,4,4,1)\r\n", "227 Entering Passive Mode (198,18,0,1,4,1).\r\n", 1025},
		{peer4, "227 Entering Passive Mode (10,0,0,1,4,256)\r\n", "425 tlswrap does not understand the server's passive address.\r\n", 0},
		{peer4, "227 what\r\n", "425 tlswrap does not understand the server's passive address.\r\n", 0},
		{peer6, "227 (10,0,0,1,4,1)\r\n", "425 tlswrap: PASV has no IPv6 addresses: use EPSV.\r\n", 0},
		{peer6, "229 Extended Passive (|||1025|)\r\n", "229 Entering Extended Passive Mode (|||1025|)\r\n", 1025},
		{peer4, "229 (!!!65535!)\r\n", "229 Entering Extended Passive Mode (|||65535|)\r\n", 65535},
		{peer4, "229 (|||65536|)\r\n", "425 tlswrap does not understand the server's passive address.\r\n", 0},
		{peer4, "229 (|||0|)\r\n", "425 tlswrap does not understand the server's passive address.\r\n", 0},
		{peer4, "228 (4,4,1,2,3,4,2,4,1)\r\n", "425 tlswrap does not understand the server's passive address.\r\n", 0},
	} {
		talk := newFTPTalk(test.peer)
		talk.filter.FromProgram([]byte("PASV\r\n"))
		program, err := talk.filter.FromServer([]byte(test.server))
		if err != nil || string(program) != test.program {
			t.Errorf("%q became %q (%v), want %q", test.server, program, err, test.program)
		}
		if (test.port == 0) != (len(talk.expected) == 0) || (test.port != 0 && talk.expected[0] != test.port) {
			t.Errorf("%q: expected %d, want %d", test.server, talk.expected, test.port)
		}
	}
}

// A server cannot have a program's connections to a port taken for its own.
func TestFTPPassiveAddressThatNobodyAskedFor(t *testing.T) {
	for _, asked := range []string{"", "NOOP\r\n"} {
		talk := newFTPTalk("198.18.0.1")
		talk.filter.FromProgram([]byte(asked))
		program, err := talk.filter.FromServer([]byte("227 (10,0,0,1,4,1)\r\n"))
		if err != nil || string(program) != "425 tlswrap: nobody has asked for this.\r\n" || len(talk.expected) > 0 {
			t.Errorf("after %q: %q, %v, expected %d", asked, program, err, talk.expected)
		}
	}
}

func TestFTPPassiveAddressInPieces(t *testing.T) {
	talk := newFTPTalk("198.18.0.1")
	talk.filter.FromProgram([]byte("EPSV\r\n"))
	var program []byte
	for _, b := range []byte("227 Entering Passive Mode (10,0,0,1,4,1).\r\n150 go\r\n") {
		words, err := talk.filter.FromServer([]byte{b})
		if err != nil {
			t.Fatal(err)
		}
		program = append(program, words...)
	}
	if want := "227 Entering Passive Mode (198,18,0,1,4,1).\r\n150 go\r\n"; string(program) != want || len(talk.expected) != 1 {
		t.Errorf("%q, %d", program, talk.expected)
	}
}

// exchange is one side's words and what became of them.
type exchange struct {
	program bool // they are the program's
	words   string
	server  string // reads this
	answer  string // the program reads this
}

func TestFTPFilterAnswersInTurn(t *testing.T) {
	const unknown = "502 Command not implemented.\r\n"
	for name, exchanges := range map[string][]exchange{
		"one by one": {
			{true, "AUTH TLS\r\n", "", unknown},
			{true, "pbsz 0\r\n", "", unknown},
			{true, "USER u\r\n", "USER u\r\n", ""},
			{false, "331 and?\r\n", "", "331 and?\r\n"},
			{true, "\xff\xf4\xff\xf2PORT 1,2,3,4,5,6\r\n", "", ftpActive},
			{true, "REIN\r\n", "", unknown},
		},
		"in pieces": {
			{true, "AU", "", ""}, {true, "TH TLS\r\nUSER", "", unknown}, {true, " u\r\n", "USER u\r\n", ""},
		},
		"ahead": {
			{true, "USER u\r\nAUTH TLS\r\nPORT 1\r\nPASS p\r\n", "USER u\r\nPASS p\r\n", ""},
			{false, "331-\r\n331 more\r\n", "", "331-\r\n331 more\r\n" + unknown + ftpActive},
			{true, "CCC\r\n", "", ""},
			{false, "230 in\r\n", "", "230 in\r\n" + unknown},
		},
		"during a transfer": {
			{true, "RETR x\r\nEPRT |1|1.2.3.4|5|\r\n", "RETR x\r\n", ""},
			{false, "150 go\r\n", "", "150 go\r\n"},
			{false, "226 done\r\n", "", "226 done\r\n" + ftpActive},
		},
		"features": {
			{true, "FEAT\r\n", "FEAT\r\n", ""},
			{false, "211-Features:\r\n AUTH SSL;TLS\r\n EPRT\r\n EPSV\r\n PBSZ\r\n PROT\r\n UTF8\r\n211 End\r\n", "", "211-Features:\r\n EPSV\r\n UTF8\r\n211 End\r\n"},
			{true, "STAT\r\n", "STAT\r\n", ""},
			{false, "211-Status\r\n PORT 1\r\n211 End\r\n", "", "211-Status\r\n PORT 1\r\n211 End\r\n"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			talk := newFTPTalk("198.18.0.1")
			for _, e := range exchanges {
				var server, program []byte
				var err error
				if e.program {
					server, program, err = talk.filter.FromProgram([]byte(e.words))
				} else {
					program, err = talk.filter.FromServer([]byte(e.words))
				}
				if err != nil || string(server) != e.server || string(program) != e.answer {
					t.Errorf("%q: the server reads %q, the program %q (%v)", e.words, server, program, err)
				}
			}
		})
	}
}

func TestFTPFilterIsBounded(t *testing.T) {
	talk := newFTPTalk("198.18.0.1")
	if _, err := talk.filter.FromServer(bytes.Repeat([]byte("x"), maxLine+1)); err == nil {
		t.Error("a line without an end was no error")
	}
	if _, _, err := newFTPTalk("198.18.0.1").filter.FromProgram(bytes.Repeat([]byte("NOOP\r\n"), maxAsked+1)); err == nil {
		t.Error("too many commands ahead were no error")
	}
	talk = newFTPTalk("198.18.0.1")
	if _, err := talk.filter.FromServer(append([]byte("227-\r\n"), bytes.Repeat([]byte("x\r\n"), maxLine)...)); err == nil {
		t.Error("a passive address without an end was no error")
	}
}

// Whatever is said, no address reaches the program that was not announced first, and
// nothing the server that is refused.
func FuzzFTPFilter(f *testing.F) {
	f.Add([]byte("PASV\r\nPORT 1\r\n"), []byte("227 (1,2,3,4,5,6)\r\n229 (|||77|)\r\n"), byte(3))
	f.Add([]byte("FEAT\r\nAUTH TLS\r\n"), []byte("211-\r\n AUTH TLS\r\n211 \r\n"), byte(100))
	passive := regexp.MustCompile(`(?m)^22[789]`)
	f.Fuzz(func(t *testing.T, program, server []byte, piece byte) {
		talk := newFTPTalk("198.18.0.1")
		size := int(piece) + 1
		var toServer, toProgram []byte
		for len(program)+len(server) > 0 {
			n := min(size, len(program))
			s, _, err := talk.filter.FromProgram(program[:n])
			if err != nil {
				return
			}
			program, toServer = program[n:], append(toServer, s...)
			n = min(size, len(server))
			p, err := talk.filter.FromServer(server[:n])
			if err != nil {
				return
			}
			server, toProgram = server[n:], append(toProgram, p...)
		}
		if n := len(ftpPassive().FindAll(toProgram, -1)); n > 0 && len(passive.FindAll(toProgram, -1)) > 0 && len(talk.expected) == 0 {
			t.Errorf("the program reads %q, and nothing was announced", toProgram)
		}
		for line := range bytes.Lines(toServer) {
			if ftpRefused[ftpVerb(line)] != "" {
				t.Errorf("the server reads %q", line)
			}
		}
	})
}
