package main

import "golang.org/x/sys/unix"

const auditArch = 0xc000003e // AUDIT_ARCH_X86_64 (linux/audit.h)

// The older calls, which newer machines have not got.
func init() {
	calls[unix.SYS_POLL] = call{name: "poll", errnos: []unix.Errno{unix.EPERM, unix.ENOMEM, unix.EINTR}}
	calls[unix.SYS_NEWFSTATAT] = call{name: "newfstatat", errnos: []unix.Errno{unix.EPERM, unix.ENOMEM}}
	calls[unix.SYS_READLINK] = call{name: "readlink", errnos: []unix.Errno{unix.EPERM, unix.EACCES}}
	calls[unix.SYS_OPEN] = call{name: "open", errnos: []unix.Errno{unix.EACCES, unix.EMFILE}}
}
