package integration

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tlswrap/tests/testkit"
)

const curl = "curl"

// quietCurl is curl without its progress meter and its own settings.
func quietCurl(args ...string) []string {
	return append([]string{curl, "-q", "-sS", "--fail", "--noproxy", "*"}, args...)
}

func TestSnifferSeesThePlaintextOfAProgramWithoutTlswrap(t *testing.T) {
	marker := newMarker()
	server, err := testkit.ServeHTTP("127.0.0.1:0", nil, testkit.Site(marker))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	watch := lab.sniffer.Watch([]byte(marker), server.Port())
	url := fmt.Sprintf("http://db.example.test:%d/fixed", server.Port())
	if got := (wrapped{bare: true}).run(t, quietCurl(url)...).must(t).stdout; got != marker+"\n" {
		t.Errorf("curl got %q", got)
	}
	report, err := watch.Stop()
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Leaks) == 0 || report.Bytes == 0 {
		t.Errorf("the sniffer saw nothing: %+v", report)
	}
}

func TestSnifferSeesAMarkerThatIsSplitBetweenPackets(t *testing.T) {
	marker := newMarker()
	server, err := testkit.Serve("127.0.0.1:0", nil, testkit.Silent)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	watch := lab.sniffer.Watch([]byte(marker), server.Port())
	script := `import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
for c in sys.argv[2]: s.send(c.encode())`
	wrapped{bare: true}.run(t, "/usr/bin/python3", "-c", script, fmt.Sprint(server.Port()), marker).must(t)
	if report, err := watch.Stop(); err != nil || len(report.Leaks) == 0 {
		t.Errorf("the sniffer saw nothing: %+v, %v", report, err)
	}
}

func TestCurlGets(t *testing.T) {
	s := serveSite(t, "db.example.test")
	if got := s.wrapped().run(t, quietCurl(s.url("/fixed"))...).must(t).stdout; got != s.marker+"\n" {
		t.Errorf("curl got %q, want the marker", got)
	}
}

func TestCurlDownloadsManyBytes(t *testing.T) {
	s := serveSite(t, "db.example.test")
	const size = 50 << 20
	file := filepath.Join(t.TempDir(), "big")
	s.wrapped().run(t, quietCurl("-o", file, s.url(fmt.Sprintf("/big?bytes=%d", size)))...).must(t)
	if got, want := fileSum(t, file), testkit.BodySum(s.marker, size); got != want {
		t.Errorf("the download has the sum %s, want %s", got, want)
	}
}

func TestCurlUploadsManyBytes(t *testing.T) {
	s := serveSite(t, "db.example.test")
	const size = 20 << 20
	file := bodyFile(t, s.marker, size)
	got := s.wrapped().run(t, quietCurl("-T", file, s.url("/upload"))...).must(t).stdout
	if want := fmt.Sprintf("%s %d\n", fileSum(t, file), size); got != want {
		t.Errorf("the server got %q, want %q", got, want)
	}
}

func TestCurlUploadsFromAPipeInChunks(t *testing.T) {
	s := serveSite(t, "db.example.test")
	const size = 3 << 20
	w := s.wrapped()
	w.stdin = io.LimitReader(testkit.Body(s.marker), size)
	got := w.run(t, quietCurl("-T", "-", s.url("/upload"))...).must(t).stdout
	if want := fmt.Sprintf("%s %d\n", testkit.BodySum(s.marker, size), size); got != want {
		t.Errorf("the server got %q, want %q", got, want)
	}
}

func TestCurlWithTCPFastOpen(t *testing.T) {
	s := serveSite(t, "db.example.test")
	for range 2 { // the second would send its request in the SYN
		got := s.wrapped().run(t, quietCurl("--tcp-fastopen", s.url("/fixed"))...).must(t).stdout
		if got != s.marker+"\n" {
			t.Errorf("curl got %q", got)
		}
	}
}

func TestCurlInParallel(t *testing.T) {
	s := serveSite(t, "db.example.test")
	const transfers = 40
	dir := t.TempDir()
	s.wrapped().run(t, quietCurl("-Z", "--parallel-immediate", "--parallel-max", "40",
		"-o", filepath.Join(dir, "#1"), s.url(fmt.Sprintf("/big?bytes=500000&n=[1-%d]", transfers)))...).must(t)
	want := testkit.BodySum(s.marker, 500000)
	for n := 1; n <= transfers; n++ {
		if got := fileSum(t, filepath.Join(dir, fmt.Sprint(n))); got != want {
			t.Errorf("download %d has the sum %s, want %s", n, got, want)
		}
	}
}

func TestCurlReusesItsConnection(t *testing.T) {
	s := serveSite(t, "db.example.test")
	e := s.wrapped().run(t, quietCurl("-w", "%{num_connects}\n", s.url("/fixed"), s.url("/fixed"))...).must(t)
	if want := s.marker + "\n1\n" + s.marker + "\n0\n"; e.stdout != want {
		t.Errorf("curl said %q, want %q", e.stdout, want)
	}
}

func TestCurlOverIPv6(t *testing.T) {
	for _, host := range []string{"six.example.test", "lan6.example.test"} {
		t.Run(host, func(t *testing.T) {
			s := serveSite(t, host)
			if got := s.wrapped().run(t, quietCurl(s.url("/fixed"))...).must(t).stdout; got != s.marker+"\n" {
				t.Errorf("curl got %q", got)
			}
		})
	}
}

func TestCurlTriesTheSecondAddressWhereTheFirstRefuses(t *testing.T) {
	s := serveSite(t, "dual.example.test") // listens on IPv4 alone; ::1 comes first
	e := s.wrapped().run(t, quietCurl(s.url("/fixed"))...)
	if e.status != 0 || e.stdout != s.marker+"\n" {
		t.Errorf("curl ended with %d and got %q: %s", e.status, e.stdout, e.stderr)
	}
}

func TestWgetDownloads(t *testing.T) {
	s := serveSite(t, "db.example.test")
	const size = 5 << 20
	file := filepath.Join(t.TempDir(), "big")
	s.wrapped().run(t, "wget", "--no-config", "-q", "--tries=1", "-O", file, s.url(fmt.Sprintf("/big?bytes=%d", size))).must(t)
	if got, want := fileSum(t, file), testkit.BodySum(s.marker, size); got != want {
		t.Errorf("the download has the sum %s, want %s", got, want)
	}
}

// bodyFile writes the first size bytes of a site's body to a file.
func bodyFile(t *testing.T, marker string, size int64) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "body"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, io.LimitReader(testkit.Body(marker), size)); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

func fileSum(t *testing.T, file string) string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer f.Close()
	h := sha256.New()
	io.Copy(h, f)
	return fmt.Sprintf("%x", h.Sum(nil))
}

// lines is text as lines, without the empty one at the end.
func lines(text string) []string {
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}
