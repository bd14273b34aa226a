package seccomp

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Programs of 64 bits may make calls as those of 32 do, and as x32's.
func TestFilterOfOtherWays(t *testing.T) {
	const low = uint64(cookie) & (1<<32 - 1)
	tests := map[string]struct {
		arch, number uint32
		args         [6]uint64
		want         uint32
	}{
		"i386's read":                    {unix.AUDIT_ARCH_I386, 3, [6]uint64{}, allowed},
		"i386's connect":                 {unix.AUDIT_ARCH_I386, 362, [6]uint64{}, notified},
		"i386's connect with the cookie": {unix.AUDIT_ARCH_I386, 362, [6]uint64{5: low}, allowed},
		"socketcall's connect":           {unix.AUDIT_ARCH_I386, 102, [6]uint64{0: 3, 5: low}, notified},
		"socketcall's socket":            {unix.AUDIT_ARCH_I386, 102, [6]uint64{0: 1}, allowed},
		"socketcall's send":              {unix.AUDIT_ARCH_I386, 102, [6]uint64{0: 9}, allowed},
		"i386's io_uring_setup":          {unix.AUDIT_ARCH_I386, 425, [6]uint64{}, unknown},
		"x32's connect":                  {unix.AUDIT_ARCH_X86_64, 1<<30 + unix.SYS_CONNECT, [6]uint64{5: uint64(cookie)}, unknown},
		"x32's read":                     {unix.AUDIT_ARCH_X86_64, 1 << 30, [6]uint64{}, unknown},
	}
	code, err := Filter(Policy{Cookie: cookie})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range tests {
		if got := decide(t, code, Notification{nr: int32(test.number), arch: test.arch, args: test.args}); got != test.want {
			t.Errorf("%s: the kernel would answer %#x, want %#x", name, got, test.want)
		}
	}
	enforced, err := Filter(Policy{Cookie: cookie, Enforce: true})
	if err != nil {
		t.Fatal(err)
	}
	for number := range uint64(21) {
		if got := decide(t, enforced, Notification{nr: 102, arch: unix.AUDIT_ARCH_I386, args: [6]uint64{0: number, 5: low}}); got != unknown {
			t.Errorf("enforced, socketcall %d: the kernel would answer %#x", number, got)
		}
	}
	n := Notification{nr: 102, arch: unix.AUDIT_ARCH_I386, args: [6]uint64{0: 3, 1: 0x1000}}
	if got, ok := n.Asked(); !ok || got.Call != Connect || !got.InMemory || got.Wide {
		t.Errorf("socketcall's connect is %+v, %v", got, ok)
	}
}
