package tracer

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// supported says whether there is a tracer on this kind of machine.
const supported = true

// pause is pause(2), which some kinds of machine do not have.
const pause = unix.SYS_PAUSE

// registers are a thread's, where it makes a system call by the instruction of 64-bit programs: others do not
// stop for us.
type registers struct{ unix.PtraceRegs }

// instruction is how long that is, and none the number that is no call's: it is not made, nor made again.
const (
	instruction = 2
	none        = ^uint64(0)
)

func (r *registers) read(tid int) error {
	return ptrace(unix.PTRACE_GETREGS, tid, 0, uintptr(unsafe.Pointer(&r.PtraceRegs)))
}

func (r *registers) write(tid int) error {
	return ptrace(unix.PTRACE_SETREGS, tid, 0, uintptr(unsafe.Pointer(&r.PtraceRegs)))
}

func (r *registers) number() int  { return int(int32(r.Orig_rax)) }
func (r *registers) ip() uint64   { return r.Rip }
func (r *registers) value() int64 { return int64(r.Rax) }

func (r *registers) args() [6]uint64 {
	return [6]uint64{r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9}
}

// enter has the kernel make another call where one begins.
func (r *registers) enter(number int) { r.Orig_rax = uint64(number) }

// skip has the call return a value that is not made, or was.
func (r *registers) skip(value int64) { r.Orig_rax, r.Rax = none, uint64(value) }

// leave has the call end with a value, from which the kernel may make it again.
func (r *registers) leave(value int64) { r.Rax = uint64(value) }

// make has the thread make a call from where it made this one; without args it has the same ones.
func (r *registers) make(number int, args []uint64) {
	r.Rip -= instruction
	r.Orig_rax, r.Rax = none, uint64(number)
	for i, to := range []*uint64{&r.Rdi, &r.Rsi, &r.Rdx, &r.R10, &r.R8, &r.R9} {
		if args == nil {
			break
		}
		*to = 0
		if i < len(args) {
			*to = args[i]
		}
	}
}

// traceClone lets the tracer have a child that was to be hidden from it.
func (r *registers) traceClone() { r.Rdi &^= unix.CLONE_UNTRACED }
