package integration

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A worker in a PID namespace of its own sees all its programs with the number 0.
func TestDaemonsSessionOutlivesItsParentInAnotherPIDNamespace(t *testing.T) {
	s := serveSite(t, "db.example.test")
	socket := filepath.Join(t.TempDir(), "control", "socket")
	worker := wrapped{bare: true}.start(t, append([]string{"unshare", "--pid", "--fork", "--kill-child", "--mount-proc",
		lab.tlswrap, "worker", "--socket", socket}, s.flags()...)...)
	eventually(t, "the worker serves", 20*time.Second, func() bool { return strings.Contains(worker.stderr.String(), "serves") })
	defer worker.cmd.Process.Signal(syscall.SIGTERM)
	// The parent ends first, after the child was born, and the child connects later than a session lingers.
	e := wrapped{flags: []string{"--worker", socket}}.run(t, append([]string{"sh", "-c", `(sleep 4; exec "$@") & sleep 1`, "sh"}, quietCurl(s.url("/fixed"))...)...)
	if e.status != 0 || e.stdout != s.marker+"\n" {
		t.Errorf("status %d, got %q, stderr %q", e.status, e.stdout, e.stderr)
	}
}
