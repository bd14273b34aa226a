package supervisor

import (
	"bytes"
	"encoding/binary"
	"os"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/seccomp"
	"tlswrap/proxy/target"
)

// waiting is a kernel whose every thread waits, and which does nothing for it.
type waiting struct{ kernel }

func (waiting) Waits(uint64) bool { return true }

// own is a call of this process's, whose memory can be read as any target's.
func own(tb testing.TB) *call {
	thread, err := target.Open(os.Getpid())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(thread.Close)
	return &call{supervision: &supervision{listener: waiting{}, told: make(map[int]bool)}, Asked: seccomp.Asked{Wide: true}, thread: thread}
}

func at(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }

// Whatever stands in a target's memory in the place of an address is read without harm, and is what it
// was when it is written again.
func FuzzAddresses(f *testing.F) {
	f.Add([]byte{unix.AF_INET, 0, 0, 80, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}, uint64(16))
	f.Add([]byte{unix.AF_INET6, 0, 1, 187, 0, 0, 0, 0, 15: 1, 27: 0}, uint64(28))
	f.Add([]byte{unix.AF_INET6, 0, 1, 187, 23: 1}, uint64(24))
	f.Add([]byte{}, uint64(1)<<40)
	c := own(f)
	f.Fuzz(func(t *testing.T, memory []byte, length uint64) {
		memory = append(bytes.Clone(memory), 0)
		a, refusal := c.readAddress(at(memory), length)
		runtime.KeepAlive(memory)
		switch {
		case refusal != nil:
			return
		case len(a.raw) != int(int32(length)):
			t.Fatalf("an address of %d bytes has %d", length, len(a.raw))
		case a.internet:
			again, ok := parseAddress(formatAddress(a.Addr))
			if !ok || again != a.Addr {
				t.Fatalf("%v is %v, %v once it was written", a.Addr, again, ok)
			}
		}
	})
}

// A message's header leads to an address, vectors and control messages, all anywhere.
func FuzzMessages(f *testing.F) {
	header := func(name uint64, length uint32, vectors, count uint64) []byte {
		b := binary.NativeEndian.AppendUint64(nil, name)
		b = binary.NativeEndian.AppendUint64(b, uint64(length))
		b = binary.NativeEndian.AppendUint64(b, vectors)
		b = binary.NativeEndian.AppendUint64(b, count)
		return append(b, make([]byte, 24)...)
	}
	text := []byte("GET / HTTP/1.0\r\n\r\n")
	vector := binary.NativeEndian.AppendUint64(binary.NativeEndian.AppendUint64(nil, at(text)), uint64(len(text)))
	f.Add(header(0, 0, at(vector), 1), unix.MSG_FASTOPEN, true)
	f.Add(header(at(text), 16, at(vector), 1), 0, true)
	f.Add(header(at(text), 1<<31, at(vector), 1<<40), 0, true)
	f.Add(make([]byte, 28), unix.MSG_FASTOPEN, false)
	c := own(f)
	f.Fuzz(func(t *testing.T, memory []byte, flags int, wide bool) {
		memory = append(bytes.Clone(memory), make([]byte, 64)...)
		c.Wide = wide
		m, refusal := c.readMessage(at(memory), flags)
		runtime.KeepAlive(memory)
		if refusal != nil {
			return
		}
		if len(m.vectors) > mostVectors || len(m.control) > mostControl || len(m.to.raw) > unix.SizeofSockaddrAny {
			t.Fatalf("%d vectors, %d bytes of control messages, %d of an address", len(m.vectors), len(m.control), len(m.to.raw))
		}
		if data, refusal := c.gather(m.vectors); refusal == nil && len(data) > mostSent {
			t.Fatalf("%d bytes", len(data))
		}
	})
	runtime.KeepAlive(text)
	runtime.KeepAlive(vector)
}

// What the kernel writes of epoll sets and of mappings is read as text.
func FuzzMappings(f *testing.F) {
	f.Add([]byte("7f0a6c5d3000-7f0a6c5d4000 r-xp 00028000 08:01 1234                       /usr/lib/x86_64-linux-gnu/libc.so.6\n"))
	f.Add([]byte("ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		if m, ok := parseMapping(line); ok && len(m.file) == 0 {
			t.Fatal("a mapping of no file")
		}
	})
}
