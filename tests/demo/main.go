// Command demo shows what tlswrap does: an unmodified curl that speaks plaintext HTTP,
// against a TLS server that is right, and three that are wrong.
package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"tlswrap/tests/testkit"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// act is one request of the demonstration.
type act struct {
	title string
	cert  *testkit.Certificate
	fails bool
}

func run() error {
	dir, err := os.MkdirTemp("", "tlswrap-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ca, err := testkit.NewAuthority("Demo CA")
	if err != nil {
		return err
	}
	acts, err := script(ca)
	if err != nil {
		return err
	}
	roots := filepath.Join(dir, "ca.pem")
	if err := ca.WriteFile(roots); err != nil {
		return err
	}
	fmt.Println("curl is Debian's own and is told http://. The servers speak only TLS.")
	for _, a := range acts {
		if err := a.play(roots); err != nil {
			return err
		}
	}
	fmt.Println("\nNo byte of the three refused requests was sent. Next: build/tlswrap check --builtin")
	return nil
}

func script(ca *testkit.Authority) ([]act, error) {
	stranger, err := testkit.NewAuthority("Stranger CA")
	if err != nil {
		return nil, err
	}
	local := []string{"localhost"}
	acts := []act{
		{title: "the right certificate"},
		{title: "an expired certificate", fails: true},
		{title: "a certificate for another host", fails: true},
		{title: "a certificate from an authority that nobody trusts", fails: true},
	}
	issue := []struct {
		by   *testkit.Authority
		leaf testkit.Leaf
	}{
		{ca, testkit.Leaf{Names: local}},
		{ca, testkit.Leaf{Names: local, NotBefore: time.Now().AddDate(0, -3, 0), NotAfter: time.Now().AddDate(0, 0, -3)}},
		{ca, testkit.Leaf{Names: []string{"www.example.org"}}},
		{stranger, testkit.Leaf{Names: local}},
	}
	for i, c := range issue {
		if acts[i].cert, err = c.by.Issue(c.leaf); err != nil {
			return nil, err
		}
	}
	return acts, nil
}

// play serves with the act's certificate and runs curl.
func (a act) play(roots string) error {
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "Hello, %s! This came over %s.\n", strings.SplitN(r.UserAgent(), "/", 2)[0], tls.VersionName(r.TLS.Version))
	})
	server, err := testkit.ServeHTTP("127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{a.cert.TLS()}}, page)
	if err != nil {
		return err
	}
	defer server.Close()
	fmt.Printf("\n== %s\n", a.title)
	target := fmt.Sprintf("localhost:%d", server.Port())
	args := []string{"--ca", roots, "--tls", target, "/usr/bin/curl", "-4sS", "http://" + target + "/"}
	fmt.Printf("$ tlswrap --ca ca.pem --tls %s curl -4sS http://%s/\n", target, target)
	cmd := exec.Command("build/tlswrap", args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil && !a.fails, errors.As(err, &exit) && a.fails:
		return nil
	case err == nil:
		return errors.New("curl got through, and should not have")
	}
	return fmt.Errorf("curl did not get through: %w", err)
}
