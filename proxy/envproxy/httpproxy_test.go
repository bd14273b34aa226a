package envproxy

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestProxiesOfAnEnvironment(t *testing.T) {
	for _, tt := range []struct{ environ, want string }{
		{"PATH=/bin", ""},
		{"http_proxy=http://p.test:3128", "http_proxy p.test [3128] [false]"},
		{"http_proxy=http://u:a/b@p.test:3128/x", ""},
		{"http_proxy=u:p@w@P.test.:3128", "http_proxy p.test [3128] [false]"},
		{"http_proxy=p.test", "http_proxy p.test [80 1080] [false]"},
		{"http_proxy=https://p.test/", "http_proxy p.test [443] [false] TLS"},
		{"http_proxy=http://[::1]:8080/", "http_proxy ::1 [8080] [false]"},
		{"http_proxy=[::ffff:10.0.0.1]", "http_proxy 10.0.0.1 [80 1080] [false]"},
		{"http_proxy=http://p.test:0", ""},
		{"http_proxy=http://p.test:http", ""},
		{"http_proxy=http://a\nb:80", ""},
		{"http_proxy=", ""},
		{"http_proxy", ""},
		{"HTTP_PROXY=p:1", "HTTP_PROXY p [1] [false]"},
		{"HTTP_PROXY=p:1,http_proxy=", ""},
		{"HTTP_PROXY=p:1,http_proxy=q:2,NO_PROXY=x", "http_proxy q [2] [false] x"},
		{"NO_PROXY=x,no_proxy=y,https_proxy=p:1", "https_proxy p [1] [true] y"},
		{"all_proxy=socks5h://p:1", "all_proxy p [1] [false true]"},
		{"all_proxy=p:1,HTTPS_PROXY=q:2", "HTTPS_PROXY q [2] [true]; all_proxy p [1] [false]"},
		{"all_proxy=p:1,HTTPS_PROXY=q:2,http_proxy=r:3", "http_proxy r [3] [false]; HTTPS_PROXY q [2] [true]"},
	} {
		var got []string
		for _, e := range parseEnvProxies(strings.ReplaceAll(tt.environ, ",", "\x00")) {
			s := fmt.Sprint(e.variable, " ", e.host(), " ", e.ports, " ", e.schemes)
			if e.tls {
				s += " TLS"
			}
			if e.exempt != "" {
				s += " " + e.exempt
			}
			got = append(got, s)
		}
		if s := strings.Join(got, "; "); s != tt.want {
			t.Errorf("%q: %q, want %q", tt.environ, s, tt.want)
		}
	}
}

func TestProxiesOfAProcess(t *testing.T) {
	cmd := exec.Command("cat")
	cmd.Env = append(os.Environ(), "http_proxy=http://p.test:3128")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer stdin.Close()
	// execve(2) closes what Start waits for before it sets the environment that /proc shows.
	if _, err := stdin.Write([]byte{'x'}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stdout, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if got := envProxies(int32(cmd.Process.Pid)); len(got) != 1 || got[0].name != "p.test" {
		t.Errorf("the process has the proxies %+v", got)
	}
	if got := envProxies(0); got != nil {
		t.Errorf("a process that cannot be seen has the proxies %+v", got)
	}
}

func BenchmarkEnvProxies(b *testing.B) {
	for b.Loop() {
		envProxies(int32(os.Getpid()))
	}
}
