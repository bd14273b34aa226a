package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A job sends its standard error to a log of its own, runs a command, and only then meets a server that is
// not to be trusted.
func TestJobThatSendsItsStandardErrorElsewhereIsStillToldOf(t *testing.T) {
	s := serveTLS(t, "wrong.example.test", echo)
	target := "db.example.test:" + s.portString()
	const sentence = "certificate is for wrong.example.test"
	flags := []string{"--ca", lab.rootPEM, "--tls", target}
	job := func(dir string) []string {
		script := `exec >>"$1/job.log" 2>&1; /bin/true; sleep 0.5; "$2" -c 'import socket, sys
try: socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
except OSError as e: print(e)' db.example.test "$3"`
		return []string{"sh", "-c", script, "sh", dir, python, s.portString()}
	}
	inShell := func(shell string) func(dir string, argv []string) string {
		return func(dir string, argv []string) string {
			e := wrapped{bare: true}.run(t, append([]string{"sh", "-c", shell, "sh", dir}, argv...)...)
			said, _ := os.ReadFile(filepath.Join(dir, "err"))
			return e.stdout + e.stderr + string(said)
		}
	}
	for name, run := range map[string]func(dir string, argv []string) string{
		"a pipe":     inShell(`shift; "$@"`),
		"a file":     inShell(`dir=$1; shift; "$@" 2>"$dir/err"`),
		"a terminal": inShell(`shift; exec ` + python + ` -c 'import os, pty, sys; sys.exit(pty.spawn(sys.argv[1:]))' "$@"`),
		"a log": func(dir string, argv []string) string {
			log := filepath.Join(dir, "log")
			argv = append([]string{argv[0], "-q", "--log", log}, argv[1:]...)
			wrapped{bare: true}.run(t, append([]string{"sh", "-c", `exec "$@" 2>/dev/null`, "sh"}, argv...)...)
			said, _ := os.ReadFile(log)
			return string(said)
		},
	} {
		dir := t.TempDir()
		argv := append(append([]string{lab.tlswrap}, flags...), job(dir)...)
		if said := run(dir, argv); strings.Count(said, sentence) != 1 {
			log, _ := os.ReadFile(filepath.Join(dir, "job.log"))
			t.Errorf("%s: said %q, want %q; the job's own log: %q", name, said, sentence, log)
		}
	}
}
