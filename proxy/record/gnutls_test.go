package record

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

// gnutls-cli sends what it reads on its standard input and prints what it gets.
func TestGnuTLS(t *testing.T) {
	testkit.Need(t, "gnutls-cli")
	_, _, caFile := writeCertificates(t, t.TempDir())
	for _, p := range []struct {
		priority string
		ours     bool
	}{
		{"NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM", true},
		{"NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-256-GCM", true},
		{"NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+CHACHA20-POLY1305", false},
		{"NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-GCM", true},
		{"NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-256-GCM", true},
	} {
		t.Run(p.priority, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			up, down := randomBytes(peerBytes, 1), randomBytes(peerBytes, 2)
			ctx := t.Context()
			cmd := exec.CommandContext(ctx, "gnutls-cli", "--logfile=/dev/null", "--x509cafile", caFile, "--priority", p.priority,
				"--sni-hostname", name, "--verify-hostname", name, "--port", fmt.Sprint(l.Addr().(*net.TCPAddr).Port), "127.0.0.1")
			in, err := cmd.StdinPipe()
			var got bytes.Buffer
			cmd.Stdout = &got
			if err = errors.Join(err, cmd.Start()); err != nil {
				t.Fatal(err)
			}
			conn, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(time.Minute))
			cert, _ := authority()
			c := Server(newReadAhead(conn), ServerConfig(&tls.Config{Certificates: []tls.Certificate{cert.TLS()}}))
			c.TakeOverAfter(100 << 10)
			if err := c.Handshake(); err != nil {
				t.Fatal(err)
			}
			wrote := make(chan error, 1)
			go func() {
				_, err := in.Write(up)
				wrote <- err
			}()
			have := make([]byte, len(up))
			if _, err := io.ReadFull(c, have); err != nil || !bytes.Equal(have, up) {
				t.Errorf("reading: %v, the same: %v", err, bytes.Equal(have, up))
			}
			if err := errors.Join(<-wrote, send(c, down, 30_000)); err != nil {
				t.Error(err)
			}
			in.Close()
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			if !bytes.HasSuffix(got.Bytes(), down) {
				t.Errorf("gnutls-cli printed %d bytes, which do not end in the %d that were sent", got.Len(), len(down))
			}
			if reading := c.reader != nil; reading != p.ours || c.taken() != p.ours {
				t.Errorf("taken over: reading %v, writing %v, want %v", reading, c.taken(), p.ours)
			}
		})
	}
}
