package testkit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
)

// Kernel32 reports whether this machine's kernel can start 32-bit programs, which it finds out
// by trying.
var Kernel32 = sync.OnceValues(func() (bool, error) {
	dir, err := os.MkdirTemp("", "tlswrap-narrow-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	source, program := filepath.Join(dir, "empty.c"), filepath.Join(dir, "empty")
	if err := os.WriteFile(source, []byte("int main(void) { return 0; }\n"), 0o644); err != nil {
		return false, err
	}
	if out, err := exec.Command("i686-linux-gnu-gcc", "-o", program, source).CombinedOutput(); err != nil {
		return false, fmt.Errorf("i686-linux-gnu-gcc: %w\n%s", err, out)
	}
	err = exec.Command(program).Run()
	if errors.Is(err, syscall.ENOEXEC) {
		return false, nil
	}
	return err == nil, err
})

// Narrow is what comes before a 32-bit program on its command line: nothing where the kernel can
// start it, and else qemu-i386 (qemu-user). The program is preloaded with library, if there is
// one: what qemu itself is preloaded with is of another kind.
func Narrow(library string) ([]string, error) {
	can, err := Kernel32()
	if err != nil || can {
		return nil, err
	}
	argv := []string{"qemu-i386"}
	if library != "" {
		argv = append(argv, "-E", "LD_PRELOAD="+library)
	}
	return argv, nil
}
