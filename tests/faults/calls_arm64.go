package main

import "golang.org/x/sys/unix"

const auditArch = 0xc00000b7 // AUDIT_ARCH_AARCH64 (linux/audit.h)

func init() {
	calls[unix.SYS_FSTATAT] = call{name: "newfstatat", errnos: []unix.Errno{unix.EPERM, unix.ENOMEM}}
}
