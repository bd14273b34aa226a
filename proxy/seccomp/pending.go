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
// receiver has died. Before them stand the number that was noted last, and how many slots were used. Its methods may
// be called from any goroutine, and not after Close.
type Pending struct {
	memory []byte

	mu   sync.Mutex
	free []int // slots that were used before
	used int   // slots that were
}

// pendingSlots is how many there can be at a time, one for each thread that waits; of more the file does not know.
const pendingSlots = 1 << 16

// pendingHead is how many numbers stand before the slots.
const pendingHead = 2

const pendingSize = 8 * (pendingHead + pendingSlots)

// NewPending makes the memory file; fd is the caller's to close.
func NewPending() (p *Pending, fd int, err error) {
	fd, memory, err := fdio.NewMemoryFile("tlswrap-pending", pendingSize)
	if err != nil {
		return nil, -1, err
	}
	return &Pending{memory: memory}, fd, nil
}

func (p *Pending) number(i int) *uint64 { return (*uint64)(unsafe.Pointer(&p.memory[8*i])) }

func (p *Pending) newest() *uint64    { return p.number(0) }
func (p *Pending) ever() *uint64      { return p.number(1) }
func (p *Pending) slot(i int) *uint64 { return p.number(pendingHead + i) }

// Add notes a notification, and returns what Done takes.
func (p *Pending) Add(id uint64) (slot int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	atomic.StoreUint64(p.newest(), id)
	switch last := len(p.free) - 1; {
	case last >= 0:
		slot, p.free = p.free[last], p.free[:last]
	case p.used < pendingSlots:
		slot = p.used
		p.used++
		atomic.StoreUint64(p.ever(), uint64(p.used))
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

// ReadPending returns the notifications that are noted in a Pending's file, and the number that was noted last, 0
// for none. One that was about to be answered may be among them: to answer it twice is an error without
// consequence. The kernel counts them, so that one which the receiver died with before it noted that is among the
// next ones.
func ReadPending(fd int) (ids []uint64, newest uint64, err error) {
	memory, err := unix.Mmap(fd, 0, pendingSize, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, 0, fmt.Errorf("mapping the notifications: %w", err)
	}
	p := Pending{memory: memory}
	defer p.Close()
	newest = atomic.LoadUint64(p.newest())
	for i := range min(atomic.LoadUint64(p.ever()), pendingSlots) {
		if id := atomic.LoadUint64(p.slot(int(i))); id != 0 {
			ids = append(ids, id)
		}
	}
	return ids, newest, nil
}
