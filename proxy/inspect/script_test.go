package inspect

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// sayOwnFile in the environment makes this program say which file it was started from, and end.
const sayOwnFile = "INSPECT_TEST_SAY_OWN_FILE"

func TestMain(m *testing.M) {
	if os.Getenv(sayOwnFile) != "" {
		own, _ := os.Readlink("/proc/self/exe")
		fmt.Print(own)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// kernelStarts writes a script, and an interpreter for every path that its line could be taken to name, and
// returns the one that the kernel starts, or the error of execve.
func kernelStarts(t *testing.T, program string, script []byte) (string, error) {
	t.Helper()
	dir := t.TempDir()
	line := script[2:min(len(script), headSize)]
	for from := range line {
		for to := from + 1; to <= len(line); to++ {
			name := line[from:to]
			if bytes.IndexByte(name, 0) < 0 && name[0] == 'i' && (from == 0 || line[from-1] != 'i') {
				os.Link(program, filepath.Join(dir, string(name)))
			}
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "script"), script, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("./script")
	cmd.Dir, cmd.Env = dir, []string{sayOwnFile + "=1"}
	out, err := cmd.Output()
	return strings.TrimPrefix(string(out), dir+"/"), err
}

func TestInterpreterIsTheOneThatTheKernelStarts(t *testing.T) {
	own, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	program := filepath.Join(t.TempDir(), "program")
	file, err := os.OpenFile(program, os.O_CREATE|os.O_WRONLY, 0o755)
	if err == nil {
		_, err = io.Copy(file, own)
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		t.Fatal(err)
	}

	long := func(n int) string { return strings.Repeat("i", n) }
	lines := []string{
		"i\n", "i", " \ti\n", "i \n", "i\targument\n", "i\r\n", "i\u00a0 static\n", "i\u00a0x\n", "i\u0085\n", "i\v\n", "i\f x\n",
		"i\x00x\n", "i x\x00\n", "\n", " \t\n", "", " ", "\x00", "\ni\n", "i\xff\n", " " + long(9) + strings.Repeat(" ", 250) + "x",
		strings.Repeat(" ", 253) + "i", strings.Repeat(" ", 254) + "i\n", strings.Repeat(" ", 300) + "\n", strings.Repeat(" ", 252) + "i\n",
		strings.Repeat(" ", 252) + "i x", strings.Repeat("\t", 252) + "ix", strings.Repeat(" ", 200) + long(54), strings.Repeat(" ", 200) + long(53) + "\n",
		strings.Repeat(" ", 200) + long(53) + " x", strings.Repeat(" ", 200) + long(80) + "\n", strings.Repeat(" ", 200) + long(53),
	}
	random := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"i", "i", "x", " ", "\t", "\n", "\r", "\v", "\f", "\u00a0", "\u0085", "\u2003", "\x00"}
	for range 150 {
		line := strings.Repeat(" ", random.IntN(2)*248)
		for range 1 + random.IntN(8) {
			line += pieces[random.IntN(len(pieces))]
		}
		lines = append(lines, line)
	}
	for _, line := range lines {
		script := []byte("#!" + line)
		head := make([]byte, headSize)
		copy(head, script)
		got, gotErr := scriptInterpreter(head)
		want, err := kernelStarts(t, program, script)
		if errors.Is(err, unix.ENOEXEC) {
			want, err = shell, nil
		}
		switch {
		case gotErr != nil && err == nil:
			t.Errorf("%q: refused (%v), and the kernel starts %q", line, gotErr, want)
		case gotErr == nil && err == nil && got != want:
			t.Errorf("%q: taken to be started with %q, and the kernel starts %q", line, got, want)
		case gotErr == nil && err != nil && got[0] == 'i':
			t.Errorf("%q: taken to be started with %q, and the kernel says: %v", line, got, err)
		}
	}
}
