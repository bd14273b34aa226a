package libtls_test

import (
	"bufio"
	"context"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

// A client that wants to negotiate anew (RFC 5246, section 7.4.1.2) is turned away, with the real
// library and with ours, and the server goes on.
func TestClientRenegotiates(t *testing.T) {
	testkit.Need(t, "openssl")
	program := compile(t, "server.c", "-ltls")
	for _, wrap := range [][]string{nil, {lab.tlswrap}} {
		server, address := startServer(t, append(wrap, program, lab.pki.path("host.pem"), lab.pki.path("host.key"))...)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		client := exec.CommandContext(ctx, "openssl", "s_client", "-tls1_2", "-connect", address)
		client.Stdin = strings.NewReader("R\n")
		out, err := client.CombinedOutput()
		refused := strings.Contains(string(out), "no renegotiation") || strings.Contains(string(out), "unexpected message")
		if ctx.Err() != nil || !strings.Contains(string(out), "RENEGOTIATING") || !refused {
			t.Errorf("%v: %v: %s", wrap, err, out)
		}
		greet(t, address, "quit")
		if err := server.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// A server that wants to (section 7.4.1.1) has its way, as with the real library. Over callbacks
// it has not, which tls_error says.
func TestServerRenegotiates(t *testing.T) {
	program := compile(t, "client.c", "-ltls")
	const granted = "end\nwrite: 4\nclose: 0\n"
	for _, test := range []struct {
		name, wrap, transport, want string
	}{
		{"real", "env", "socket", granted},
		{"ours", lab.tlswrap, "socket", granted},
		{"real, pouring", "env", "pouring", granted},
		{"ours, pouring", lab.tlswrap, "pouring", granted},
		{"real over callbacks", "env", "callbacks", granted},
		{"ours over callbacks", lab.tlswrap, "callbacks", "read: -1 read failed: no renegotiation\nclose: 0\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			port := renegotiator(t)
			if out := run(t, nil, test.wrap, program, port, lab.pki.path("ca.pem"), test.transport); out != test.want {
				t.Errorf("got %q, want %q", out, test.want)
			}
		})
	}
}

// renegotiator is a server that negotiates anew once it is greeted, and then says "end". It returns
// the port.
func renegotiator(t *testing.T) (port string) {
	t.Helper()
	testkit.Need(t, "openssl")
	cmd := exec.Command("openssl", "s_server", "-accept", "127.0.0.1:0", "-tls1_2", "-state",
		"-cert", lab.pki.path("host.pem"), "-key", lab.pki.path("host.key"))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		cmd.Stderr = cmd.Stdout // for what -state says
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), "ACCEPT 127.0.0.1:"); ok {
			port = text
			break
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for handshakes := 0; lines.Scan(); {
			switch {
			case lines.Text() == "hello":
				io.WriteString(stdin, "R\n")
			case lines.Text() == "SSL_accept:SSLv3/TLS write finished":
				if handshakes++; handshakes == 2 {
					io.WriteString(stdin, "end\n")
				}
			}
		}
	}()
	t.Cleanup(func() { cmd.Process.Kill(); <-done; cmd.Wait() })
	return port
}
