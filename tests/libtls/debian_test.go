package libtls_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

// serve is a TLS server that has every connection answered by f.
func serve(t *testing.T, name string, f func(c net.Conn)) (port string) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(lab.pki.path(name+".pem"), lab.pki.path(name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f(c)
		}
	}()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

// both runs a program with the real libtls and under tlswrap.
func both(t *testing.T, env []string, argv ...string) (real, ours string) {
	t.Helper()
	return run(t, env, argv...), run(t, env, append([]string{lab.tlswrap}, argv...)...)
}

func trusting(name string) []string { return []string{"SSL_CERT_FILE=" + lab.pki.path(name+".pem")} }

// catgirl prints the subject and the chain of its server, byte for byte what it prints alone.
func TestCatgirl(t *testing.T) {
	port := serve(t, "chained", func(c net.Conn) { c.(*tls.Conn).Handshake(); c.Close() })
	real, ours := both(t, nil, "catgirl", "-o", "-h", "127.0.0.1", "-p", port)
	if ours != real || strings.Count(ours, "BEGIN CERTIFICATE") != 2 {
		t.Errorf("ours:\n%s\nreal:\n%s", ours, real)
	}
}

// sacc shows a menu over gophers, and says why it does not.
func TestSacc(t *testing.T) {
	menu := func(c net.Conn) {
		defer c.Close()
		if _, err := bufio.NewReader(c).ReadString('\n'); err == nil {
			fmt.Fprintf(c, "iA menu by TLS\tx\tx\t70\r\n.\r\n")
		}
	}
	for _, test := range []struct{ trust, want, keys string }{
		{"ca", "A menu by TLS", "q"},
		{"otherca", "certificate verification failed: unable t", ""},
	} {
		port := serve(t, "host", menu)
		var outs [2]string
		for i, wrap := range [][]string{nil, {lab.tlswrap}} {
			argv := append(wrap, "script", "-qefc", "TERM=xterm sacc gophers://127.0.0.1:"+port+"/1/", "/dev/null")
			outs[i] = press(t, trusting(test.trust), test.want, test.keys, argv...)
		}
		if outs[0] != outs[1] {
			t.Errorf("%s: ours:\n%q\nreal:\n%q", test.trust, outs[1], outs[0])
		}
	}
}

// press runs a program, and presses keys when it has said want; without keys it ends it. It returns
// what the program said until then.
func press(t *testing.T, env []string, want, keys string, argv ...string) string {
	t.Helper()
	need(t, argv)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	b := make([]byte, 1)
	for !strings.Contains(said.String(), want) {
		if _, err := out.Read(b); err != nil {
			t.Fatalf("%v: %v after %q", argv, err, said.String())
		}
		said.Write(b)
	}
	if keys == "" {
		cancel()
	}
	io.WriteString(stdin, keys)
	stdin.Close()
	go io.Copy(io.Discard, out)
	cmd.Wait()
	return said.String()
}

// rpki-client changes its user, forks, waits for its children, and fetches over many non-blocking
// sockets. What it fetches is no certificate, which it says.
func TestRPKIClient(t *testing.T) {
	testkit.Need(t, "rpki-client", "openssl")
	testkit.NeedRoot(t)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "no certificate") })
	pair, err := tls.LoadX509KeyPair(lab.pki.path("host.pem"), lab.pki.path("host.key"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan string, 16)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		served <- r.URL.Path
		handler(w, r)
	})}
	go server.Serve(l)
	defer server.Close()

	block, _ := pem.Decode(readFile(t, lab.pki.path("ca.pem")))
	anchor := filepath.Join(lab.dir, "t.tal")
	text := fmt.Sprintf("https://%s/ta.cer\n\n%s\n", l.Addr(), base64.StdEncoding.EncodeToString(publicKey(t, block.Bytes)))
	if err := os.WriteFile(anchor, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		trust string
		gets  int
	}{{"ca", 1}, {"otherca", 0}} {
		var outs []string
		for _, wrap := range []string{"", lab.tlswrap} {
			cache, out := folderOf(t, "_rpki-client"), folderOf(t, "_rpki-client")
			argv := []string{"rpki-client", "-vv", "-t", anchor, "-d", cache, out}
			if wrap != "" {
				argv = append([]string{wrap}, argv...)
			}
			text := run(t, trusting(test.trust), argv...)
			outs = append(outs, deterministic(strings.ReplaceAll(strings.ReplaceAll(text, cache, "CACHE"), out, "OUT")))
			if len(served) != test.gets {
				t.Errorf("%s: %d requests, want %d\n%s", test.trust, len(served), test.gets, text)
			}
			for len(served) > 0 {
				<-served
			}
		}
		if outs[0] != outs[1] {
			t.Errorf("%s: %s", test.trust, difference(outs[0], outs[1]))
		}
	}
}

// deterministic leaves out what rpki-client counts and times.
func deterministic(out string) string {
	var b strings.Builder
	for line := range strings.Lines(out) {
		if !strings.Contains(line, "seconds") && !strings.Contains(line, "Processing time") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func folderOf(t *testing.T, name string) string {
	t.Helper()
	dir, err := os.MkdirTemp(lab.dir, "folder")
	if err != nil {
		t.Fatal(err)
	}
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	return dir
}

func publicKey(t *testing.T, der []byte) []byte {
	t.Helper()
	cmd := exec.Command("openssl", "x509", "-inform", "der", "-noout", "-pubkey")
	cmd.Stdin = strings.NewReader(string(der))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(out)
	return block.Bytes
}

// The rules hold for a program of libtls's as for every other: what they deny is denied.
func TestDenied(t *testing.T) {
	port := serve(t, "host", func(c net.Conn) { t.Error("somebody came"); c.Close() })
	rules := filepath.Join(lab.dir, "deny.toml")
	if err := os.WriteFile(rules, []byte("default = \"deny\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := run(t, nil, lab.tlswrap, "--rules", rules, "catgirl", "-o", "-h", "127.0.0.1", "-p", port)
	if !strings.Contains(out, "no rule allows it") || !strings.Contains(out, "Permission denied") {
		t.Error(out)
	}
}
