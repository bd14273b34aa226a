package starttls

import (
	"io"
	"os"
	"strings"
	"testing"

	"tlswrap/rules"
)

var (
	httpProxy  = rules.Proxy{Scheme: "http", User: "u", Password: "p"}
	socksProxy = rules.Proxy{Scheme: "socks5"}
	socksUser  = rules.Proxy{Scheme: "socks5", User: "u", Password: "secret"}
	byName     = rules.Endpoint{Host: "db.example", Port: 5432}
)

// What proxies say, what they are told, and what is left for the server's first words.
func TestViaAsksAProxyToConnect(t *testing.T) {
	const bound = "\x01\x7f\x00\x00\x01\x12\x34"
	for name, c := range map[string]struct {
		proxy            rules.Proxy
		to               rules.Endpoint
		says, told, want string
		end              error
		left             string
	}{
		"http": {proxy: httpProxy, to: byName, says: "HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n220 hi", left: "220 hi",
			told: "CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\nProxy-Authorization: Basic dTpw\r\n\r\n"},
		"http to IPv6": {proxy: rules.Proxy{Scheme: "http"}, to: rules.Endpoint{Host: "2001:db8::1", Port: 25}, says: "HTTP/1.0 200\r\n\r\n",
			told: "CONNECT [2001:db8::1]:25 HTTP/1.1\r\nHost: [2001:db8::1]:25\r\n\r\n"},
		"http refused":          {proxy: httpProxy, to: byName, says: "HTTP/1.1 403 Forbidden\r\n\r\n", want: `the proxy did not connect to db.example:5432: it said "HTTP/1.1 403 Forbidden"`},
		"http wants a user":     {proxy: httpProxy, to: byName, says: "HTTP/1.1 407 Proxy Authentication Required\r\n", want: "407"},
		"no http":               {proxy: httpProxy, to: byName, says: "SSH-2.0-x\r\n", want: `it said "SSH-2.0-x"`},
		"http silent":           {proxy: httpProxy, to: byName, end: os.ErrDeadlineExceeded, want: "the proxy did not send the answer to CONNECT in time"},
		"http headers for ever": {proxy: httpProxy, to: byName, says: "HTTP/1.1 200 x\r\n" + strings.Repeat("a: b\r\n", maxDialogue/6), want: "the proxy said more than 65536 bytes"},
		"socks": {proxy: socksProxy, to: byName, says: "\x05\x00" + "\x05\x00\x00" + bound + "220", left: "220",
			told: "\x05\x01\x00" + "\x05\x01\x00\x03\x0adb.example\x15\x38"},
		"socks to IPv4": {proxy: socksProxy, to: rules.Endpoint{Host: "192.0.2.1", Port: 25}, says: "\x05\x00" + "\x05\x00\x00\x03\x02ab\x00\x00",
			told: "\x05\x01\x00" + "\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x19"},
		"socks with a user": {proxy: socksUser, to: byName, says: "\x05\x02" + "\x01\x00" + "\x05\x00\x00" + bound,
			told: "\x05\x01\x02" + "\x01\x01u\x06secret" + "\x05\x01\x00\x03\x0adb.example\x15\x38"},
		"socks wants a user":   {proxy: socksProxy, to: byName, says: "\x05\xff", want: "wants a user and a password"},
		"socks wrong password": {proxy: socksUser, to: byName, says: "\x05\x02\x01\x01", want: "did not accept user and password"},
		"socks refused":        {proxy: socksProxy, to: byName, says: "\x05\x00\x05\x05\x00" + bound, want: "the proxy did not connect to db.example:5432: connection refused"},
		"socks unknown error":  {proxy: socksProxy, to: byName, says: "\x05\x00\x05\x63\x00" + bound, want: "unknown reason"},
		"socks odd address":    {proxy: socksProxy, to: byName, says: "\x05\x00\x05\x00\x00\x07", want: "an address of type 7"},
		"no socks":             {proxy: socksProxy, to: byName, says: "HT", want: "does not speak SOCKS5"},
		"socks closed":         {proxy: socksProxy, to: byName, says: "\x05", want: "the proxy closed the connection instead of sending"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &spoken{words: []byte(c.says), end: c.end}
			if s.end == nil {
				s.end = io.EOF
			}
			err := new(Dialogue).Run(s, Via(c.proxy, c.to))
			switch {
			case err == nil && c.want != "":
				t.Errorf("no error, want %s", c.want)
			case err != nil && (c.want == "" || !strings.Contains(err.Error(), c.want)):
				t.Errorf("error %v, want %s", err, c.want)
			case err == nil && string(s.words) != c.left:
				t.Errorf("%q is left, want %q", s.words, c.left)
			}
			if got := s.heard.String(); c.told != "" && got != c.told {
				t.Errorf("the proxy was told %q, want %q", got, c.told)
			}
		})
	}
}

func FuzzVia(f *testing.F) {
	for _, says := range []string{"HTTP/1.1 200 x\r\n\r\n", "\x05\x00\x05\x00\x00\x03\x02ab\x00\x00", "\x05\x02\x01\x00\x05\x00\x00\x04"} {
		f.Add([]byte(says))
	}
	f.Fuzz(func(t *testing.T, says []byte) {
		for _, p := range []rules.Proxy{httpProxy, socksProxy, socksUser} {
			s := &spoken{words: says, end: io.EOF}
			new(Dialogue).Run(s, Via(p, byName))
			if read := len(says) - len(s.words); read > maxDialogue+1 {
				t.Errorf("it read %d bytes", read)
			}
		}
	})
}
