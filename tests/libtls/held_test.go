package libtls_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// serveCutOff shakes hands with whoever comes, and ends without close_notify.
func serveCutOff(t *testing.T) (port string) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(lab.pki.path("host.pem"), lab.pki.path("host.key"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	config := &tls.Config{Certificates: []tls.Certificate{pair}, SessionTicketsDisabled: true}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				tls.Server(conn, config).Handshake()
			}()
		}
	}()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

// A program that closes with bytes unread resets its connection, as TCP does.
func TestAProgramThatLeavesBytesUnreadResetsItsConnection(t *testing.T) {
	pair, err := tls.LoadX509KeyPair(lab.pki.path("host.pem"), lab.pki.path("host.key"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, SessionTicketsDisabled: true})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ended := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			// Whichever call comes first is told of the reset, and the next one not any more.
			if _, err = conn.Write(make([]byte, 100<<10)); err == nil {
				_, err = conn.Read(make([]byte, 1))
			}
		}
		ended <- err
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	program := compile(t, "ends.c", "-ltls")
	socket, _ := longLived(t)
	out, err := exec.Command(lab.tlswrap, "--worker", socket, program, port, lab.pki.path("ca.pem"), "1", "unread").CombinedOutput()
	if string(out) != "1 ended\n" || err != nil {
		t.Fatalf("the program says %q, %v", out, err)
	}
	if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the server's connection ends in %v", err)
	}
}

// manyRoots writes a file of as many CA certificates as systems have, with ours first.
func manyRoots(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	all := bytes.NewBuffer(readFile(t, lab.pki.path("ca.pem")))
	for i := range 140 {
		cert := &x509.Certificate{SerialNumber: big.NewInt(int64(i)), Subject: pkix.Name{CommonName: fmt.Sprint("Root ", i)},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
		der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		pem.Encode(all, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	file := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(file, all.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// longLived runs a worker until the test ends.
func longLived(t *testing.T) (socket string, pid int) {
	t.Helper()
	dir := t.TempDir()
	socket = filepath.Join(dir, "socket")
	rules := filepath.Join(dir, "rules.toml")
	if err := os.WriteFile(rules, []byte("default = \"pass\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	worker := exec.Command(lab.tlswrap, "worker", "--socket", socket, "--rules", rules, "--log", "/dev/null")
	var said bytes.Buffer
	worker.Stdout, worker.Stderr = &said, &said
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		worker.Process.Kill()
		worker.Wait()
		if said.Len() > 0 {
			t.Logf("the worker: %s", said.Bytes())
		}
	})
	eventually(t, "the worker listens", 20*time.Second, func() bool {
		_, err := os.Stat(socket)
		return err == nil
	})
	return socket, worker.Process.Pid
}

func eventually(t *testing.T, what string, within time.Duration, happens func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !happens(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// memory is what /proc/PID/status says of a process's memory, in bytes: VmRSS is what it has, VmHWM
// the most that it had.
func memory(t *testing.T, pid int, what string) int {
	t.Helper()
	for line := range strings.Lines(string(readFile(t, fmt.Sprintf("/proc/%d/status", pid)))) {
		if rest, ok := strings.CutPrefix(line, what+":"); ok {
			n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatalf("there is no %s", what)
	return 0
}

const mega = 1 << 20

// ends runs programs at once that connect so often each, and expects them to go well.
func ends(t *testing.T, programs, times int, argv ...string) {
	t.Helper()
	var all sync.WaitGroup
	for range programs {
		all.Go(func() {
			if out := run(t, nil, argv...); out != fmt.Sprintf("%d ended\n", times) {
				t.Errorf("got %q", out)
			}
		})
	}
	all.Wait()
}

// comesBack expects a worker's memory to be what it was, but for a little.
func comesBack(t *testing.T, pid, before int) {
	t.Helper()
	const little = 12 * mega
	eventually(t, "the worker's memory comes back", 20*time.Second, func() bool {
		return memory(t, pid, "VmRSS") < before+little
	})
	t.Logf("before %d MB, at most %d, then %d", before/mega, memory(t, pid, "VmHWM")/mega, memory(t, pid, "VmRSS")/mega)
}

func TestConnectionsThatAreCutOffLeaveNothing(t *testing.T) {
	const programs, times, mostMemory = 4, 2500, 64 * mega
	program := compile(t, "ends.c", "-ltls")
	port, roots := serveCutOff(t), lab.pki.path("ca.pem")
	socket, pid := longLived(t)
	argv := func(times int) []string {
		return []string{lab.tlswrap, "--worker", socket, program, port, roots, fmt.Sprint(times)}
	}
	ends(t, 1, 10, argv(10)...)
	before := memory(t, pid, "VmRSS")
	ends(t, programs, times, argv(times)...)
	if most := memory(t, pid, "VmHWM"); most > mostMemory {
		t.Errorf("the worker had %d MB, and %d before", most/mega, before/mega)
	}
	comesBack(t, pid, before)
}

func TestALongLivedWorkerGivesMemoryBack(t *testing.T) {
	const times, muchMemory = 400, 50 * mega
	program := compile(t, "ends.c", "-ltls")
	port, roots := serveCutOff(t), manyRoots(t)
	socket, pid := longLived(t)
	argv := func(times int) []string {
		return []string{lab.tlswrap, "--worker", socket, program, port, roots, fmt.Sprint(times), "hold"}
	}
	ends(t, 1, 10, argv(10)...)
	before := memory(t, pid, "VmRSS")
	ends(t, 1, times, argv(times)...)
	if most := memory(t, pid, "VmHWM"); most < before+muchMemory {
		t.Errorf("the worker had %d MB, and %d before: that is not much", most/mega, before/mega)
	}
	comesBack(t, pid, before)
}
