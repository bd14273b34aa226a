package integration

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"tlswrap/tests/testkit"
)

// startTinyproxy starts an HTTP proxy that connects to the ports of connect, for the user
// "u" with a password, or for everybody where that is "". It returns where it listens.
func startTinyproxy(t *testing.T, password string, connect ...*site) string {
	t.Helper()
	dir, addr := openDir(t), "127.0.0.1:"+closedPort(t)
	conf := "Listen 127.0.0.1\nMaxClients 100\nAllow 127.0.0.1\nPort " + addr[strings.Index(addr, ":")+1:] + "\n"
	if password != "" {
		conf += "BasicAuth u " + password + "\n"
	}
	for _, s := range connect {
		conf += "ConnectPort " + s.portString() + "\n"
	}
	startServer(t, dir, addr, "tinyproxy", "-d", "-c", fileIn(t, dir, "tinyproxy.conf", conf))
	return addr
}

// startMicrosocks starts a SOCKS5 proxy, with users as startTinyproxy does.
func startMicrosocks(t *testing.T, password string) string {
	t.Helper()
	port := closedPort(t)
	argv := []string{"microsocks", "-i", "127.0.0.1", "-p", port}
	if password != "" {
		argv = append(argv, "-u", "u", "-P", password)
	}
	startServer(t, openDir(t), "127.0.0.1:"+port, argv...)
	return "127.0.0.1:" + port
}

// throughProxy is a run with a rule for a site by way of a proxy.
func throughProxy(t *testing.T, s *site, via string, more ...string) wrapped {
	t.Helper()
	file := writeRules(t, fmt.Sprintf("[[rule]]\nhost = %q\nport = %d\nca_file = %q\nvia = %q\n%s\n",
		s.host, s.port, lab.rootPEM, via, strings.Join(more, "\n")))
	return wrapped{flags: []string{"--rules", file}}
}

// watchProxy looks for the site's marker on the way to a proxy, and for its TLS.
func (s *site) watchProxy(t *testing.T, addr string) {
	t.Helper()
	_, port, _ := strings.Cut(addr, ":")
	watchServer(t, s.host, port, s.marker)
}

func TestProgramsGoByWayOfAProxy(t *testing.T) {
	const password = "proxy-password"
	for name, start := range map[string]func(t *testing.T, s *site) (via, addr string){
		"tinyproxy": func(t *testing.T, s *site) (via, addr string) {
			addr = startTinyproxy(t, "", s)
			return "http://" + addr, addr
		},
		"tinyproxy with a password": func(t *testing.T, s *site) (via, addr string) {
			addr = startTinyproxy(t, password, s)
			return "http://u:" + password + "@" + addr, addr
		},
		"microsocks": func(t *testing.T, s *site) (via, addr string) {
			addr = startMicrosocks(t, "")
			return "socks5://" + addr, addr
		},
		"microsocks with a password": func(t *testing.T, s *site) (via, addr string) {
			addr = startMicrosocks(t, password)
			return "socks5://u:" + password + "@" + addr, addr
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := serveSite(t, "db.example.test")
			via, addr := start(t, s)
			s.watchProxy(t, addr)
			const size = 5 << 20
			out := filepath.Join(t.TempDir(), "big")
			w := throughProxy(t, s, via)
			w.run(t, quietCurl("-o", out, s.url(fmt.Sprintf("/big?bytes=%d", size)))...).must(t)
			if got, want := fileSum(t, out), testkit.BodySum(s.marker, size); got != want {
				t.Errorf("the download has the sum %s, want %s", got, want)
			}
			got := w.run(t, quietCurl("-T", out, s.url("/upload"))...).must(t).stdout
			if !strings.Contains(got, testkit.BodySum(s.marker, size)) {
				t.Errorf("the upload has the sum %s, want %s", got, testkit.BodySum(s.marker, size))
			}
		})
	}
}

// The words of the proxy, the server's before TLS, and TLS come one after the other.
func TestSTARTTLSByWayOfAProxy(t *testing.T) {
	m := startExim(t, "db.example.test", true)
	for i, via := range []string{"http://" + startTinyproxy(t, "", m.site), "socks5://" + startMicrosocks(t, "")} {
		w := throughProxy(t, m.site, via, `starttls = "submission"`)
		m.watchProxy(t, via[strings.Index(via, "//")+2:])
		w.stdin = strings.NewReader(m.letter())
		w.run(t, m.mailers()["smtplib"]...).must(t)
		m.mustArrive(t, i+1)
	}
}

func TestProgramIsToldWhatIsWrongOnTheWay(t *testing.T) {
	good := serveSite(t, "db.example.test")
	good.wrapped().run(t, quietCurl(good.url("/fixed"))...).must(t)
	other := &site{host: good.host, port: number(t, closedPort(t)), marker: good.marker}
	closed := &site{host: good.host, port: number(t, closedPort(t)), marker: good.marker}
	wrong := *good
	wrong.host = "wrong.example.test"
	silent, err := testkit.Serve("127.0.0.1:0", nil, testkit.Silent)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(silent.Close)

	httpProxy, httpLocked := startTinyproxy(t, "", good, closed), startTinyproxy(t, "right", good)
	socks, socksLocked := startMicrosocks(t, ""), startMicrosocks(t, "right")
	nobody := "127.0.0.1:" + closedPort(t)
	for name, c := range map[string]struct {
		*site
		via, want, errno string
		silent           bool
	}{
		"HTTP: not allowed":                     {other, "http://" + httpProxy, "the proxy did not connect to " + other.hostport() + `: it said "HTTP/1.1 403 Access violation"`, "Protocol error", false},
		"HTTP: nobody listens":                  {closed, "http://" + httpProxy, `it said "HTTP/1.1 500 Unable to connect"`, "Protocol error", false},
		"HTTP: no password":                     {good, "http://" + httpLocked, "407 Proxy Authentication Required", "Protocol error", false},
		"HTTP: wrong password":                  {good, "http://u:bad@" + httpLocked, "401 Unauthorized", "Protocol error", false},
		"HTTP: no proxy":                        {good, "http://" + nobody, "by way of " + nobody + ": ", "Connection refused", false},
		"HTTP: wrong certificate":               {&wrong, "http://" + httpProxy, "certificate is for db.example.test, not wrong.example.test", "Key was rejected by service", false},
		"HTTP: SOCKS5's":                        {good, "http://" + socks, "the proxy closed the connection instead of sending the answer to CONNECT", "Protocol error", false},
		"HTTP: silent":                          {good, fmt.Sprintf("http://127.0.0.1:%d", silent.Port()), "the proxy did not send the answer to CONNECT in time", "Protocol error", true},
		"SOCKS5: nobody listens":                {closed, "socks5://" + socks, "the proxy did not connect to " + closed.hostport() + ": connection refused", "Protocol error", false},
		"SOCKS5: no password":                   {good, "socks5://" + socksLocked, "the proxy wants a user and a password, and via has none", "Protocol error", false},
		"SOCKS5: wrong password":                {good, "socks5://u:bad@" + socksLocked, "the proxy did not accept user and password", "Protocol error", false},
		"SOCKS5: no proxy":                      {good, "socks5://" + nobody, "by way of " + nobody + ": ", "Connection refused", false},
		"SOCKS5: wrong certificate":             {&wrong, "socks5://" + socks, "certificate is for db.example.test, not wrong.example.test", "Key was rejected by service", false},
		"SOCKS5: HTTP's":                        {good, "socks5://" + httpProxy, "by way of " + httpProxy + ": ", "Protocol error", true},
		"SOCKS5: a password where none is used": {good, "socks5://u:p@" + socks, "the proxy does not take passwords", "Protocol error", false},
	} {
		t.Run(name, func(t *testing.T) {
			c.keepSecret(t)
			timeout := "60s"
			if c.silent {
				timeout = "1s"
			}
			w := throughProxy(t, c.site, c.via, fmt.Sprintf("timeout = %q", timeout))
			e := w.run(t, python, "-c", "import socket, sys; s = socket.create_connection(sys.argv[1:3]); s.sendall(sys.argv[3].encode())",
				c.host, c.portString(), c.marker)
			for _, want := range []string{c.want, c.errno} {
				if e.status == 0 || !strings.Contains(e.stderr, want) {
					t.Errorf("status %d, stderr %s, want %s", e.status, e.stderr, want)
				}
			}
		})
	}
}

func TestExplainShowsTheTalkWithAProxy(t *testing.T) {
	s := startExim(t, "db.example.test", true).site
	for scheme, addr := range map[string]string{"http": startTinyproxy(t, "", s), "socks5": startMicrosocks(t, "")} {
		w := throughProxy(t, s, scheme+"://"+addr, `starttls = "smtp"`)
		e := wrapped{bare: true}.run(t, append([]string{lab.tlswrap, "explain", s.hostport()}, w.flags...)...).must(t)
		connect := map[string]string{"http": "CONNECT ", "socks5": "SOCKS5 CONNECT "}[scheme] + s.hostport()
		for _, want := range []string{"\n  via       worker: " + connect + "\n            proxy: ", "\n  starttls  server: 220 ", "\n            worker: STARTTLS\n", "verified: chain and name"} {
			if !strings.Contains(e.stdout, want) {
				t.Errorf("explain by way of %s does not say %q:\n%s", scheme, want, e.stdout)
			}
		}
	}
}
