package room

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/tests/testkit"
)

// holdVariable has this test binary be a worker that opens a room and stays.
const holdVariable = "TLSWRAP_TEST_HOLD_ROOM"

func TestMain(m *testing.M) {
	if os.Args[0] == Stage {
		Keep()
		os.Exit(0)
	}
	if os.Getenv(holdVariable) != "" {
		// As a worker: nobody may look into it.
		err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
		var r *Room
		if err == nil {
			r, err = Open(discard)
		}
		if err == nil {
			_, err = r.Socket(unix.AF_INET, unix.SOCK_DGRAM)
		}
		fmt.Println(err)
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var discard = slog.New(slog.DiscardHandler)

// ways are those of keeping a room.
var ways = map[string]func(theirs int) error{
	"by a thread":  func(theirs int) error { startThread(discard, theirs); return nil },
	"by a process": func(theirs int) error { return startWarden(discard, theirs) },
}

// inEachRoom runs a test for each way that this machine allows.
func inEachRoom(t *testing.T, test func(t *testing.T, r *Room)) {
	for way, start := range ways {
		t.Run(way, func(t *testing.T) {
			r, err := openWith(start)
			if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
				testkit.KernelLacks(t, "this machine allows no network namespace kept "+way)
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(r.Close)
			test(t, r)
		})
	}
}

// socket makes a socket in a room until the test ends.
func socket(t *testing.T, r *Room, domain, typ int) int {
	t.Helper()
	fd, err := r.Socket(domain, typ)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// places are addresses as programs of each family write them. Nobody has them.
func places(t *testing.T, r *Room) map[int][]netip.Addr {
	all := map[int][]netip.Addr{
		unix.AF_INET:  {netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("127.0.0.53"), netip.MustParseAddr("10.0.0.1")},
		unix.AF_INET6: {netip.MustParseAddr("::ffff:192.0.2.53")},
	}
	if len(r.Packets) > 1 {
		all[unix.AF_INET6] = append(all[unix.AF_INET6], netip.MustParseAddr("2001:db8::53"), netip.MustParseAddr("::1"))
	} else if testkit.NotTested(t.Name(), "the kernel has no IPv6") != nil {
		t.Error("a room has no IPv6")
	}
	return all
}

func sockaddr(domain int, to netip.AddrPort) unix.Sockaddr {
	if domain == unix.AF_INET {
		return &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
	}
	return &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}
}

func TestEveryAddressIsHere(t *testing.T) {
	inEachRoom(t, func(t *testing.T, r *Room) {
		for domain, all := range places(t, r) {
			for _, ip := range all {
				if _, err := connect(t, r, domain, netip.AddrPortFrom(ip, 80)); err != unix.ECONNREFUSED {
					t.Errorf("%v, where nobody listens: %v", ip, err)
				}
				i := 0
				if !ip.Unmap().Is4() {
					i = 1
				}
				if _, err := connect(t, r, domain, netip.AddrPortFrom(ip, 53)); err != nil {
					t.Errorf("%v: %v", ip, err)
					continue
				}
				r.Streams[i].SetDeadline(time.Now().Add(5 * time.Second))
				c, err := r.Streams[i].Accept()
				if err != nil {
					t.Fatal(err)
				}
				if got := c.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap(); got != ip.Unmap() {
					t.Errorf("a connection to %v came to %v", ip, got)
				}
				c.Close()
				if err := unix.Sendto(socket(t, r, domain, unix.SOCK_DGRAM), []byte("hello"), 0, sockaddr(domain, netip.AddrPortFrom(ip, 53))); err != nil {
					t.Errorf("%v: %v", ip, err)
				}
				r.Packets[i].SetDeadline(time.Now().Add(5 * time.Second))
				b, control := make([]byte, 100), make([]byte, 100)
				n, controlLen, _, _, err := r.Packets[i].ReadMsgUDP(b, control)
				if err != nil || string(b[:n]) != "hello" || controlLen == 0 {
					t.Errorf("%v: got %q with %d bytes of control messages, %v", ip, b[:n], controlLen, err)
				}
			}
		}
	})
}

func connect(t *testing.T, r *Room, domain int, to netip.AddrPort) (int, error) {
	fd := socket(t, r, domain, unix.SOCK_STREAM)
	return fd, unix.Connect(fd, sockaddr(domain, to))
}

func TestSocketsAreNotInherited(t *testing.T) {
	inEachRoom(t, func(t *testing.T, r *Room) {
		flags, err := unix.FcntlInt(uintptr(socket(t, r, unix.AF_INET, unix.SOCK_STREAM)), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("flags %#x, %v", flags, err)
		}
		if _, err := r.Socket(unix.AF_INET, 99); !errors.Is(err, unix.EINVAL) {
			t.Errorf("a socket of no type: %v", err)
		}
	})
}

func TestClosedRoomIsEmpty(t *testing.T) {
	inEachRoom(t, func(t *testing.T, r *Room) {
		fd := socket(t, r, unix.AF_INET, unix.SOCK_STREAM)
		r.Close()
		r.Close()
		if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{192, 0, 2, 53}, Port: 53}); err != unix.ECONNREFUSED {
			t.Errorf("connect: %v", err)
		}
		if _, err := r.Socket(unix.AF_INET, unix.SOCK_STREAM); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a socket: %v", err)
		}
	})
}

// The worker itself stays where it was.
func TestRoomIsNotTheWorkers(t *testing.T) {
	before, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	inEachRoom(t, func(t *testing.T, r *Room) {
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			elsewhere := threadsElsewhere(t, before) // a closed room's thread may be about to end
			if now, _ := os.Readlink("/proc/self/ns/net"); now != before {
				t.Fatalf("the process is in %s, and was in %s", now, before)
			}
			if elsewhere <= 1 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d threads are elsewhere", elsewhere)
			}
		}
	})
}

// threadsElsewhere counts those of this process that are in another network namespace.
func threadsElsewhere(t *testing.T, than string) (n int) {
	threads, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil || len(threads) == 0 {
		t.Fatal(threads, err)
	}
	for _, thread := range threads {
		if now, err := os.Readlink(thread); err == nil && now != than {
			n++
		}
	}
	return n
}

// However a worker ends, what it has started ends.
func TestKeeperEndsWithItsWorker(t *testing.T) {
	for name, nobody := range map[string]bool{"ended": true, "killed": false} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env, cmd.Dir = append(os.Environ(), holdVariable+"=1"), "/"
			cmd.Stderr = os.Stderr
			if os.Geteuid() == 0 {
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			}
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			line, _ := bufio.NewReader(out).ReadString('\n')
			warden := wardenOf(cmd.Process.Pid)
			if nobody {
				in.Close()
			} else {
				cmd.Process.Kill()
			}
			cmd.Wait()
			if strings.Contains(line, "operation not permitted") || strings.Contains(line, "no space left") {
				testkit.KernelLacks(t, "an ordinary user may make no network namespace here: "+strings.TrimSpace(line))
			}
			if line != "<nil>\n" || warden < 0 {
				t.Fatalf("the worker says %q, and its warden is %d", line, warden)
			}
			defer unix.Close(warden)
			ended := []unix.PollFd{{Fd: int32(warden), Events: unix.POLLIN}}
			if err := fdio.Again(func() error {
				n, err := unix.Poll(ended, 5000)
				if err == nil && n != 1 {
					err = unix.ETIMEDOUT
				}
				return err
			}); err != nil {
				t.Errorf("what keeps the room lives on (%v)", err)
			}
		})
	}
}

// wardenOf is a pidfd of the process that keeps a room for worker, or -1.
func wardenOf(worker int) int {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, line := range lines {
		if text, _ := os.ReadFile(line); string(text) != Stage+"\x00" {
			continue
		}
		dir := filepath.Dir(line)
		status, _ := os.ReadFile(dir + "/status")
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || !strings.Contains(string(status), fmt.Sprintf("\nPPid:\t%d\n", worker)) {
			continue
		}
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			return fd
		}
	}
	return -1
}

// A machine may allow neither way: then the sentence says what was tried.
func TestWhatIsNotAllowedIsSaid(t *testing.T) {
	_, err := openWith(func(theirs int) error {
		go func() {
			send(theirs, os.NewSyscallError("unshare", unix.EPERM))
			unix.Close(theirs)
		}()
		return nil
	})
	if !errors.Is(err, unix.EPERM) || err.Error() != "unshare: operation not permitted" {
		t.Errorf("got %v", err)
	}
	_, err = openWith(func(theirs int) error { return unix.Close(theirs) })
	if err != errSilent {
		t.Errorf("a warden that is gone: %v", err)
	}
}
