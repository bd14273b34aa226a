package libtls_test

import (
	"bufio"
	"os/exec"
	"strings"
	"testing"

	"tlswrap/tests/testkit"
)

// A server hears why OpenSSL's client does not like its certificate, which that says in the clear.
func TestAServerHearsWhyItIsRefused(t *testing.T) {
	testkit.Need(t, "openssl")
	server := compile(t, "server.c", "-ltls")
	for _, wrap := range [][]string{nil, {lab.tlswrap}} {
		argv := append(wrap, server, lab.pki.path("host.pem"), lab.pki.path("host.key"))
		cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
		var said strings.Builder
		cmd.Stderr = &said
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		port, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		client := func(ca string) {
			c := exec.CommandContext(t.Context(), "openssl", "s_client", "-tls1_3", "-verify_return_error", "-CAfile", lab.pki.path(ca),
				"-servername", "host.test", "-connect", "127.0.0.1:"+strings.TrimSpace(port))
			c.Stdin = strings.NewReader("quit\n")
			c.Run()
		}
		client("otherca.pem")
		client("ca.pem")
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		if want := "tlsv1 alert unknown ca"; !strings.Contains(said.String(), want) {
			t.Errorf("%v: the server says %q", wrap, said.String())
		}
	}
}
