package starttls

import (
	"os"
	"strings"
	"testing"
)

func TestIRCAsksForTLS(t *testing.T) {
	const notice = ":irc.example NOTICE * :*** Looking up your hostname...\r\n"
	testAsk(t, "irc", []askTest{
		{name: "good", server: ":irc.example 670 * :STARTTLS successful\r\n", worker: "STARTTLS\r\n"},
		{name: "notices", server: notice + "NOTICE AUTH :*** x\r\n" + notice + "@time=1 :irc.example 670 * :go\r\n"},
		{name: "refused", server: notice + ":irc.example 691 * :no\r\n", want: `the server refused TLS: it said ":irc.example 691 * :no"`},
		{name: "unknown", server: ":irc.example 421 * STARTTLS :Unknown command\r\n", want: "421 * STARTTLS"},
		{name: "not registered", server: ":irc.example 451 * :You have not registered\r\n", want: "451 * :You"},
		{name: "banned", server: "ERROR :Closing link\r\n", want: `it said "ERROR :Closing link"`},
		{name: "empty", server: "\r\n", want: `it said ""`},
		{name: "prefix alone", server: ":670\r\n", want: `it said ":670"`},
		{name: "extra", server: ":a 670 * :go\r\n" + notice, want: "more than it may before TLS"},
		{name: "silent", server: notice, end: os.ErrDeadlineExceeded, want: "the server did not send the go-ahead for TLS in time"},
		{name: "closed", want: "closed the connection instead of sending the go-ahead"},
		{name: "notices for ever", server: strings.Repeat(notice, maxDialogue/len(notice)+1), want: "more than 65536 bytes"},
		{name: "long line", server: strings.Repeat("x", maxLine+1), want: "a line of more than 8192 bytes"},
	})
}

func FuzzIRC(f *testing.F) {
	fuzzAsk(f, "irc", ":a 670 * :go\r\n", ":a NOTICE * :b\r\n@c :a 691 d\r\n", ": \r\n", "\t\r\n")
}
