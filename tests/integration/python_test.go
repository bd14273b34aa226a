package integration

import (
	"fmt"
	"testing"

	"tlswrap/tests/testkit"
)

const python = "/usr/bin/python3"

// mustSayIntact runs a program that compares what it sent with what came back.
func mustSayIntact(t *testing.T, w wrapped, argv ...string) {
	t.Helper()
	e := w.run(t, argv...)
	if e.status != 0 || e.stdout != "intact\n" || e.stderr != "" {
		t.Errorf("status %d\nstdout: %s\nstderr: %s", e.status, tail(e.stdout), tail(e.stderr))
	}
}

func TestPythonUrllibDownloads(t *testing.T) {
	s := serveSite(t, "db.example.test")
	const size = 5 << 20
	url := s.url(fmt.Sprintf("/big?bytes=%d", size))
	got := s.wrapped().run(t, python, testFile(t, "urllib_get.py"), url).must(t).stdout
	if want := testkit.BodySum(s.marker, size) + "\n"; got != want {
		t.Errorf("urllib read the sum %q, want %q", got, want)
	}
}

func TestPythonAsyncioStreams(t *testing.T) {
	s := serveTLS(t, "db.example.test", echo)
	mustSayIntact(t, s.wrapped(), python, testFile(t, "asyncio_echo.py"), s.host, s.portString(), s.marker)
}

func TestPythonBufferedSocketKeepsItsOptions(t *testing.T) {
	s := serveTLS(t, "db.example.test", echo)
	mustSayIntact(t, s.wrapped(), python, testFile(t, "makefile_echo.py"), s.host, s.portString(), s.marker)
}
