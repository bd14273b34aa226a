package proxy

import (
	"os"

	"golang.org/x/sys/unix"

	"tlswrap/rules"
)

// portMap is the memory file that programs map to see which ports no rule is about: see
// preload/wire.h.
type portMap struct {
	fd     int
	memory []byte
}

func newPortMap() (*portMap, error) {
	fd, err := unix.MemfdCreate("tlswrap-ports", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	size := len(rules.PortMap{})
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return nil, os.NewSyscallError("ftruncate", err)
	}
	m := &portMap{fd: fd}
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

// change runs swap, which puts new rules in force, so that at no time a port is clear
// that the rules in force are about.
func (m *portMap) change(ports *rules.PortMap, swap func()) {
	for i, b := range ports {
		m.memory[i] |= b
	}
	swap()
	copy(m.memory, ports[:])
}
