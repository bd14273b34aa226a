package libtls

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/libtls/engine"
)

// Whatever a program sends, a folder with links in it or a file of somebody's in the place of
// words, the worker reads nothing by name for it, and repeats nothing of a file.
func TestWorkerOpensNothingForLibtls(t *testing.T) {
	const secret = "the secret of another"
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	if err := os.WriteFile(target, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, filepath.Join(dir, "00000000.0")); err != nil {
		t.Fatal(err)
	}
	open := func(name string) int {
		fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	if data, err := fdio.ReadFile(open(dir), engine.Most); len(data) != 0 || err != nil {
		t.Errorf("a folder reads as %q, %v", data, err)
	}
	for _, name := range []string{dir, target} {
		if data, err := loadWords(open(name)); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s in the place of words reads as %q, %v", name, data, err)
		}
	}
	if _, err := loadWords(-1); err == nil {
		t.Error("no descriptor reads as words")
	}
}
