package starttls

import (
	"os"
	"strings"
	"testing"

	"tlswrap/rules"
)

func TestEveryProtocolOfTheRulesHasADialogue(t *testing.T) {
	for _, name := range rules.StartTLSProtocols {
		if Of(name) == nil {
			t.Errorf("%s has none", name)
		}
	}
	if len(protocols) != len(rules.StartTLSProtocols) {
		t.Errorf("there are %d dialogues, and the rules know %d", len(protocols), len(rules.StartTLSProtocols))
	}
}

// endings are what every dialogue of lines must come to an end with. good is a whole one.
// The rules refuse what cannot be: TLS at once where the filter is needed, or an ALPN; a
// program's own TLS where it has read something before.
func TestRulesKnowWhatProtocolsNeed(t *testing.T) {
	refuses := func(name, line string) bool {
		_, err := rules.Parse("f", []byte("[[rule]]\nhost = \"a\"\nstarttls = \""+name+"\"\n"+line+"\n"))
		return err != nil
	}
	for name, p := range protocols {
		if got, want := refuses(name, "tls_port = 1"), p.NewFilter != nil || p.ALPN != nil; got != want {
			t.Errorf("%s with tls_port: refused %v, want %v", name, got, want)
		}
		// MySQL's program reads the server's own greeting, and so does ManageSieve's.
		first := p.Greeting != nil || p.Refusal != nil || name == "sieve"
		if got := refuses(name, "client_tls = \"pass\""); got != first {
			t.Errorf("%s with client_tls: refused %v, want %v", name, got, first)
		}
	}
}

func endings(good string) []askTest {
	first, _, _ := strings.Cut(good, "\n")
	return []askTest{
		{name: "silent", end: os.ErrDeadlineExceeded, want: "in time"},
		{name: "silent later", server: first + "\n", end: os.ErrDeadlineExceeded, want: "in time"},
		{name: "closed", want: "the server closed the connection instead of sending"},
		{name: "closed within a line", server: good[:3], want: "after "},
		{name: "extra", server: good + "injected\r\n", want: `said more than it may before TLS: "injected"`},
		{name: "long line", server: strings.Repeat("x", maxLine+1), want: "a line of more than 8192 bytes"},
		{name: "unprintable", server: "\x1b[2J\r\n", want: `".[2J"`},
	}
}

func TestSMTPAsksForTLS(t *testing.T) {
	const good = "220-hi\r\n220 there\r\n250-x\r\n250-STARTTLS\r\n250 y\r\n220 go\r\n"
	testAsk(t, "smtp", append(endings(good), []askTest{
		{name: "good", server: good},
		{name: "small letters", server: "220 x\r\n250 starttls\r\n220 go\r\n"},
		{name: "not offered", server: "220 x\r\n250-STARTTLSX\r\n250 y\r\n", want: "does not offer STARTTLS"},
		{name: "refused", server: "220 x\r\n250 STARTTLS\r\n454 not now\r\n", want: `did not send the go-ahead for TLS: it said "454 not now"`},
		{name: "busy", server: "421 no\r\n", want: `did not send a greeting: it said "421 no"`},
		{name: "no end", server: "220-" + strings.Repeat("220-\r\n", maxDialogue/6), end: os.ErrDeadlineExceeded, want: "more than 65536 bytes"},
	}...))
}

func TestIMAPAsksForTLS(t *testing.T) {
	const good = "* OK hi\r\ntlswrap OK go\r\n"
	testAsk(t, "imap", append(endings(good), []askTest{
		{name: "good", server: good, worker: "tlswrap STARTTLS\r\n"},
		{name: "untagged", server: "* OK hi\r\n* CAPABILITY x\r\ntlswrap ok go\r\n"},
		{name: "authenticated", server: "* PREAUTH hi\r\n", want: `did not send a greeting: it said "* PREAUTH hi"`},
		{name: "bye", server: "* BYE\r\n", want: `"* BYE"`},
		{name: "refused", server: "* OK hi\r\ntlswrap BAD what\r\n", want: `"tlswrap BAD what"`},
		{name: "other tag", server: "* OK hi\r\na OK go\r\n", want: `"a OK go"`},
	}...))
}

func TestPOP3AsksForTLS(t *testing.T) {
	const good = "+OK <1@x>\r\n+OK go\r\n"
	testAsk(t, "pop3", append(endings(good), []askTest{
		{name: "good", server: good, worker: "STLS\r\n"},
		{name: "refused", server: "+OK\r\n-ERR no\r\n", want: `did not send the go-ahead for TLS: it said "-ERR no"`},
	}...))
}

func TestNNTPAsksForTLS(t *testing.T) {
	const good = "200 hi\r\n382 go\r\n"
	testAsk(t, "nntp", append(endings(good), []askTest{
		{name: "good", server: good, worker: "STARTTLS\r\n"},
		{name: "no posting", server: "201 hi\r\n382 go\r\n"},
		{name: "refused", server: "200 hi\r\n580 no\r\n", want: `"580 no"`},
	}...))
}

func TestSieveAsksForTLS(t *testing.T) {
	const good = "\"IMPLEMENTATION\" \"x\"\r\n\"STARTTLS\"\r\nOK \"ready\"\r\nOK \"go\"\r\n"
	testAsk(t, "sieve", append(endings(good), []askTest{
		{name: "good", server: good, worker: "STARTTLS\r\n"},
		{name: "not offered", server: "\"SASL\" \"PLAIN\"\r\nOK\r\n", want: "does not offer STARTTLS"},
		{name: "refused", server: "\"STARTTLS\"\r\nOK\r\nNO \"no\"\r\n", want: `it said "NO \"no\""`},
	}...))
}

func FuzzSMTP(f *testing.F)  { fuzzAsk(f, "smtp", "220 x\r\n250 STARTTLS\r\n220 go\r\n") }
func FuzzIMAP(f *testing.F)  { fuzzAsk(f, "imap", "* OK hi\r\ntlswrap OK go\r\n") }
func FuzzPOP3(f *testing.F)  { fuzzAsk(f, "pop3", "+OK\r\n+OK\r\n") }
func FuzzNNTP(f *testing.F)  { fuzzAsk(f, "nntp", "200 hi\r\n382 go\r\n") }
func FuzzSieve(f *testing.F) { fuzzAsk(f, "sieve", "\"STARTTLS\"\r\nOK\r\nOK\r\n") }
