package supervisor

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/target"
)

// Proof is by what a process is recognized: what stands in its memory, and a descriptor of it, of which
// FD is a copy that came another way.
type Proof struct {
	Memory     []byte
	FD, Number int
}

// Reach tries whether the worker may read a process's memory at an address and copy its descriptors: the
// error says what it may not, in words for a person.
func Reach(pid int, at uint64, p Proof) error {
	t, err := target.Open(pid)
	if err != nil {
		return fmt.Errorf("the worker does not find the process: %w", err)
	}
	defer t.Close()
	found := make([]byte, len(p.Memory))
	if n, err := t.Read(at, found); err != nil || n < len(found) {
		return fmt.Errorf("the worker may not read the program's memory (process_vm_readv: %w)", err)
	}
	fd, err := t.Descriptor(p.Number)
	if err != nil {
		return fmt.Errorf("the worker may not copy the program's descriptors (pidfd_getfd: %w)", err)
	}
	defer unix.Close(fd)
	own, err := inodeOf(p.FD)
	if err != nil {
		return err
	}
	theirs, err := inodeOf(fd)
	if err != nil {
		return err
	}
	if own != theirs || !bytes.Equal(found, p.Memory) {
		return errors.New("the worker finds another process in its place")
	}
	return nil
}
