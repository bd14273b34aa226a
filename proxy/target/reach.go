package target

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Proof is by what a process is recognized: what stands in its memory, and a descriptor of it, of which
// FD is a copy that came another way.
type Proof struct {
	Memory     []byte
	FD, Number int
}

// Shown is what a process finds that reaches this one, for as long as this one keeps it (runtime.KeepAlive).
type Shown [16]byte

// Show makes one of up to 16 bytes. It is not on a stack, as those move.
//
//go:noinline
func Show(b []byte) *Shown {
	s := new(Shown)
	copy(s[:], b)
	return s
}

// Address is where it is.
func (s *Shown) Address() uint64 { return uint64(uintptr(unsafe.Pointer(s))) }

// Admit lets a process look into this one where Yama would let nobody but parents (PR_SET_PTRACER). It
// does nothing where there is no Yama; 0 takes it back.
func Admit(pid int) { unix.Prctl(unix.PR_SET_PTRACER, uintptr(pid), 0, 0, 0) }

// Access is what came of trying to reach a process: why this one may not read its memory, or not copy its
// descriptors, and what would allow it, in a sentence for a person, which fits into a wire.Reply; nil where
// it may.
type Access struct{ Memory, Descriptors error }

// Err is why the process cannot be reached, or nil.
func (a Access) Err() error {
	if a.Memory != nil {
		return a.Memory
	}
	return a.Descriptors
}

var errAnother = errors.New("the worker finds another process in the program's place")

// Reach tries whether this process may read another's memory, at an address, and copy its descriptors.
func Reach(pid int, at uint64, p Proof) Access {
	t, err := Open(pid)
	if err != nil {
		err = fmt.Errorf("the worker does not find the program (%w), which takes Linux 5.3, one PID namespace for both, "+
			"and a container's profile that allows pidfd_open", err)
		return Access{(&Thread{TID: pid}).showsMemory(at, p), err}
	}
	defer t.Close()
	return Access{t.showsMemory(at, p), t.showsDescriptor(p)}
}

func (t *Thread) showsMemory(at uint64, p Proof) error {
	found := make([]byte, len(p.Memory))
	_, err := t.Read(at, found)
	if err == nil && !bytes.Equal(found, p.Memory) {
		return errAnother
	}
	return refusal("read the program's memory", "process_vm_readv", err)
}

func (t *Thread) showsDescriptor(p Proof) error {
	fd, err := t.Descriptor(p.Number)
	if err != nil {
		return refusal("copy the program's descriptors", "pidfd_getfd", err)
	}
	defer unix.Close(fd)
	var own, theirs unix.Stat_t
	if err := errors.Join(unix.Fstat(p.FD, &own), unix.Fstat(fd, &theirs)); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if own.Ino != theirs.Ino || own.Dev != theirs.Dev {
		return errAnother
	}
	return nil
}

// refusal is err of a call, with what would allow it.
func refusal(what, call string, err error) error {
	if err == nil {
		return nil
	}
	allow := "the same user for both or CAP_SYS_PTRACE, and a container's profile that allows the call (Docker's may want that capability)"
	switch scope, known := Yama(); {
	case err == unix.ENOSYS:
		allow = "Linux 5.6, and a container's profile that allows the call"
	case known != nil:
		return fmt.Errorf("the worker may not %s (%s: %w), and it cannot be told whether Yama allows it (%w)", what, call, err, known)
	case err == unix.EPERM && scope == yamaPrivileged:
		allow = "CAP_SYS_PTRACE, or at most a 1 in " + yama
	case err == unix.EPERM && scope > yamaPrivileged:
		allow = fmt.Sprintf("at most a 2 in %s, and the machine to be started anew", yama)
	}
	return fmt.Errorf("the worker may not %s (%s: %w), which takes %s", what, call, err, allow)
}

// yamaPrivileged is the ptrace_scope from which on nobody can be let in (Documentation/admin-guide/LSM/Yama.rst).
const yamaPrivileged = 2

const yama = "/proc/sys/kernel/yama/ptrace_scope"

// Yama returns how far that security module restricts ptrace(2), and what needs the same rights: from 0,
// not at all, to 3; -1 where there is no such module.
func Yama() (scope int, err error) {
	text, err := os.ReadFile(yama)
	if errors.Is(err, os.ErrNotExist) {
		return -1, nil
	}
	if err != nil {
		return -1, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// Threads tells how a thread that is not its process's first can be reached: by a pidfd of its own, or, where
// that is not, as one that has the descriptors of its process, or not at all, for which why is.
func Threads() (pidfds bool, why error) {
	fd, refused := unix.PidfdOpen(unix.Gettid(), pidfdThread)
	if refused == nil {
		unix.Close(fd)
		return true, nil
	}
	if _, err := sharesFiles(unix.Gettid(), unix.Getpid()); err != nil {
		return false, fmt.Errorf("%w (pidfd_open: %w; kcmp: %w), which takes Linux 6.9, or CONFIG_KCMP", ErrCannotTell, refused, err)
	}
	return false, nil
}
