package integration

import (
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

// etcd is a static Go program that speaks HTTP/2, and so is its client: one serves, the other connects.
func TestEtcdAndItsClientGetTLS(t *testing.T) {
	testkit.Need(t, "etcd", "etcdctl")
	t.Parallel()
	s := serveUnder(t, "")
	url := "http://127.0.0.1:" + s.portString()
	s.start(t, "etcd", "--data-dir", filepath.Join(s.dir, "data"), "--listen-client-urls", url, "--advertise-client-urls", url,
		"--listen-peer-urls", "http://127.0.0.1:"+closedPort(t))
	eventually(t, "etcd is healthy", 60*time.Second, func() bool {
		return strings.Contains(s.curl(t, s.https("/health")).stdout, `"true"`)
	})
	ctl := wrapped{flags: s.flags(), env: []string{"ETCDCTL_API=3"}}
	endpoint := "--endpoints=http://" + s.hostport()
	if e := ctl.run(t, "etcdctl", endpoint, "put", "key", s.marker).must(t); e.stdout != "OK\n" {
		t.Errorf("put: %q, stderr %q", e.stdout, e.stderr)
	}
	if e := ctl.run(t, "etcdctl", endpoint, "get", "key").must(t); e.stdout != "key\n"+s.marker+"\n" {
		t.Errorf("get: %q, stderr %q", e.stdout, e.stderr)
	}
}

// caddy is a static Go program: its clients come by TLS, and its upstream is reached by TLS.
func TestCaddyAsAReverseProxyGetsTLSOnBothSides(t *testing.T) {
	testkit.Need(t, "caddy")
	t.Parallel()
	up := serveSite(t, "other.example.test")
	s := serveUnder(t, fmt.Sprintf("[[rule]]\nhost = %q\nport = %d\nca_file = %q\n", up.host, up.port, lab.rootPEM))
	caddyfile := fmt.Sprintf("{\nadmin off\nauto_https off\n}\nhttp://:%s {\nbind 127.0.0.1\nreverse_proxy http://%s\n}\n", s.portString(), up.hostport())
	s.running = wrapped{flags: []string{"--rules", s.rules}, dir: s.dir, env: []string{"XDG_DATA_HOME=" + s.dir, "XDG_CONFIG_HOME=" + s.dir}}.start(t,
		"caddy", "run", "--adapter", "caddyfile", "--config", writeFile(t, "Caddyfile", caddyfile))
	s.listens(t)
	for range 20 {
		if got := s.curl(t, "https://"+s.hostport()+"/fixed?"+up.marker).must(t).stdout; got != up.marker+"\n" {
			t.Fatalf("curl got %q, caddy says %s", got, s.stderr)
		}
	}
	const size = 8 << 20
	out := filepath.Join(t.TempDir(), "big")
	s.curl(t, "-o", out, fmt.Sprintf("https://%s/big?bytes=%d", s.hostport(), size)).must(t)
	if got, want := fileSum(t, out), testkit.BodySum(up.marker, size); got != want {
		t.Errorf("the download has the sum %s, want %s", got, want)
	}
}

// One run of tlswrap, whose program is a script that starts all kinds of programs.
func TestScriptThatStartsEveryKindOfProgram(t *testing.T) {
	t.Parallel()
	s := serveSite(t, "db.example.test")
	script := "#!/bin/sh\nset -e\n"
	want := ""
	for _, name := range []string{"static", "static musl", "Go", "Go with cgo", "busybox-static wget", "rclone", "system calls of its own", "another real user"} {
		script += "'" + strings.Join(fetchers[name](t, s), "' '") + "'\n"
		want += s.marker + "\n"
	}
	script += "wait\nenv -i '" + strings.Join(curlArgs(s), "' '") + "'\n"
	want += s.marker + "\n"
	for _, shell := range [][]string{{"/bin/sh"}, {busyboxStatic(t), "sh"}} {
		e := s.wrapped().run(t, append(shell, writeFile(t, "script", script))...).must(t)
		if e.stdout != want {
			t.Errorf("%v: it got %q, stderr %q", shell, e.stdout, e.stderr)
		}
	}
}

// A Go server under a rule has its clients' addresses, and a client that speaks no TLS is not served.
func TestGoServerIsNotReachedWithoutTLS(t *testing.T) {
	t.Parallel()
	s := serveUnder(t, "")
	s.start(t, goProgram(t, "goserver.go", false), "127.0.0.1:"+s.portString(), filepath.Join(s.www(t), "big"))
	client := http.Client{Timeout: 20 * time.Second}
	if answer, err := client.Get("http://127.0.0.1:" + s.portString() + "/big"); err == nil {
		t.Errorf("it answered %s", answer.Status)
		answer.Body.Close()
	}
	c, err := net.Dial("tcp", "127.0.0.1:"+s.portString())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s.curl(t, s.https("/big"), "-o", "/dev/null").must(t)
}
