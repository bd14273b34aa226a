package integration

import (
	"crypto/tls"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"tlswrap/tests/testkit"
)

// kernelSealed is how many connections the kernel has sealed for, in this network namespace.
// It is not known while the module is not loaded.
func kernelSealed() (n int, known bool) {
	stat, err := os.ReadFile("/proc/net/tls_stat")
	if m := regexp.MustCompile(`TlsTxSw\s+(\d+)`).FindSubmatch(stat); err == nil && m != nil {
		n, err = strconv.Atoi(string(m[1]))
		return n, err == nil
	}
	return 0, false
}

// With kernel_tls nothing changes for the program, whether or not the kernel can; where it
// cannot, a person is told. "make test-ktls" runs this where it can.
func TestKernelTLS(t *testing.T) {
	config := serverConfig(t, testkit.Leaf{Names: []string{"db.example.test"}})
	config.MaxVersion = tls.VersionTLS12 // older kernels cannot do more
	marker := newMarker()
	server, err := testkit.ServeHTTP(listenAddr(t, "db.example.test"), config, testkit.Site(marker))
	s := watched(t, "db.example.test", marker, server, err)
	w := withRules(t, "kernel_tls = true\n[[rule]]\nhost = \"db.example.test\"\nport = %d\n", s.port)
	const size = 5 << 20
	file := bodyFile(t, s.marker, size)
	before, _ := kernelSealed()
	e := w.run(t, quietCurl("-T", file, s.url("/upload"))...)
	if want := fmt.Sprintf("%s %d\n", fileSum(t, file), size); e.stdout != want {
		t.Errorf("the server got %q, want %q", e.stdout, want)
	}
	after, known := kernelSealed()
	if !known {
		const want = "tlswrap: warning: kernel_tls is of no use here: "
		if !strings.HasPrefix(e.stderr, want) || strings.Count(e.stderr, "\n") != 1 {
			t.Errorf("stderr: %q", e.stderr)
		}
		return
	}
	// One more is the worker's, to find out what the kernel does.
	if n := after - before; n < 2 {
		t.Errorf("the kernel has sealed for %d connections", n)
	}
	if e.stderr != "" && !strings.Contains(e.stderr, "of use for TLS 1.2 alone") {
		t.Errorf("stderr: %q", e.stderr)
	}
}
