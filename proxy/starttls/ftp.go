package starttls

import (
	"bytes"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"tlswrap/proxy/quote"
)

// FTP: RFC 4217. A server greets once, so the greeting is made anew. Data connections in
// passive mode get TLS too; in active mode the server would connect to the program, past
// the worker, so that is refused.
var (
	ftp = Protocol{
		Ask:       ftpAsk,
		Secured:   ftpSecured,
		Greeting:  func(d *Dialogue) string { return "220 " + d.Host + " FTP\r\n" },
		NewFilter: func(d *Dialogue) Filter { return &ftpFilter{dialogue: d} },
		Data:      &ftpData,
	}

	// The server begins TLS on a data connection when it was told what to transfer (RFC
	// 4217, section 7), and the program tells it that once it is connected.
	ftpData = Protocol{Ask: func(d *Dialogue) error {
		_, err := d.Open()
		return err
	}}
)

func ftpAsk(d *Dialogue) error {
	if err := d.ftp("", "a greeting", "220"); err != nil {
		return err
	}
	return d.ftp("AUTH TLS", "the go-ahead for TLS", "234")
}

// ftpSecured has data connections protected (RFC 4217, section 9).
func ftpSecured(d *Dialogue) error {
	if err := d.ftp("PBSZ 0", "the answer to PBSZ", "200"); err != nil {
		return err
	}
	return d.ftp("PROT P", "its agreement to TLS on data connections", "200")
}

// ftp sends a command, unless it is empty, and reads the reply (RFC 959, section 4.2),
// which has to have the code want.
func (d *Dialogue) ftp(command, what, want string) error {
	if command != "" {
		if err := d.say(command); err != nil {
			return err
		}
	}
	d.expect(what)
	var reply ftpReply
	for {
		line, err := d.line()
		if err != nil {
			return err
		}
		switch end := reply.next(line); {
		case !reply.preliminary() && reply.code != want:
			return errorf("the server did not send %s: it said %s", what, quote.Line([]byte(line)))
		case end && !reply.preliminary():
			return nil
		}
	}
}

// ftpReply follows the lines of replies: in one of several lines the first has a hyphen
// after the code, and the last the same code and a space (RFC 959, section 4.2).
type ftpReply struct {
	code   string // of the reply that the last line belongs to
	within bool   // it goes on
}

// next takes a line, and reports whether it is its reply's last.
func (r *ftpReply) next(line string) bool {
	if !r.within {
		r.code = line[:min(len(line), 3)]
		r.within = len(line) > 3 && line[3] == '-'
	} else if line == r.code || strings.HasPrefix(line, r.code+" ") {
		r.within = false
	}
	return !r.within
}

// preliminary reports whether another reply to the same command follows.
func (r *ftpReply) preliminary() bool { return strings.HasPrefix(r.code, "1") }

// ftpFilter answers for the server where a program asks for what it has already, or for
// data connections that could not be protected, and announces those that can.
type ftpFilter struct {
	dialogue        *Dialogue
	program, server partial // what has come of a line that is not whole
	warned          bool    // of active mode

	mu    sync.Mutex
	asked []ftpAsked // that the server has not answered, or that wait for it to answer
	reply ftpReply
	text  []byte // of the reply that a passive address is in
}

// ftpAsked is one command of the program's.
type ftpAsked struct {
	verb   string
	answer string // that the program reads once it is its turn; "": the server's
}

// maxAsked bounds the commands that a program may send ahead.
const maxAsked = 1000

const (
	ftpUnknown = "502 Command not implemented.\r\n"
	ftpActive  = "502 tlswrap cannot protect active mode: use passive mode.\r\n"
)

// ftpRefused are the commands that the server does not get: those of RFC 2228 and 4217,
// active mode, what takes TLS away (RFC 4217, sections 5 and 13), and passive modes whose
// answers are not understood here.
var ftpRefused = map[string]string{
	"AUTH": ftpUnknown, "PBSZ": ftpUnknown, "PROT": ftpUnknown, "CCC": ftpUnknown, "ADAT": ftpUnknown,
	"MIC": ftpUnknown, "CONF": ftpUnknown, "ENC": ftpUnknown, "REIN": ftpUnknown,
	"CPSV": ftpUnknown, "SSCN": ftpUnknown, "LPSV": ftpUnknown, "SPSV": ftpUnknown,
	"PORT": ftpActive, "EPRT": ftpActive, "LPRT": ftpActive,
}

func (f *ftpFilter) Done() bool { return false }

// Over implements Farewell: 221 and 421 announce the end (RFC 959, section 5.4).
func (f *ftpFilter) Over() bool {
	return !f.reply.within && (f.reply.code == "221" || f.reply.code == "421")
}

func (f *ftpFilter) FromProgram(b []byte) (toServer, toProgram []byte, err error) {
	lines, err := f.program.lines("the program", b)
	if err != nil {
		return nil, nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, line := range lines {
		verb := ftpVerb(line)
		answer := ftpRefused[verb]
		if answer == ftpActive && f.dialogue.Warn != nil && !f.warned {
			f.warned = true
			f.dialogue.Warn("the program asked for a data connection in active mode, which would come without TLS: refused; have it use passive mode")
		}
		switch {
		case answer == "":
			toServer = append(toServer, line...)
			if verb == "" {
				continue // no command
			}
		case len(f.asked) == 0:
			toProgram = append(toProgram, answer...)
			continue
		}
		if len(f.asked) == maxAsked {
			return nil, nil, errorf("the program sent %d commands ahead", maxAsked)
		}
		f.asked = append(f.asked, ftpAsked{verb, answer})
	}
	return toServer, toProgram, nil
}

// ftpVerb is the word that a command begins with. Telnet's codes may come before it (RFC
// 959, section 4.1.3, ABOR).
func ftpVerb(line []byte) string {
	letter := func(r rune) bool { return 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z' }
	start := max(0, bytes.IndexFunc(line, letter))
	rest := line[start:]
	if end := bytes.IndexFunc(rest, func(r rune) bool { return !letter(r) }); end >= 0 {
		rest = rest[:end]
	}
	return strings.ToUpper(string(rest))
}

func (f *ftpFilter) FromServer(b []byte) (toProgram []byte, err error) {
	lines, err := f.server.lines("the server", b)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, line := range lines {
		end := f.reply.next(strings.TrimRight(string(line), "\r\n"))
		switch {
		case f.reply.code == "227", f.reply.code == "228", f.reply.code == "229":
			if len(f.text)+len(line) > maxLine {
				return nil, errorf("the server sent a passive address of more than %d bytes", maxLine)
			}
			if f.text = append(f.text, line...); end {
				toProgram = append(toProgram, f.passive(f.reply.code, f.text)...)
				f.text = nil
			}
		case !end && len(f.asked) > 0 && f.asked[0].verb == "FEAT" && ftpRefused[ftpVerb(line)] != "":
			// A server without TLS has no such features (RFC 4217, section 6).
		default:
			toProgram = append(toProgram, line...)
		}
		if end && !f.reply.preliminary() {
			toProgram = append(toProgram, f.answered()...)
		}
	}
	return toProgram, nil
}

// answered takes the command that the server has answered off the list, and returns the
// answers to those whose turn it is now.
func (f *ftpFilter) answered() (answers []byte) {
	for i := 0; len(f.asked) > 0 && (i == 0 || f.asked[0].answer != ""); i++ {
		answers = append(answers, f.asked[0].answer...)
		f.asked = f.asked[1:]
	}
	return answers
}

// They are compiled where they are needed: every start of a program would wait for that.
var (
	ftpPassive  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\d+,\d+,\d+,\d+,(\d+),(\d+)`) }) // RFC 959, section 4.1.2
	ftpExtended = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\(\D\D\D(\d+)\D\)`) })           // RFC 2428, section 3
)

// passive announces the port that the program is about to connect to, and only then lets
// it know. The address is made the one that the program knows the server by: the server
// may have another behind its router, and whom the program connects to is not for the
// server to say.
func (f *ftpFilter) passive(code string, text []byte) string {
	host, port := f.dialogue.Peer, passivePort(code, text)
	switch {
	case !slices.ContainsFunc(f.asked, func(a ftpAsked) bool { return a.verb == "PASV" || a.verb == "EPSV" }):
		return "425 tlswrap: nobody has asked for this.\r\n"
	case port == 0:
		return "425 tlswrap does not understand the server's passive address.\r\n"
	case code == "227" && !host.Is4():
		return "425 tlswrap: PASV has no IPv6 addresses: use EPSV.\r\n"
	}
	f.dialogue.Expect(port)
	if code == "229" {
		return fmt.Sprintf("229 Entering Extended Passive Mode (|||%d|)\r\n", port)
	}
	return fmt.Sprintf("227 Entering Passive Mode (%s,%d,%d).\r\n", commas(host), port>>8, port&0xff)
}

// passivePort returns the port of a server's passive address, or 0.
func passivePort(code string, text []byte) uint16 {
	var numbers [][]byte
	bits := 16
	switch code {
	case "227":
		numbers, bits = ftpPassive().FindSubmatch(text), 8
	case "229":
		numbers = ftpExtended().FindSubmatch(text)
	}
	var port uint64
	for i, digits := range numbers {
		if i == 0 {
			continue // the whole match
		}
		n, err := strconv.ParseUint(string(digits), 10, bits)
		if err != nil {
			return 0
		}
		port = port<<bits | n
	}
	return uint16(port)
}

func commas(ip netip.Addr) string { return strings.ReplaceAll(ip.String(), ".", ",") }

// partial is a line that is not whole yet.
type partial []byte

// lines returns the lines, with their ends, that b makes whole.
func (p *partial) lines(who string, b []byte) ([][]byte, error) {
	lines := bytes.SplitAfter(append(*p, b...), []byte("\n"))
	last := len(lines) - 1
	if len(lines[last]) > maxLine {
		return nil, errorf("%s sent a line of more than %d bytes: %s", who, maxLine, quote.Line(lines[last]))
	}
	*p = bytes.Clone(lines[last])
	return lines[:last], nil
}
