package record

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// overSocket is a Transport that has a socket.
type overSocket struct {
	*readAhead
	syscall.Conn
}

func newOverSocket(conn net.Conn) overSocket {
	return overSocket{newReadAhead(conn), conn.(syscall.Conn)}
}

// kernelPair is pairOf with the kernel sealing for us, from now on. A peer of crypto/tls does
// not tell close_notify from the end of the connection, so it is one of ours. See
// socketPairWith about room.
func kernelPair(t *testing.T, c testCase, role string, room int) (ours, theirs *Conn, conn *net.TCPConn) {
	t.Helper()
	a, b := socketPairWith(t, room)
	conn = a.(*net.TCPConn)
	if role == "client" {
		ours, theirs = Client(newOverSocket(a), c.clientConfig()), Server(newReadAhead(b), c.serverConfig())
	} else {
		ours, theirs = Server(newOverSocket(a), ServerConfig(c.serverConfig())), Client(newReadAhead(b), c.clientConfig())
	}
	theirs.TakeOverAfter(math.MaxInt64)
	ours.TakeOverAfter(1)
	ours.SealInKernel()
	shakeHands(t, ours, theirs)
	for range 2 {
		if err := errors.Join(warmUp(ours, theirs, 1), warmUp(theirs, ours, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if !ours.taken() || ours.tap.writer.kernel == nil {
		t.Fatal("the kernel does not seal")
	}
	return ours, theirs, conn
}

// TestKernelTLS needs a kernel that has it: "make test-ktls" runs it on one.
func TestKernelTLS(t *testing.T) {
	versions, why := KernelTLS()
	if versions == nil {
		t.Skipf("%v; make test-ktls brings a kernel that does", why)
	}
	t.Logf("%v, %v", versions, why)
	each := func(name string, f func(t *testing.T, c testCase, role string)) {
		for _, c := range cases {
			for _, role := range []string{"client", "server"} {
				if slices.Contains(versions, c.version) {
					t.Run(fmt.Sprintf("%s/%v/%s", name, c, role), func(t *testing.T) { f(t, c, role) })
				}
			}
		}
	}
	each("exchange", func(t *testing.T, c testCase, role string) {
		for _, most := range []int{50, 3000, 16 << 10, 100_000} {
			ours, theirs, _ := kernelPair(t, c, role, 0)
			n := 1 << 20
			if most < 100 {
				n = 50_000
			}
			exchange(t, ours, theirs, n, most)
		}
	})
	each("settled before a close", func(t *testing.T, c testCase, role string) {
		ours, theirs, conn := kernelPair(t, c, role, small)
		want := randomBytes(maxPlaintext, 4)
		if _, err := ours.Write(want); err != nil {
			t.Fatal(err)
		}
		go func() {
			ours.tap.settle()
			conn.Close()
		}()
		if got, err := receive(theirs, 2000); !bytes.Equal(got, want) || err != io.ErrUnexpectedEOF {
			t.Errorf("%d of %d bytes arrived, then %v", len(got), len(want), err)
		}
	})
	each("close_notify comes last", func(t *testing.T, c testCase, role string) {
		ours, theirs, conn := kernelPair(t, c, role, small)
		want := randomBytes(6*maxPlaintext, 4)
		sent := make(chan error, 1)
		go func() {
			_, err := ours.Write(want)
			sent <- errors.Join(err, ours.CloseWrite(), conn.Close())
		}()
		if got, err := receive(theirs, 2000); !bytes.Equal(got, want) || err != nil {
			t.Errorf("%d of %d bytes arrived, then %v", len(got), len(want), err)
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
	})
	each("close does not wait for a peer that does not read", func(t *testing.T, c testCase, role string) {
		ours, _, conn := kernelPair(t, c, role, small)
		written := make(chan error, 1)
		go func() {
			_, err := ours.Write(make([]byte, 64<<20))
			written <- err
		}()
		for n := int64(-1); ; { // until nothing more is taken
			now := positionOf(t, conn)
			if now == n {
				break
			}
			n = now
			time.Sleep(50 * time.Millisecond)
		}
		ours.Close()
		if err := <-written; err == nil {
			t.Error("the write ends well")
		}
	})
	each("key updates at the limit, and as answers", func(t *testing.T, c testCase, role string) {
		if c.version != tls.VersionTLS13 {
			return
		}
		ours, theirs, _ := kernelPair(t, c, role, 0)
		ours.tap.writer.limit = 5
		exchange(t, ours, theirs, 1<<20, 60_000)
		if n := ours.tap.writer.half.seq; n > 20 {
			t.Errorf("the last key has protected %d records", n)
		}
	})
	each("an alert reaches the peer", func(t *testing.T, c testCase, role string) {
		ours, theirs, _ := kernelPair(t, c, role, small)
		ours.tap.refuse(alertBadRecordMAC)
		if _, err := theirs.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "bad record MAC") {
			t.Errorf("the peer reads %v", err)
		}
		if _, err := ours.Write([]byte("more")); err == nil {
			t.Error("something can be written after an alert")
		}
	})
}

// small is less than a record, so that most of one stays behind the socket.
const small = 4 << 10

func positionOf(t *testing.T, conn *net.TCPConn) (at int64) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { at, err = position(int(fd)) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return at
}
