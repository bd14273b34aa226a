package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const auditArch = 0xc00000b7 // AUDIT_ARCH_AARCH64 (linux/audit.h)

// fail has a call that a thread has stopped at end in errno.
func fail(tid int, errno unix.Errno) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	regs.Regs[0] = uint64(-int64(errno))
	if err := unix.PtraceSetRegs(tid, &regs); err != nil {
		return err
	}
	const systemCall = 0x404 // NT_ARM_SYSTEM_CALL (linux/elf.h)
	none := int32(-1)        // no call has this number
	io := unix.Iovec{Base: (*byte)(unsafe.Pointer(&none)), Len: uint64(unsafe.Sizeof(none))}
	_, _, failed := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SETREGSET, uintptr(tid), systemCall, uintptr(unsafe.Pointer(&io)), 0, 0)
	if failed != 0 {
		return failed
	}
	return nil
}

func init() {
	calls[unix.SYS_FSTATAT] = call{name: "newfstatat", errnos: []unix.Errno{unix.EPERM, unix.ENOMEM}}
}
