package serving

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/upstream"
)

const (
	sslRequest = "\x00\x00\x00\x08\x04\xd2\x16\x2f"
	gssRequest = "\x00\x00\x00\x08\x04\xd2\x16\x30"
)

// asked has a client say words, each once the answer to those before has come, to a
// service that answers requests for TLS. It returns the answers, what was left for the
// handshake, and how it ended.
func asked(t testing.TB, words ...string) (answers, left string, err error) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	up, err := upstream.New(fds[0])
	if err != nil {
		t.Fatal(err)
	}
	client, err := upstream.New(fds[1])
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	said := make(chan string)
	go func() {
		var got []byte
		for i, w := range words {
			b := make([]byte, 1)
			if i > 0 {
				if n, _ := (client.Plain()).Read(b); n == 0 {
					break
				}
				got = append(got, b[0])
			}
			client.Write([]byte(w))
		}
		client.CloseWrite()
		rest, _ := io.ReadAll(client.Plain())
		said <- string(append(got, rest...))
	}()
	up.SetDeadline(time.Now().Add(20 * time.Second))
	err = (&Client{up: up}).answerSSLRequest()
	left = string(up.Ahead())
	up.Close()
	return <-said, left, err
}

func TestClientsOfPostgreSQLAskForTLS(t *testing.T) {
	const hello = "\x16\x03\x01"
	startup := "\x00\x00\x00\x10\x00\x03\x00\x00user\x00u\x00\x00"
	for name, c := range map[string]struct {
		words               []string
		answers, left, want string
	}{
		"not PostgreSQL's":   {words: []string{hello}, left: hello},
		"nothing":            {words: []string{""}},
		"SSLRequest":         {words: []string{sslRequest, hello}, answers: "S"},
		"GSSENCRequest":      {words: []string{gssRequest, sslRequest, hello}, answers: "NS"},
		"GSSENCRequest, TLS": {words: []string{gssRequest, hello}, answers: "N", left: hello},
		"again":              {words: []string{gssRequest, gssRequest, sslRequest}, answers: "NN", want: "again and again"},
		"injected":           {words: []string{sslRequest + hello}, want: "said more than it may before TLS"},
		"injected after GSS": {words: []string{gssRequest + sslRequest}, want: "said more than it may before TLS"},
		"no TLS":             {words: []string{startup}, answers: string(pgRefusal), want: "PostgreSQL's protocol without TLS"},
		"no TLS, cut short":  {words: []string{startup[:12]}, want: "EOF"},
		"no TLS, long":       {words: []string{"\x00\x00\x27\x11" + startup[4:]}, want: "the client does not speak TLS"},
		"no TLS, short":      {words: []string{"\x00\x00\x00\x07" + startup[4:]}, want: "the client does not speak TLS"},
		"cut short":          {words: []string{sslRequest[:5]}, want: "unexpected EOF"},
		"another request":    {words: []string{"\x00\x00\x00\x10\x04\xd2\x16\x2epid.key."}, want: "the client does not speak TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			answers, left, err := asked(t, c.words...)
			if answers != c.answers || err == nil && left != c.left {
				t.Errorf("the answers are %q, want %q; left is %q, want %q", answers, c.answers, left, c.left)
			}
			if err == nil && c.want != "" || err != nil && (c.want == "" || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("it ended with %v, want %q", err, c.want)
			}
		})
	}
}

func FuzzSSLRequest(f *testing.F) {
	for _, words := range []string{sslRequest, gssRequest + sslRequest, "\x00\x00\x00\x10\x00\x03\x00\x00user\x00u\x00\x00"} {
		f.Add(words)
	}
	f.Fuzz(func(t *testing.T, words string) {
		if len(words) > 1<<16 {
			return // a socket takes no more at once
		}
		answers, _, err := asked(t, words)
		if err == nil && strings.HasPrefix(words, sslRequest) && answers != string(rune(pgYes)) {
			t.Errorf("the answer is %q", answers)
		}
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			t.Error("it did not end")
		}
	})
}
