package integration

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// startLogging starts a long-lived worker that writes a log.
func startLogging(t *testing.T, s *site, log string) (w wrapped, worker *running) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "control", "socket")
	worker = wrapped{bare: true}.start(t, append([]string{lab.tlswrap, "worker", "--socket", socket, "--log", log}, s.flags()...)...)
	eventually(t, "the worker serves", 20*time.Second, func() bool { return strings.Contains(worker.stderr.String(), "serves") })
	return wrapped{flags: []string{"--worker", socket}}, worker
}

func contains(file, word string) bool {
	b, err := os.ReadFile(file)
	return err == nil && strings.Contains(string(b), word)
}

func TestLogThatWasRenamedIsOpenedAnew(t *testing.T) {
	s := serveSite(t, "db.example.test")
	log := filepath.Join(t.TempDir(), "log")
	w, worker := startLogging(t, s, log)
	w.run(t, quietCurl(s.url("/fixed"))...).must(t)
	for _, hup := range []bool{true, false} {
		if err := os.Rename(log, log+".1"); err != nil {
			t.Fatal(err)
		}
		if hup {
			worker.cmd.Process.Signal(syscall.SIGHUP)
			eventually(t, "the log is there again", 10*time.Second, func() bool { _, err := os.Stat(log); return err == nil })
		}
		old, err := os.Stat(log + ".1")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(1100 * time.Millisecond) // as long as it may write to the old one
		w.run(t, quietCurl(s.url("/fixed"))...).must(t)
		eventually(t, "the new log has the connection", 10*time.Second, func() bool { return contains(log, `"connected"`) })
		if now, err := os.Stat(log + ".1"); err != nil || now.Size() != old.Size() {
			t.Errorf("signal %v: the old log grew, or is gone: %v", hup, err)
		}
	}
}

func TestFullDiskIsSaidAndLostLinesAreCounted(t *testing.T) {
	s := serveSite(t, "db.example.test")
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	log, filler := filepath.Join(dir, "log"), filepath.Join(dir, "filler")
	fill := func() { os.WriteFile(filler, make([]byte, 1<<20), 0o600) } // as much as there is room for

	fill()
	flags := append(s.flags(), "--log", log)
	e := wrapped{flags: flags}.run(t, quietCurl(s.url("/fixed"))...)
	if e.status != 0 || strings.Count(e.stderr, "loses lines: ") != 1 {
		t.Errorf("a single run: status %d, stderr %q", e.status, e.stderr)
	}

	w, worker := startLogging(t, s, log)
	for range 2 {
		w.run(t, quietCurl(s.url("/fixed"))...).must(t)
	}
	eventually(t, "the worker says so", 10*time.Second, func() bool { return strings.Contains(worker.stderr.String(), "loses lines: ") })
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	w.run(t, quietCurl(s.url("/fixed"))...).must(t)
	eventually(t, "the log counts what was lost", 10*time.Second, func() bool {
		return contains(log, `"lines lost"`) && strings.Contains(worker.stderr.String(), "lines were lost")
	})
	if n := strings.Count(worker.stderr.String(), "loses lines: "); n != 1 {
		t.Errorf("said %d times: %s", n, worker.stderr)
	}
}
