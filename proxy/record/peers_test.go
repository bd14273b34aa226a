package record

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

// peerSuites are the suites as OpenSSL calls them, and whether we take them over.
var peerSuites = []struct {
	version, suite string
	ours           bool
}{
	{"1.3", "TLS_AES_128_GCM_SHA256", true},
	{"1.3", "TLS_AES_256_GCM_SHA384", true},
	{"1.3", "TLS_CHACHA20_POLY1305_SHA256", false},
	{"1.2", "ECDHE-ECDSA-AES128-GCM-SHA256", true},
	{"1.2", "ECDHE-ECDSA-AES256-GCM-SHA384", true},
	{"1.2", "ECDHE-ECDSA-CHACHA20-POLY1305", false},
	{"1.2", "ECDHE-ECDSA-AES128-SHA", false},
}

// takeOver is how many bytes a connection is taken over after. Keys that change before would
// leave it with crypto/tls, which Go 1.26.8 has end with bad_record_mac where an OpenSSL peer asks
// for new keys while both sides send: so those habits are for connections of ours alone.
func takeOver(habit string) int64 {
	if habit == "keys" {
		return 1
	}
	return 100 << 10
}

var habits = []struct {
	name    string
	version string // that has it, or ""
	server  bool   // only a server has it
}{
	{"plain", "", false}, {"keys", "1.3", false}, {"tickets", "1.3", true}, {"padding", "1.3", false}, {"fragments", "", false}, {"rude", "", false},
}

// peerBytes is enough for a take-over, and for many of the peer's habits after it.
const peerBytes = 1 << 20

// An OpenSSL peer sends back what we send, and has habits.
func TestOpenSSL(t *testing.T) {
	testkit.Need(t, "gcc", "openssl/ssl.h")
	dir := t.TempDir()
	peer := filepath.Join(dir, "peer")
	if out, err := exec.Command("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", peer, "testdata/peer.c", "-lssl", "-lcrypto").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	certFile, keyFile, caFile := writeCertificates(t, dir)
	for _, s := range peerSuites {
		for _, h := range habits {
			if h.version != "" && h.version != s.version || h.name == "keys" && !s.ours {
				continue
			}
			t.Run(s.suite+"/"+h.name+"/client", func(t *testing.T) {
				t.Parallel()
				cmd, out := start(t, peer, "server", certFile, keyFile, s.version, s.suite, h.name)
				port, err := out.ReadString('\n')
				if err != nil {
					t.Fatal(err)
				}
				conn, err := net.Dial("tcp", "127.0.0.1:"+strings.TrimSpace(port))
				if err != nil {
					t.Fatal(err)
				}
				_, roots := authority()
				c := Client(newReadAhead(conn), &tls.Config{ServerName: name, RootCAs: roots})
				echoed(t, c, conn, s.ours, h.name)
				if err := cmd.Wait(); err != nil {
					t.Error(err)
				}
			})
			if h.server {
				continue
			}
			t.Run(s.suite+"/"+h.name+"/server", func(t *testing.T) {
				t.Parallel()
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				cmd, _ := start(t, peer, "client", caFile, fmt.Sprint(l.Addr().(*net.TCPAddr).Port), s.version, s.suite, h.name)
				conn, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				cert, _ := authority()
				c := Server(newReadAhead(conn), ServerConfig(&tls.Config{Certificates: []tls.Certificate{cert.TLS()}}))
				echoed(t, c, conn, s.ours, h.name)
				if err := cmd.Wait(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// echoed has a peer send back some bytes, which ends with close_notify unless it is rude.
func echoed(t *testing.T, c *Conn, conn net.Conn, ours bool, habit string) {
	t.Helper()
	rude := habit == "rude"
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	c.TakeOverAfter(takeOver(habit))
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	want := randomBytes(peerBytes, 7)
	sent := make(chan error, 1)
	go func() { sent <- send(c, want, 30_000) }()
	got, err := receive(c, 64<<10)
	if rude != errors.Is(err, io.ErrUnexpectedEOF) || !rude && err != nil {
		t.Errorf("reading: %v", err)
	}
	if err := <-sent; err != nil {
		t.Errorf("writing: %v", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes came back that are not the %d that were sent", len(got), len(want))
	}
	if reading := c.reader != nil; reading != ours || c.taken() != ours {
		t.Errorf("taken over: reading %v, writing %v, want %v", reading, c.taken(), ours)
	}
}

// start starts a program that ends with the test at the latest.
func start(t *testing.T, program string, args ...string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	cmd := exec.CommandContext(ctx, program, args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", program, said.String())
		}
	})
	return cmd, bufio.NewReader(out)
}

func writeCertificates(t *testing.T, dir string) (certFile, keyFile, caFile string) {
	t.Helper()
	cert, _ := authority()
	certFile, keyFile, err := cert.WriteFiles(dir, "server")
	caFile = filepath.Join(dir, "ca.pem")
	if err = errors.Join(err, root().WriteFile(caFile)); err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile, caFile
}
