package libtls

import (
	"errors"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/wire"
)

// ring is memory that a program and the worker share, for the frames that a libtls connection
// sends (libtls/wire.h). What the program does to it meanwhile changes what is sent, and nothing
// else. It is used by one goroutine.
type ring struct {
	memory []byte
	taken  uint32
}

// mostRings bounds the memory of them all, 0.5 MiB each. Other connections use frames alone.
const mostRings = 128

// openRing makes a stream's ring. The caller closes fd.
func (t *stream) openRing() (fd int, err error) {
	if t == nil {
		return -1, errors.New("there is no such connection")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over || t.ring.Load() != nil {
		return -1, errors.New("the connection has ended, or has a ring")
	}
	if t.state.front.rings.Add(1) > mostRings {
		t.state.front.rings.Add(-1)
		return -1, unix.ENOMEM
	}
	r, fd, err := newRing()
	if err != nil {
		t.state.front.rings.Add(-1)
		return -1, err
	}
	t.ring.Store(r)
	return fd, nil
}

// closeRing gives the memory back. Nothing is sent any more.
func (t *stream) closeRing() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	if r := t.ring.Swap(nil); r != nil {
		unix.Munmap(r.memory)
		t.state.front.rings.Add(-1)
	}
}

func newRing() (*ring, int, error) {
	fd, memory, err := fdio.NewSharedFile("libtls-ring", wire.RingSize)
	if err != nil {
		return nil, -1, err
	}
	return &ring{memory: memory}, fd, nil
}

// frame returns what a header names, or nil.
func (r *ring) frame(header uint32) []byte {
	slot, n := header&^wire.FrameInRing>>wire.RingSlotShift, header&(1<<wire.RingSlotShift-1)
	if r == nil || slot >= wire.RingSlots || n > wire.FrameMost {
		return nil
	}
	return r.memory[wire.RingHeader+slot*wire.FrameMost:][:n:n]
}

// release has the program use n slots again.
func (r *ring) release(n int) {
	r.taken += uint32(n)
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&r.memory[0])), r.taken)
}
