package libtls_test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"math/big"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// keyPatterns are the bytes that a private key has in a file and in memory: PEM lines, DER, and
// its numbers in both byte orders.
func keyPatterns(t *testing.T, file string) map[string][]byte {
	text := readFile(t, file)
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	patterns := map[string][]byte{"DER": block.Bytes}
	for i, line := range strings.Split(string(text), "\n") {
		if len(line) == 64 && i > 1 { // the first is the same for every key of its kind
			patterns[fmt.Sprint("PEM line ", i)] = []byte(line)
		}
	}
	number := func(name string, n *big.Int) {
		b := n.Bytes()
		patterns[name] = b
		swapped := slices.Clone(b)
		slices.Reverse(swapped)
		patterns[name+", little endian"] = swapped
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		number("d", k.D)
		number("p", k.Primes[0])
		number("q", k.Primes[1])
	case *ecdsa.PrivateKey:
		d, err := k.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		number("d", new(big.Int).SetBytes(d))
	}
	return patterns
}

// startServer runs server.c until the test ends, and returns where it listens.
func startServer(t *testing.T, argv ...string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%v: %q %v", argv, line, err)
	}
	return cmd, "127.0.0.1:" + strings.TrimSpace(line)
}

// searchServer runs a server and searches its memory for patterns before and after handshakes.
func searchServer(t *testing.T, argv []string, patterns map[string][]byte) []string {
	t.Helper()
	cmd, address := startServer(t, argv...)
	found := searchMemory(t, cmd.Process.Pid, patterns)
	for _, word := range []string{"hello", "quit"} {
		if word == "quit" {
			maps.Copy(found, searchMemory(t, cmd.Process.Pid, patterns))
		}
		greet(t, address, word)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	return slices.Sorted(maps.Keys(found))
}

// greet says a word to the server, and expects it back.
func greet(t *testing.T, address, word string) {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(readFile(t, lab.pki.path("ca.pem")))
	conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: pool, ServerName: "host.test"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	conn.Write([]byte(word))
	got, err := io.ReadAll(conn)
	if string(got) != word || err != nil {
		t.Errorf("got %q, %v, want %q", got, err, word)
	}
}

// searchMemory reads every mapping that a process can read.
func searchMemory(t *testing.T, pid int, patterns map[string][]byte) map[string]bool {
	t.Helper()
	found := make(map[string]bool)
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	searched := 0
	for line := range strings.Lines(string(readFile(t, fmt.Sprintf("/proc/%d/maps", pid)))) {
		var from, to int64
		var rights string
		_, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &rights)
		if err != nil || rights[0] != 'r' || strings.Contains(line, "[v") { // the kernel's: vvar, vsyscall
			continue
		}
		data := make([]byte, to-from)
		n, _ := mem.ReadAt(data, from)
		searched += n
		for name, p := range patterns {
			if bytes.Contains(data[:n], p) {
				found[name] = true
			}
		}
	}
	if searched < 1<<20 {
		t.Fatalf("only %d bytes of the program's memory could be read", searched)
	}
	return found
}
