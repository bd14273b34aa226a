package fdio

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// aSocket is one, and the other end, and a call that reads a byte.
func aSocket(t *testing.T) (s *Socket, other int, read Call) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if s, err = New(fds[0], "test"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		unix.Close(fds[1])
	})
	return s, fds[1], NewCall(func(fd int) bool {
		_, err := RawCall(unix.SYS_READ, fd, make([]byte, 1), 0)
		return err != unix.EAGAIN
	})
}

// A wait in which nothing comes ends, and can be made again. Any other is not cut short by that.
func TestAWaitEndsWhereNothingComes(t *testing.T) {
	t.Parallel()
	s, other, read := aSocket(t)
	for range 2 {
		began := time.Now()
		if err := s.ReadUnlessIdle(read); err != ErrIdle || time.Since(began) < IdleAfter {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	}
	unix.Write(other, []byte("ab"))
	if err := s.ReadUnlessIdle(read); err != nil {
		t.Error(err)
	}
	if err := s.ReadWith(read); err != nil {
		t.Error(err)
	}
	time.AfterFunc(2*IdleAfter, func() { unix.Write(other, []byte("c")) })
	if err := s.ReadWith(read); err != nil {
		t.Errorf("a wait that is to last: %v", err)
	}
}

// Bytes that come now and then keep a wait from ending.
func TestAWaitGoesOnWhereBytesCome(t *testing.T) {
	t.Parallel()
	s, other, read := aSocket(t)
	ticker := time.NewTicker(IdleAfter / 4)
	defer ticker.Stop()
	go func() {
		for range ticker.C {
			unix.Write(other, []byte("a"))
		}
	}()
	for range 12 {
		if err := s.ReadUnlessIdle(read); err != nil {
			t.Fatal(err)
		}
	}
}

// A deadline that somebody sets counts, whether it was there before or comes during the wait.
func TestADeadlineCountsBesideIdling(t *testing.T) {
	t.Parallel()
	for _, d := range []struct {
		name  string
		after time.Duration // from the begin of the wait until it is set
		limit time.Duration // from then on
	}{
		{"there before, soon", 0, IdleAfter / 4},
		{"there before, late", 0, 5 * IdleAfter / 2},
		{"comes, and has passed", IdleAfter / 4, -time.Second},
		{"comes, and is late", IdleAfter / 4, 5 * IdleAfter / 2},
	} {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			s, _, read := aSocket(t)
			began := time.Now()
			set := func() { s.SetReadDeadline(time.Now().Add(d.limit)) }
			if d.after == 0 {
				set()
			} else {
				time.AfterFunc(d.after, set)
			}
			err := s.ReadUnlessIdle(read)
			if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || took < d.after+d.limit {
				t.Errorf("after %v: %v", took, err)
			}
		})
	}
}

// A socket that is closed ends any wait.
func TestAClosedSocketIsNotIdle(t *testing.T) {
	t.Parallel()
	s, _, read := aSocket(t)
	time.AfterFunc(IdleAfter/4, func() { s.Close() })
	if err := s.ReadUnlessIdle(read); err != os.ErrClosed {
		t.Error(err)
	}
}
