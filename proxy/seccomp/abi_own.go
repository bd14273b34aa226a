package seccomp

import "golang.org/x/sys/unix"

// ownNumbers are those of the machine that this was compiled for.
var ownNumbers = []numbered{
	{unix.SYS_CONNECT, Connect}, {unix.SYS_BIND, Bind}, {unix.SYS_LISTEN, Listen}, {unix.SYS_ACCEPT, Accept}, {unix.SYS_ACCEPT4, Accept4},
	{unix.SYS_GETSOCKNAME, Getsockname}, {unix.SYS_GETPEERNAME, Getpeername}, {unix.SYS_GETSOCKOPT, Getsockopt}, {unix.SYS_SETSOCKOPT, Setsockopt},
	{unix.SYS_SENDTO, Sendto}, {unix.SYS_SENDMSG, Sendmsg}, {unix.SYS_SENDMMSG, Sendmmsg}, {unix.SYS_PRCTL, Reach}, {unix.SYS_IO_URING_SETUP, ioUring},
}
