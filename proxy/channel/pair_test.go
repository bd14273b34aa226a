package channel

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/buffers"
)

// newTestPair returns a channel and the program's end of it.
func newTestPair(t *testing.T, name string) (*Pair, *os.File) {
	t.Helper()
	pr, p, err := New(fmt.Sprintf("tlswrap-test/%d/%s", os.Getpid(), t.Name()+name), false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pr.Close)
	unix.SetNonblock(p, true)
	f := os.NewFile(uintptr(p), "p")
	t.Cleanup(func() { f.Close() })
	return pr, f
}

func events(t *testing.T, f *os.File) int16 {
	t.Helper()
	p := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN | unix.POLLOUT}}
	if _, err := unix.Poll(p, 0); err != nil {
		t.Fatal(err)
	}
	return p[0].Revents
}

func TestPendingChannelIsNotWritable(t *testing.T) {
	pr, p := newTestPair(t, "")
	if e := events(t, p); e != 0 {
		t.Errorf("pending: events %#x", e)
	}
	if _, err := unix.Write(int(p.Fd()), []byte("x")); err != unix.EAGAIN {
		t.Errorf("pending: write gives %v", err)
	}
	if err := pr.Accept(); err != nil {
		t.Fatal(err)
	}
	if e := events(t, p); e != unix.POLLOUT {
		t.Errorf("accepted: events %#x", e)
	}
}

func TestEveryEndButFinishIsAReset(t *testing.T) {
	read := func(t *testing.T, p *os.File) error {
		_, err := unix.Read(int(p.Fd()), make([]byte, 1))
		return err
	}
	t.Run("while pending", func(t *testing.T) {
		pr, p := newTestPair(t, "")
		pr.Close()
		if e := events(t, p); e&(unix.POLLERR|unix.POLLHUP) != unix.POLLERR|unix.POLLHUP {
			t.Errorf("events %#x", e)
		}
		if err := read(t, p); err != unix.ECONNRESET {
			t.Errorf("read gives %v", err)
		}
	})
	t.Run("after traffic", func(t *testing.T) {
		pr, p := newTestPair(t, "")
		if err := pr.Accept(); err != nil {
			t.Fatal(err)
		}
		p.WriteString("hello")
		buf, n, err := pr.Next()
		if err != nil || string((*buf)[:n]) != "hello" {
			t.Fatalf("got %d bytes, %v", n, err)
		}
		buffers.Put(buf)
		pr.Close()
		if err := read(t, p); err != unix.ECONNRESET {
			t.Errorf("read gives %v", err)
		}
	})
	t.Run("finish", func(t *testing.T) {
		pr, p := newTestPair(t, "")
		if err := pr.Accept(); err != nil {
			t.Fatal(err)
		}
		pr.Finish()
		if err := read(t, p); err != nil {
			t.Errorf("read gives %v, expected the end", err)
		}
		p.WriteString("still")
		buf, n, err := pr.Next()
		if err != nil || string((*buf)[:n]) != "still" {
			t.Fatalf("got %d bytes, %v", n, err)
		}
		buffers.Put(buf)
	})
}

func TestWhatTheProgramWritesArrivesWhole(t *testing.T) {
	pr, p := newTestPair(t, "")
	const total = 50 << 20
	sent := make(chan [sha256.Size]byte, 1)
	go func() {
		h := sha256.New()
		data := make([]byte, 200<<10)
		for i := range data {
			data[i] = byte(rand.Uint32())
		}
		for left := total; left > 0; {
			n := min(left, 1+rand.IntN(len(data)))
			if rand.IntN(4) == 0 {
				n = min(n, 1+rand.IntN(10))
			}
			h.Write(data[:n])
			if _, err := p.Write(data[:n]); err != nil {
				break
			}
			left -= n
		}
		unix.Shutdown(int(p.Fd()), unix.SHUT_WR)
		sent <- [sha256.Size]byte(h.Sum(nil))
	}()
	if err := pr.Accept(); err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	got := 0
	for {
		buf, n, err := pr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		h.Write((*buf)[:n])
		got += n
		buffers.Put(buf)
	}
	if want := <-sent; got != total || !bytes.Equal(h.Sum(nil), want[:]) {
		t.Errorf("%d of %d bytes arrived, or not the right ones", got, total)
	}
	if pr.HungUp() {
		t.Error("a half-close looks like a close")
	}
	p.Close()
	pr.Gone()
	if !pr.HungUp() {
		t.Error("a close looks like a half-close")
	}
}

func TestReadEndsWhenThePairIsClosed(t *testing.T) {
	pr, _ := newTestPair(t, "")
	if err := pr.Accept(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { _, _, err := pr.Next(); done <- err }()
	pr.Close()
	if err := <-done; !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkAccept(b *testing.B) {
	for range b.N {
		b.StopTimer()
		pr, p, err := New("", false)
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := pr.Accept(); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		pr.Close()
		unix.Close(p)
		b.StartTimer()
	}
}
