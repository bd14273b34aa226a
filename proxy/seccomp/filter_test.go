package seccomp

import (
	"encoding/binary"
	"fmt"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// decide is what the kernel makes of a call (__secure_computing in kernel/seccomp.c).
func decide(t *testing.T, code []unix.SockFilter, n Notification) uint32 {
	t.Helper()
	const begin = 16 // of struct seccomp_data in struct seccomp_notif
	data := unsafe.Slice((*byte)(unsafe.Pointer(&n)), unsafe.Sizeof(n))[begin:]
	accumulator := uint32(0)
	for i := 0; i < len(code); i++ {
		in := code[i]
		holds := false
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			accumulator = binary.NativeEndian.Uint32(data[in.K:])
			continue
		case unix.BPF_RET | unix.BPF_K:
			return in.K
		case unix.BPF_JMP | unix.BPF_JA:
			i += int(in.K)
			continue
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			holds = accumulator == in.K
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			holds = accumulator >= in.K
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			holds = accumulator&in.K != 0
		default:
			t.Fatalf("instruction %d has the code %#x", i, in.Code)
		}
		if holds {
			i += int(in.Jt)
		} else {
			i += int(in.Jf)
		}
	}
	t.Fatal("the filter has no end")
	return 0
}

const (
	allowed  = uint32(unix.SECCOMP_RET_ALLOW)
	notified = uint32(unix.SECCOMP_RET_USER_NOTIF)
	unknown  = uint32(unix.SECCOMP_RET_ERRNO) | uint32(unix.ENOSYS)
)

const cookie = Cookie(0x1122334455667788)

func TestFilter(t *testing.T) {
	own := abis[0].arch
	type args = [6]uint64
	with := args{5: uint64(cookie)}
	tests := map[string]struct {
		arch           uint32
		number         uint32
		args           args
		usual, enforce uint32
	}{
		"read":                             {own, unix.SYS_READ, args{}, allowed, allowed},
		"close":                            {own, unix.SYS_CLOSE, args{}, allowed, allowed},
		"socket":                           {own, unix.SYS_SOCKET, args{}, allowed, allowed},
		"connect":                          {own, unix.SYS_CONNECT, args{}, notified, notified},
		"connect with the cookie":          {own, unix.SYS_CONNECT, with, allowed, notified},
		"connect with its low half":        {own, unix.SYS_CONNECT, args{5: uint64(cookie) & (1<<32 - 1)}, notified, notified},
		"connect with it elsewhere":        {own, unix.SYS_CONNECT, args{3: uint64(cookie)}, notified, notified},
		"listen":                           {own, unix.SYS_LISTEN, args{}, notified, notified},
		"listen with the cookie":           {own, unix.SYS_LISTEN, with, allowed, notified},
		"accept4 with the cookie":          {own, unix.SYS_ACCEPT4, with, allowed, allowed},
		"getsockopt":                       {own, unix.SYS_GETSOCKOPT, args{}, notified, notified},
		"getsockopt with the cookie":       {own, unix.SYS_GETSOCKOPT, with, allowed, allowed},
		"sendto":                           {own, unix.SYS_SENDTO, args{}, allowed, allowed},
		"sendto an address":                {own, unix.SYS_SENDTO, args{4: 1 << 40}, notified, notified},
		"sendto with MSG_FASTOPEN":         {own, unix.SYS_SENDTO, args{3: unix.MSG_FASTOPEN}, notified, notified},
		"sendto netlink":                   {own, unix.SYS_SENDTO, args{4: 1 << 40, 5: 12}, allowed, allowed},
		"sendto that with MSG_FASTOPEN":    {own, unix.SYS_SENDTO, args{3: unix.MSG_FASTOPEN, 4: 1 << 40, 5: 12}, notified, notified},
		"bind":                             {own, unix.SYS_BIND, args{2: 16}, notified, notified},
		"bind with the cookie":             {own, unix.SYS_BIND, args{2: 16, 5: uint64(cookie)}, allowed, allowed},
		"bind of netlink":                  {own, unix.SYS_BIND, args{2: 12}, allowed, allowed},
		"sendmsg":                          {own, unix.SYS_SENDMSG, args{}, notified, notified},
		"sendmsg with the cookie":          {own, unix.SYS_SENDMSG, with, allowed, allowed},
		"sendmsg with both":                {own, unix.SYS_SENDMSG, args{2: unix.MSG_FASTOPEN, 5: uint64(cookie)}, allowed, notified},
		"sendmmsg with both":               {own, unix.SYS_SENDMMSG, args{3: unix.MSG_FASTOPEN, 5: uint64(cookie)}, allowed, notified},
		"io_uring_setup":                   {own, unix.SYS_IO_URING_SETUP, with, unknown, unknown},
		"connect of an unknown machine":    {0x12345678, unix.SYS_CONNECT, with, unknown, unknown},
		"anything else of such":            {0x12345678, unix.SYS_READ, with, unknown, unknown},
		"a number that there is not (yet)": {own, 5000, args{}, allowed, allowed},
	}
	for name, test := range tests {
		for enforce, want := range map[bool]uint32{false: test.usual, true: test.enforce} {
			t.Run(fmt.Sprintf("%s/enforce %v", name, enforce), func(t *testing.T) {
				code, err := Filter(Policy{Cookie: cookie, Enforce: enforce})
				if err != nil {
					t.Fatal(err)
				}
				got := decide(t, code, Notification{nr: int32(test.number), arch: test.arch, args: test.args})
				if got != want {
					t.Errorf("the kernel would answer %#x, want %#x", got, want)
				}
			})
		}
	}
}

// A notification says what is asked by the numbers of the way in which the call was made.
func TestAsked(t *testing.T) {
	for _, a := range abis {
		for _, n := range a.numbers {
			number, want := n.number, n.Call
			if want == ioUring || want == socketcall {
				continue
			}
			asks := Notification{nr: int32(number), arch: a.arch, args: [6]uint64{1, 2, 3}}
			if got, ok := asks.Asked(); !ok || got.Call != want || got.Args != asks.args || got.InMemory || got.Wide != a.wide {
				t.Errorf("call %d of %#x is %+v, %v", number, a.arch, got, ok)
			}
		}
	}
	n := Notification{nr: unix.SYS_READ, arch: abis[0].arch}
	if got, ok := n.Asked(); ok {
		t.Errorf("read(2) is taken for %+v", got)
	}
}

// A tracer gets the same calls as a listener, has no listener before it, and no child is hidden from it.
func TestFilterForATracer(t *testing.T) {
	const stops = uint32(unix.SECCOMP_RET_TRACE)
	const busy = uint32(unix.SECCOMP_RET_ERRNO) | uint32(unix.EBUSY)
	code, err := Filter(Policy{Cookie: cookie, Traced: true})
	if err != nil {
		t.Fatal(err)
	}
	own, handed := abis[0], stops
	if own.clone == 0 {
		handed = unknown
	}
	tests := map[string]struct {
		number uint32
		args   [6]uint64
		want   uint32
	}{
		"read":                       {unix.SYS_READ, [6]uint64{}, allowed},
		"connect":                    {unix.SYS_CONNECT, [6]uint64{}, handed},
		"connect with the cookie":    {unix.SYS_CONNECT, [6]uint64{5: uint64(cookie)}, allowed},
		"sendto an address":          {unix.SYS_SENDTO, [6]uint64{4: 1}, handed},
		"sendto":                     {unix.SYS_SENDTO, [6]uint64{}, allowed},
		"io_uring_setup":             {unix.SYS_IO_URING_SETUP, [6]uint64{}, unknown},
		"seccomp with a listener":    {unix.SYS_SECCOMP, [6]uint64{1, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER}, busy},
		"seccomp with more than one": {unix.SYS_SECCOMP, [6]uint64{1, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH}, busy},
		"seccomp":                    {unix.SYS_SECCOMP, [6]uint64{1}, allowed},
		"clone":                      {unix.SYS_CLONE, [6]uint64{unix.CLONE_VM}, allowed},
	}
	for name, test := range tests {
		if got := decide(t, code, Notification{nr: int32(test.number), arch: own.arch, args: test.args}); got != test.want {
			t.Errorf("%s: the kernel would answer %#x, want %#x", name, got, test.want)
		}
	}
	if own.clone != 0 {
		hidden := Notification{nr: unix.SYS_CLONE, arch: own.arch, args: [6]uint64{unix.CLONE_VM | unix.CLONE_UNTRACED}}
		if got := decide(t, code, hidden); got != stops {
			t.Errorf("clone with CLONE_UNTRACED: the kernel would answer %#x", got)
		}
	}
	for _, a := range abis[1:] { // what a tracer cannot read
		for _, c := range a.numbers {
			if c.Call != Connect {
				continue
			}
			if got := decide(t, code, Notification{nr: int32(c.number), arch: a.arch}); got != unknown {
				t.Errorf("connect of %#x: the kernel would answer %#x", a.arch, got)
			}
			if got := decide(t, code, Notification{nr: int32(a.install), arch: a.arch, args: [6]uint64{1, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER}}); got != busy {
				t.Errorf("a listener of %#x: the kernel would answer %#x", a.arch, got)
			}
		}
	}
}
