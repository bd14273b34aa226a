package proxy

import (
	"bytes"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"tlswrap/rules"
)

// portMap is the memory files that programs map to see which ports no rule is about: see
// preload/wire.h. One is for sessions whose every connection is to be seen: in it all
// ports that programs connect to are set.
type portMap struct{ plain, seen *mapFile }

func newPortMap() (*portMap, error) {
	plain, err := newMapFile()
	if err != nil {
		return nil, err
	}
	seen, err := newMapFile()
	return &portMap{plain, seen}, err
}

// fd is the file for a program.
func (m *portMap) fd(seen bool) int {
	if seen {
		return m.seen.fd
	}
	return m.plain.fd
}

// change runs swap, which puts new rules in force, so that at no time a port is clear
// that the rules in force are about.
func (m *portMap) change(connects, listens *rules.PortMap, swap func()) {
	plain := slices.Concat(connects[:], listens[:])
	seen := slices.Concat(bytes.Repeat([]byte{0xff}, len(connects)), listens[:])
	m.plain.set(plain)
	m.seen.set(seen)
	swap()
	copy(m.plain.memory, plain)
	copy(m.seen.memory, seen)
}

type mapFile struct {
	fd     int
	memory []byte
}

func newMapFile() (*mapFile, error) {
	fd, err := unix.MemfdCreate("tlswrap-ports", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	const size = 2 * len(rules.PortMap{})
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return nil, os.NewSyscallError("ftruncate", err)
	}
	m := &mapFile{fd: fd}
	if m.memory, err = unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	// No program can write to it, or make another's access a SIGBUS. The worker's own
	// mapping is older than the seal and stays writable (fcntl(2), F_SEAL_FUTURE_WRITE).
	seals := unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_FUTURE_WRITE | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return m, nil
}

// set sets the bits of ports, and clears none.
func (m *mapFile) set(ports []byte) {
	for i, b := range ports {
		m.memory[i] |= b
	}
}
