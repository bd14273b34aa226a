package seccomp

import "golang.org/x/sys/unix"

// abis are the ways in which programs of this machine make system calls: x86_64's own, of which x32's
// have numbers from 1<<30 on, and that of 32-bit programs (arch/x86/entry/syscalls/syscall_32.tbl).
var abis = []abi{
	{arch: unix.AUDIT_ARCH_X86_64, wide: true, foreign: 1 << 30, numbers: ownNumbers, install: unix.SYS_SECCOMP, clone: unix.SYS_CLONE},
	{arch: unix.AUDIT_ARCH_I386, install: 354, numbers: []numbered{
		{102, socketcall}, {172, Reach}, {345, Sendmmsg}, {361, Bind}, {362, Connect}, {363, Listen}, {364, Accept4}, {365, Getsockopt}, {366, Setsockopt},
		{367, Getsockname}, {368, Getpeername}, {369, Sendto}, {370, Sendmsg}, {425, ioUring},
	}},
}
