package libtls

import (
	"bytes"
	"io"
	"testing"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/wire"
)

// A program may write anything into a header: only what lies within a slot is a frame.
func TestFramesInARing(t *testing.T) {
	r, fd, err := newRing()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	defer unix.Munmap(r.memory)
	header := func(slot, n uint32) uint32 { return wire.FrameInRing | slot<<wire.RingSlotShift | n }
	for _, bad := range []uint32{header(wire.RingSlots, 1), header(0, wire.FrameMost+1), header(0x7fff, wire.FrameMost), header(wire.RingSlots-1, 0xffff)} {
		if b := r.frame(bad); b != nil {
			t.Errorf("header %#x is a frame of %d bytes", bad, len(b))
		}
	}
	if b := r.frame(header(wire.RingSlots-1, wire.FrameMost)); len(b) != wire.FrameMost {
		t.Errorf("the last slot has %d bytes", len(b))
	}
	if b := (*ring)(nil).frame(header(0, 1)); b != nil {
		t.Error("without a ring there is a frame")
	}

	// What the program writes is there, and it cannot make the memory smaller.
	want := bytes.Repeat([]byte{7}, 100)
	if _, err := unix.Pwrite(fd, want, wire.RingHeader+wire.FrameMost); err != nil {
		t.Fatal(err)
	}
	if got := r.frame(header(1, 100)); !bytes.Equal(got, want) {
		t.Errorf("got %x", got)
	}
	if err := unix.Ftruncate(fd, 0); err != unix.EPERM {
		t.Errorf("making it smaller: %v", err)
	}
	r.release(3)
	taken := make([]byte, 4)
	if _, err := unix.Pread(fd, taken, 0); err != nil && err != io.EOF || taken[0]+taken[3] != 3 {
		t.Errorf("taken is %x, %v", taken, err)
	}
}

// There are so many, and they are given back.
func TestRingsAreBounded(t *testing.T) {
	w := NewFront(nil)
	var all []*stream
	for range mostRings {
		s := &stream{state: &State{front: w}}
		fd, err := s.openRing()
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		all = append(all, s)
	}
	last := &stream{state: &State{front: w}}
	if _, err := last.openRing(); err == nil {
		t.Error("there is one more")
	}
	if _, err := all[0].openRing(); err == nil {
		t.Error("a connection has two")
	}
	for _, s := range all {
		s.closeRing()
		s.closeRing()
	}
	if fd, err := last.openRing(); err != nil || w.rings.Load() != 1 {
		t.Errorf("after that: %v, %d", err, w.rings.Load())
	} else {
		unix.Close(fd)
	}
	last.closeRing()
	if _, err := last.openRing(); err == nil {
		t.Error("a connection that has ended gets one")
	}
}
