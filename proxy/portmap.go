package proxy

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"tlswrap/rules"
)

// portMap is the memory file that programs map to see which ports no rule is about: see
// preload/wire.h.
type portMap struct {
	fd     int
	memory []byte

	mu    sync.Mutex
	ruled rules.PortMap  // the ports that the rules are about
	held  map[uint16]int // ports that are set whatever the rules say, and how often
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
	m := &portMap{fd: fd, held: make(map[uint16]int)}
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
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, b := range ports {
		m.memory[i] |= b
	}
	swap()
	m.ruled = *ports
	next := *ports
	for port := range m.held {
		next[port/8] |= 1 << (port % 8)
	}
	copy(m.memory, next[:])
}

// hold sets a port, until as many calls of release.
func (m *portMap) hold(port uint16) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held[port]++
	m.memory[port/8] |= 1 << (port % 8)
}

func (m *portMap) release(port uint16) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held[port]--; m.held[port] > 0 {
		return
	}
	delete(m.held, port)
	bit := byte(1) << (port % 8)
	m.memory[port/8] &^= bit &^ m.ruled[port/8]
}
