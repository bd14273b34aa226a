package seccomp

import "golang.org/x/sys/unix"

// abis are the ways in which programs of this machine make system calls. Those of 32-bit programs are
// answered with ENOSYS, all of them: such programs do not start.
var abis = []abi{{arch: unix.AUDIT_ARCH_AARCH64, wide: true, numbers: ownNumbers, install: unix.SYS_SECCOMP}}
