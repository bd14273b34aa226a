package main

import "golang.org/x/sys/unix"

const auditArch = 0xc000003e // AUDIT_ARCH_X86_64 (linux/audit.h)

// fail has a call that a thread has stopped at end in errno.
func fail(tid int, errno unix.Errno) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	regs.Orig_rax, regs.Rax = ^uint64(0), uint64(-int64(errno)) // no call has the number -1
	return unix.PtraceSetRegs(tid, &regs)
}

// The older calls, which newer machines have not got.
func init() {
	calls[unix.SYS_POLL] = call{name: "poll", errnos: []unix.Errno{unix.EPERM, unix.ENOMEM, unix.EINTR}}
	calls[unix.SYS_NEWFSTATAT] = call{name: "newfstatat", errnos: []unix.Errno{unix.EPERM, unix.ENOMEM}}
	calls[unix.SYS_READLINK] = call{name: "readlink", errnos: []unix.Errno{unix.EPERM, unix.EACCES}}
	calls[unix.SYS_OPEN] = call{name: "open", errnos: []unix.Errno{unix.EACCES, unix.EMFILE}}
}
