package seccomp

import (
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
)

// Pending has the numbers of the notifications that their receiver has not answered yet, in a memory file. The kernel
// hands each over once, so that whoever else has the listener learns from there what is left to be answered when the
// receiver has died. Its methods may be called from any goroutine, and not after Close.
type Pending struct {
	memory []byte

	mu   sync.Mutex
	free []int // slots that were used before
	used int   // slots that were
}

// pendingSlots is how many there can be at a time, one for each thread that waits; of more the file does not know.
const pendingSlots = 1 << 16

// NewPending makes the memory file; fd is the caller's to close.
func NewPending() (p *Pending, fd int, err error) {
	fd, memory, err := fdio.NewMemoryFile("tlswrap-pending", 8*pendingSlots)
	if err != nil {
		return nil, -1, err
	}
	return &Pending{memory: memory}, fd, nil
}

// slot is where a number stands.
func (p *Pending) slot(i int) *uint64 { return (*uint64)(unsafe.Pointer(&p.memory[8*i])) }

// Add notes a notification, and returns what Done takes.
func (p *Pending) Add(id uint64) (slot int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch last := len(p.free) - 1; {
	case last >= 0:
		slot, p.free = p.free[last], p.free[:last]
	case p.used < pendingSlots:
		slot = p.used
		p.used++
	default:
		return -1
	}
	atomic.StoreUint64(p.slot(slot), id)
	return slot
}

// Done notes that it is answered, or that nobody waits for that.
func (p *Pending) Done(slot int) {
	if slot < 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	atomic.StoreUint64(p.slot(slot), 0)
	p.free = append(p.free, slot)
}

// Close frees the memory.
func (p *Pending) Close() { unix.Munmap(p.memory) }

// ReadPending returns the notifications that are noted in a Pending's file. One that was about to be answered may be
// among them: to answer it twice is an error without consequence.
func ReadPending(fd int) (ids []uint64, err error) {
	memory, err := unix.Mmap(fd, 0, 8*pendingSlots, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping the notifications: %w", err)
	}
	p := Pending{memory: memory}
	defer p.Close()
	for i := range pendingSlots {
		if id := atomic.LoadUint64(p.slot(i)); id != 0 {
			ids = append(ids, id)
		}
	}
	return ids, nil
}
