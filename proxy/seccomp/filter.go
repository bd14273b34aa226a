// Package seccomp has a filter under programs, by which the kernel hands their control calls on sockets to
// the worker, and what the kernel offers to whoever answers such a call (seccomp_unotify(2)). What is
// answered is the supervisor's; how the caller's memory and descriptors are reached is target's. tlswrap
// calls it before it becomes the program.
package seccomp

import (
	"cmp"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Cookie is what the shim's own calls carry in the register that they do not use, the sixth, so that the
// kernel lets them through. It keeps accidents out, and not a program that looks for it in its memory.
type Cookie uint64

// Offsets in struct seccomp_data (linux/seccomp.h).
const (
	atNumber = 0
	atArch   = 4
	atArgs   = 16
)

// low and high are where the halves of an argument stand, on machines that put the low one first: all
// that there is a filter for.
func low(arg int) uint32  { return uint32(atArgs + 8*arg) }
func high(arg int) uint32 { return uint32(atArgs + 8*arg + 4) }

// Call is a call that is handed over, by whatever number it has on a machine.
type Call int

// What is handed over.
const (
	Connect Call = iota + 1
	Bind
	Listen
	Accept
	Accept4
	Getsockname
	Getpeername
	Getsockopt
	Setsockopt
	Sendto
	Sendmsg
	Sendmmsg
	Reach      // prctl(2) by the shim with an option of ours: it asks for a connection to the worker
	socketcall // socketcall(2) of 32-bit programs, which names one of the others by a number
	ioUring    // io_uring_setup(2), which is answered with ENOSYS: what a ring does no filter sees
)

// reachOption is the option of Reach (TW_MAGIC in preload/wire.h), which prctl(2) does not know.
const reachOption = 0x544c5702

// netlinkAddress is the size of a netlink(7) socket's address, with which the C library asks the kernel about
// interfaces at each look-up of a name. As an address of the Internet it is too short: bind(2) and sendto(2) answer
// that with EINVAL.
const netlinkAddress = unix.SizeofSockaddrNetlink

// inSocketcall are the calls by their numbers in socketcall(2) (linux/net.h).
var inSocketcall = []numbered{
	{2, Bind}, {3, Connect}, {4, Listen}, {5, Accept}, {6, Getsockname}, {7, Getpeername}, {11, Sendto},
	{14, Setsockopt}, {15, Getsockopt}, {16, Sendmsg}, {18, Accept4}, {20, Sendmmsg},
}

// numbered is a call, and the number that it has in some way.
type numbered struct {
	number uint32
	Call
}

// find returns the call of a number.
func find(in []numbered, number uint32) (Call, bool) {
	for _, n := range in {
		if n.number == number {
			return n.Call, true
		}
	}
	return 0, false
}

// abi is one way to make system calls.
type abi struct {
	arch    uint32 // AUDIT_ARCH_… (linux/audit.h)
	numbers []numbered
	wide    bool   // registers have 64 bits
	foreign uint32 // numbers from here on are another way's, which is answered with ENOSYS; 0: none
	install uint32 // the number of seccomp(2)
	clone   uint32 // the number of clone(2), where a tracer can read the calls of this way; 0: it cannot
}

// of returns what a notification is about, and its arguments: those of socketcall(2) are in memory.
func (a abi) of(number uint32) (Call, bool) {
	return find(a.numbers, number)
}

// abiOf finds the way in which a call was made.
func abiOf(arch uint32) (abi, bool) {
	for _, a := range abis {
		if a.arch == arch {
			return a, true
		}
	}
	return abi{}, false
}

// Policy is what a filter lets through.
type Policy struct {
	Cookie Cookie
	// Enforce has calls handed over that make a connection or let clients in, whatever they carry: a
	// program can find the cookie.
	Enforce bool
	// Traced has calls stop for a tracer (ptrace(2)) and not wait for a listener. Without a tracer they are
	// answered with ENOSYS, and so are those that a tracer cannot read.
	Traced bool
}

// taken is where the calls of one way go that are handed over.
func (by Policy) taken(a abi) string {
	if by.Traced && a.clone == 0 {
		return "unknown"
	}
	return "notify"
}

// Filter is the program by which the kernel decides (seccomp(2)). What comes with the cookie passes; what
// comes in a way that the filter does not know is answered with ENOSYS.
func Filter(by Policy) ([]unix.SockFilter, error) {
	var p program
	for i, a := range abis {
		next := fmt.Sprint("after ", i)
		p.load(atArch)
		p.unless(unix.BPF_JEQ, a.arch, next)
		a.filter(&p, fmt.Sprint(i), by)
		p.label(next)
	}
	p.label("unknown")
	p.end(unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS))
	p.label("notify")
	p.end(by.action())
	p.label("busy")
	p.end(unix.SECCOMP_RET_ERRNO | uint32(unix.EBUSY))
	p.label("allow")
	p.end(unix.SECCOMP_RET_ALLOW)
	return p.assemble()
}

// action is what hands a call over.
func (by Policy) action() uint32 {
	if by.Traced {
		return unix.SECCOMP_RET_TRACE
	}
	return unix.SECCOMP_RET_USER_NOTIF
}

// filter decides about the calls of one way; name makes its labels its own.
func (a abi) filter(p *program, name string, by Policy) {
	p.load(atNumber)
	if a.foreign != 0 {
		p.when(unix.BPF_JGE, a.foreign, "unknown")
	}
	p.unless(unix.BPF_JGE, a.least(by), "allow") // read(2) and the like
	for _, c := range a.numbers {
		p.when(unix.BPF_JEQ, c.number, c.part(by)+" "+name)
	}
	if by.Traced {
		a.ofTracing(p)
	}
	p.jump("allow")

	p.label("reach " + name)
	p.load(low(0))
	p.unless(unix.BPF_JEQ, reachOption, "allow")
	p.load(low(5))
	p.when(unix.BPF_JEQ, uint32(by.Cookie), by.taken(a))
	p.jump("allow")

	p.label("never " + name)
	p.jump("unknown")
	p.label("always " + name)
	p.jump(by.taken(a))
	a.ofSending(p, name, by.taken(a))
	p.label("socketcall " + name)
	p.load(low(0))
	for _, c := range inSocketcall {
		p.when(unix.BPF_JEQ, c.number, by.taken(a))
	}
	p.jump("allow")

	p.label("bind " + name)
	p.load(low(2))
	p.when(unix.BPF_JEQ, netlinkAddress, "allow")
	p.label("cookie " + name)
	p.load(low(5))
	p.unless(unix.BPF_JEQ, uint32(by.Cookie), by.taken(a))
	if a.wide {
		p.load(high(5))
		p.unless(unix.BPF_JEQ, uint32(by.Cookie>>32), by.taken(a))
	}
	p.jump("allow")
}

// part is the part of a filter that decides about a call.
func (c Call) part(by Policy) string {
	switch {
	case c == ioUring, c == socketcall && by.Enforce: // its arguments, flags too, are in memory that another thread can change
		return "never"
	case c == Reach:
		return "reach"
	case c == Sendto:
		return "sendto"
	case c == Bind:
		return "bind"
	case c == socketcall:
		return "socketcall"
	case by.Enforce && (c == Connect || c == Listen):
		return "always"
	case by.Enforce && c == Sendmsg:
		return "sendmsg"
	case by.Enforce && c == Sendmmsg:
		return "sendmmsg"
	}
	return "cookie"
}

// ofSending are the parts about messages. One with MSG_FASTOPEN connects (tcp(7)).
func (a abi) ofSending(p *program, name, taken string) {
	p.label("sendmsg " + name)
	p.load(low(2))
	p.when(unix.BPF_JSET, unix.MSG_FASTOPEN, taken)
	p.jump("cookie " + name)

	p.label("sendmmsg " + name)
	p.load(low(3))
	p.when(unix.BPF_JSET, unix.MSG_FASTOPEN, taken)
	p.jump("cookie " + name)

	// sendto(2) uses all registers. Without an address it goes where the socket does.
	p.label("sendto " + name)
	p.load(low(3))
	p.when(unix.BPF_JSET, unix.MSG_FASTOPEN, taken)
	p.load(low(5))
	p.when(unix.BPF_JEQ, netlinkAddress, "allow")
	p.load(low(4))
	p.unless(unix.BPF_JEQ, 0, taken)
	if a.wide {
		p.load(high(4))
		p.unless(unix.BPF_JEQ, 0, taken)
	}
	p.jump("allow")
}

// least is the lowest number that is looked at: read(2) and the like have lower ones.
func (a abi) least(by Policy) uint32 {
	least := slices.MinFunc(a.numbers, func(a, b numbered) int { return cmp.Compare(a.number, b.number) }).number
	if by.Traced && a.clone != 0 {
		least = min(least, a.clone)
	}
	return least
}

// ofTracing is what a tracer has to see to. A listener below this filter would get calls before it; there is
// to be none, as where the filter has one itself. And a child is not to be hidden from it: the flag is taken off.
func (a abi) ofTracing(p *program) {
	next := fmt.Sprint("no listener ", a.arch)
	p.unless(unix.BPF_JEQ, a.install, next)
	p.load(low(1))
	p.when(unix.BPF_JSET, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, "busy")
	p.jump("allow")
	p.label(next)
	if a.clone == 0 {
		return
	}
	p.unless(unix.BPF_JEQ, a.clone, "allow")
	p.load(low(0))
	p.when(unix.BPF_JSET, unix.CLONE_UNTRACED, "notify")
}
