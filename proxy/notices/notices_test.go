package notices

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/wire"
)

func newTestNotices(t *testing.T) *Notices {
	t.Helper()
	n, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// begin and leave are what the shim does: see leave in preload/notice.c.
func (n *Notices) begin() (number uint32) { return atomic.AddUint32(&n.shared.Next, 1) - 1 }

func (n *Notices) leave(number uint32, port uint16) {
	at := &n.shared.At[number%wire.MostNotices]
	at.PID = 42
	copy(at.To[:], wire.AppendAddr(nil, wire.Addr{IP: netip.MustParseAddr("192.0.2.1"), Port: port}))
	atomic.StoreUint32(&at.Turn, number+1)
}

// ports are those of the notices that are received now.
func (n *Notices) ports() (ports []uint16, untold uint64) {
	n.Receive(func(all []wire.Notice) {
		for _, notice := range all {
			ports = append(ports, notice.To.Port)
			untold += notice.Untold
		}
	})
	return ports, untold
}

func TestNoticesAreReceivedOnceAndInOrder(t *testing.T) {
	n := newTestNotices(t)
	n.shared.Next, n.taken = ^uint32(0)-100, ^uint32(0)-100 // they are counted beyond 32 bits
	for range 3 {
		var want []uint16
		for port := range uint16(3*atOnce + 1) {
			n.leave(n.begin(), port)
			want = append(want, port)
		}
		if got, _ := n.ports(); !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		if got, _ := n.ports(); len(got) > 0 || n.shared.Taken != n.shared.Next {
			t.Fatalf("got %v again; of %d notices %d are taken", got, n.shared.Next, n.shared.Taken)
		}
	}
}

// A thread that ends before it has left its notice keeps those of others waiting, and not for long.
func TestNoticeThatIsNeverLeftIsPassedOver(t *testing.T) {
	n := newTestNotices(t)
	n.leave(n.begin(), 1)
	late := n.begin()
	n.leave(n.begin(), 3)
	if got, _ := n.ports(); !slices.Equal(got, []uint16{1}) {
		t.Fatalf("got %v before the second was left", got)
	}
	if !n.waiting() {
		t.Error("nobody would look again")
	}
	n.begun = n.begun.Add(-fillTime)
	n.ports()
	n.leave(n.begin(), 4)
	if got, untold := n.ports(); !slices.Equal(got, []uint16{3, 4}) || untold != 1 {
		t.Errorf("got %v, and %d that there is no notice of", got, untold)
	}
	n.leave(late, 2) // too late
	if got, _ := n.ports(); len(got) > 0 {
		t.Errorf("got %v", got)
	}
}

// What a program makes of the memory is bounded, and does not end what others leave there for long.
func TestNoticesSurviveAHostileProgram(t *testing.T) {
	n := newTestNotices(t)
	for _, next := range []uint32{1 << 31, ^uint32(0), 7 * wire.MostNotices} {
		for i := range n.shared.At {
			n.shared.At[i] = wire.SharedNotice{Turn: next - uint32(i), PID: -1, To: [wire.AddrLen]byte{0xff}}
		}
		n.shared.Next, n.shared.Taken, n.shared.Untold = next, next/2, ^uint32(0)
		if got, _ := n.ports(); len(got) > wire.MostNotices {
			t.Fatalf("%d notices at once", len(got))
		}
		for range 3 {
			n.begun = time.Now().Add(-fillTime)
			n.ports()
		}
		n.shared.Untold = 0
		n.leave(n.begin(), 80)
		if got, _ := n.ports(); !slices.Equal(got, []uint16{80}) {
			t.Fatalf("after %#x: got %v, of %d notices %d are taken", next, got, n.shared.Next, n.taken)
		}
	}
}

// A program can leave notices faster than they are received. Whoever receives them has other things to do.
func TestNoticesThatNeverEndAreLeftForTheNextTime(t *testing.T) {
	n := newTestNotices(t)
	for range atOnce {
		n.leave(n.begin(), 80)
	}
	received := 0
	n.Receive(func(all []wire.Notice) {
		if received += len(all); received > 4*wire.MostNotices {
			t.Fatalf("%d are received, and more come", received)
		}
		for range atOnce {
			n.leave(n.begin(), 80)
		}
	})
	before := received
	if more, _ := n.ports(); len(more) == 0 {
		t.Errorf("after %d none is left for the next time", before)
	}
}

// The worker wakes up for who has the token, and what others send does not take a place in the queue.
func TestBellIsRungByItsTokenAlone(t *testing.T) {
	n := newTestNotices(t)
	heard := make(chan []uint16)
	go n.Await(func() {
		if ports, _ := n.ports(); len(ports) > 0 {
			heard <- ports
		}
	})
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	send := func(b []byte) {
		if err := unix.Sendto(fd, b, unix.MSG_DONTWAIT, &unix.SockaddrUnix{Name: "@" + n.Bell.Name[1:]}); err != nil {
			t.Error(err)
		}
	}
	for !func() bool { n.mu.Lock(); defer n.mu.Unlock(); return atomic.LoadUint32(&n.shared.Asleep) == 1 }() {
		time.Sleep(time.Millisecond)
	}
	for i := range 1000 { // of which the queue would not take so many
		wrong := slices.Clone(n.Bell.Token[:])
		wrong[i%wire.TokenLen]++
		send(wrong)
		send(n.Bell.Token[:i%wire.TokenLen])
		send(append(n.Bell.Token[:], 0))
	}
	raw, err := n.socket.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		if rung(int(fd)) {
			t.Error("the bell was rung by others")
		}
	})
	n.leave(n.begin(), 80)
	send(n.Bell.Token[:])
	if got := <-heard; !slices.Equal(got, []uint16{80}) {
		t.Errorf("got %v", got)
	}
}

func TestNoticesEnd(t *testing.T) {
	n := newTestNotices(t)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.Await(func() { n.Receive(func([]wire.Notice) {}) })
	}()
	n.leave(n.begin(), 80)
	n.Close()
	<-ended
	n.Close()
	if got, _ := n.ports(); len(got) > 0 || n.File() >= 0 {
		t.Errorf("got %v from a file %d", got, n.File())
	}
	var none *Notices
	none.Receive(func([]wire.Notice) { t.Error("nobody's notices") })
	none.Close()
	if none.File() >= 0 {
		t.Error("nobody's file")
	}
}
