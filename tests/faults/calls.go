package main

import (
	"maps"
	"slices"

	"golang.org/x/sys/unix"
)

// call is a system call that may fail, and how.
type call struct {
	name   string
	errnos []unix.Errno
	// shimOnly is set where Go's runtime takes a failure for the end of the world.
	shimOnly bool
}

// Errnos of their manual pages, EPERM as a seccomp filter says it, and never one that the
// kernel gives only where it promises an event to wait for. close(2) is left out: it closes
// also where it fails.
var calls = map[int]call{
	unix.SYS_SOCKET:            {name: "socket", errnos: []unix.Errno{unix.EPERM, unix.EMFILE, unix.ENOBUFS}},
	unix.SYS_CONNECT:           {name: "connect", errnos: []unix.Errno{unix.EPERM, unix.ENETUNREACH, unix.EINTR}},
	unix.SYS_GETSOCKOPT:        {name: "getsockopt", errnos: []unix.Errno{unix.EPERM, unix.ENOPROTOOPT, unix.ENOBUFS}},
	unix.SYS_SETSOCKOPT:        {name: "setsockopt", errnos: []unix.Errno{unix.EPERM, unix.ENOPROTOOPT, unix.ENOMEM}},
	unix.SYS_GETSOCKNAME:       {name: "getsockname", errnos: []unix.Errno{unix.EPERM, unix.ENOBUFS}},
	unix.SYS_GETPEERNAME:       {name: "getpeername", errnos: []unix.Errno{unix.EPERM, unix.ENOBUFS}},
	unix.SYS_SENDMSG:           {name: "sendmsg", errnos: []unix.Errno{unix.EPERM, unix.ENOBUFS, unix.EPIPE, unix.EINTR}},
	unix.SYS_RECVMSG:           {name: "recvmsg", errnos: []unix.Errno{unix.EPERM, unix.ENOMEM, unix.ECONNRESET, unix.EINTR}},
	unix.SYS_SENDTO:            {name: "sendto", errnos: []unix.Errno{unix.EPERM, unix.ENOBUFS, unix.EPIPE, unix.EINTR}},
	unix.SYS_RECVFROM:          {name: "recvfrom", errnos: []unix.Errno{unix.EPERM, unix.ENOMEM, unix.EINTR}},
	unix.SYS_READ:              {name: "read", errnos: []unix.Errno{unix.EPERM, unix.EIO, unix.EINTR}},
	unix.SYS_WRITE:             {name: "write", errnos: []unix.Errno{unix.EPERM, unix.ENOSPC, unix.EINTR}},
	unix.SYS_WRITEV:            {name: "writev", errnos: []unix.Errno{unix.EPERM, unix.ENOBUFS}},
	unix.SYS_PREAD64:           {name: "pread64", errnos: []unix.Errno{unix.EPERM, unix.EIO}},
	unix.SYS_ACCEPT4:           {name: "accept4", errnos: []unix.Errno{unix.EPERM, unix.EMFILE, unix.ECONNABORTED, unix.EINTR}},
	unix.SYS_BIND:              {name: "bind", errnos: []unix.Errno{unix.EPERM, unix.EADDRINUSE}},
	unix.SYS_LISTEN:            {name: "listen", errnos: []unix.Errno{unix.EPERM, unix.EADDRINUSE}},
	unix.SYS_SHUTDOWN:          {name: "shutdown", errnos: []unix.Errno{unix.EPERM}},
	unix.SYS_FCNTL:             {name: "fcntl", errnos: []unix.Errno{unix.EPERM, unix.EMFILE}},
	unix.SYS_DUP3:              {name: "dup3", errnos: []unix.Errno{unix.EPERM, unix.EMFILE, unix.EBUSY}},
	unix.SYS_OPENAT:            {name: "openat", errnos: []unix.Errno{unix.EACCES, unix.EMFILE, unix.ENOENT, unix.EINTR}},
	unix.SYS_FSTAT:             {name: "fstat", errnos: []unix.Errno{unix.EPERM, unix.ENOMEM}},
	unix.SYS_STATX:             {name: "statx", errnos: []unix.Errno{unix.EPERM, unix.ENOMEM}},
	unix.SYS_FSTATFS:           {name: "fstatfs", errnos: []unix.Errno{unix.EPERM, unix.ENOSYS}},
	unix.SYS_STATFS:            {name: "statfs", errnos: []unix.Errno{unix.EPERM, unix.EACCES}},
	unix.SYS_FACCESSAT:         {name: "faccessat", errnos: []unix.Errno{unix.EPERM, unix.EACCES}},
	unix.SYS_READLINKAT:        {name: "readlinkat", errnos: []unix.Errno{unix.EPERM, unix.EACCES}},
	unix.SYS_GETDENTS64:        {name: "getdents64", errnos: []unix.Errno{unix.EPERM, unix.EIO}},
	unix.SYS_MKDIRAT:           {name: "mkdirat", errnos: []unix.Errno{unix.EACCES, unix.ENOSPC}},
	unix.SYS_UNLINKAT:          {name: "unlinkat", errnos: []unix.Errno{unix.EACCES}},
	unix.SYS_IOCTL:             {name: "ioctl", errnos: []unix.Errno{unix.EPERM, unix.ENOTTY, unix.ENOENT, unix.EMFILE}},
	unix.SYS_PPOLL:             {name: "ppoll", errnos: []unix.Errno{unix.EPERM, unix.ENOMEM, unix.EINTR}},
	unix.SYS_EPOLL_CTL:         {name: "epoll_ctl", errnos: []unix.Errno{unix.EPERM, unix.ENOMEM, unix.ENOSPC}},
	unix.SYS_MEMFD_CREATE:      {name: "memfd_create", errnos: []unix.Errno{unix.EPERM, unix.EMFILE}},
	unix.SYS_FTRUNCATE:         {name: "ftruncate", errnos: []unix.Errno{unix.EPERM, unix.ENOSPC}},
	unix.SYS_PIDFD_OPEN:        {name: "pidfd_open", errnos: []unix.Errno{unix.EPERM, unix.EMFILE, unix.ESRCH}},
	unix.SYS_PIDFD_SEND_SIGNAL: {name: "pidfd_send_signal", errnos: []unix.Errno{unix.EPERM, unix.ESRCH}},
	unix.SYS_PRCTL:             {name: "prctl", errnos: []unix.Errno{unix.EPERM, unix.EINVAL}},
	unix.SYS_SECCOMP:           {name: "seccomp", errnos: []unix.Errno{unix.EPERM, unix.EBUSY, unix.ENOMEM}},
	unix.SYS_PIDFD_GETFD:       {name: "pidfd_getfd", errnos: []unix.Errno{unix.EPERM, unix.EMFILE, unix.EBADF, unix.ESRCH}},
	unix.SYS_PROCESS_VM_READV:  {name: "process_vm_readv", errnos: []unix.Errno{unix.EPERM, unix.EFAULT, unix.ESRCH}},
	unix.SYS_PROCESS_VM_WRITEV: {name: "process_vm_writev", errnos: []unix.Errno{unix.EPERM, unix.EFAULT, unix.ESRCH}},
	unix.SYS_UNSHARE:           {name: "unshare", errnos: []unix.Errno{unix.EPERM, unix.ENOSPC}},
	unix.SYS_SETNS:             {name: "setns", errnos: []unix.Errno{unix.EPERM, unix.EINVAL}},
	unix.SYS_KCMP:              {name: "kcmp", errnos: []unix.Errno{unix.EPERM, unix.ENOSYS}},
	unix.SYS_PTRACE:            {name: "ptrace", errnos: []unix.Errno{unix.EPERM}},
	unix.SYS_GETRANDOM:         {name: "getrandom", errnos: []unix.Errno{unix.EPERM, unix.EINTR}, shimOnly: true},
	unix.SYS_SOCKETPAIR:        {name: "socketpair", errnos: []unix.Errno{unix.EPERM, unix.EMFILE}},
	unix.SYS_PIPE2:             {name: "pipe2", errnos: []unix.Errno{unix.EPERM, unix.EMFILE}},
	unix.SYS_DUP:               {name: "dup", errnos: []unix.Errno{unix.EPERM, unix.EMFILE}},
	unix.SYS_SPLICE:            {name: "splice", errnos: []unix.Errno{unix.EPERM, unix.EINVAL}},
	unix.SYS_EXECVE:            {name: "execve", errnos: []unix.Errno{unix.EACCES, unix.ENOMEM}},
	unix.SYS_SETSID:            {name: "setsid", errnos: []unix.Errno{unix.EPERM}},
	unix.SYS_MMAP:              {name: "mmap", errnos: []unix.Errno{unix.EPERM, unix.ENOMEM}, shimOnly: true},
	unix.SYS_MPROTECT:          {name: "mprotect", errnos: []unix.Errno{unix.EPERM, unix.ENOMEM}, shimOnly: true},
	unix.SYS_RT_SIGPROCMASK:    {name: "rt_sigprocmask", errnos: []unix.Errno{unix.EPERM}, shimOnly: true},
	unix.SYS_RT_SIGACTION:      {name: "rt_sigaction", errnos: []unix.Errno{unix.EPERM}, shimOnly: true},
	unix.SYS_RT_SIGPENDING:     {name: "rt_sigpending", errnos: []unix.Errno{unix.EPERM}, shimOnly: true},
}

// callNumbers are the calls that are asked about.
func callNumbers() []int {
	return slices.Sorted(maps.Keys(calls))
}
