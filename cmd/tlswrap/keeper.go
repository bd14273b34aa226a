package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/begin"
	"tlswrap/proxy/keeper"
	"tlswrap/proxy/process"
	"tlswrap/proxy/seccomp"
)

// keepArgument makes the process that would be a single run's worker a keeper.
const keepArgument = "keep"

// startKeeper starts a keeper, which is nobody's child when this returns, and returns what gives it what it is
// to keep. It ends by itself where that is never called. Under the filter it could not be started any more: it
// would be held itself.
func (o *options) startKeeper(c control, stderr *os.File) (begin.Keep, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "keeper"), os.NewFile(uintptr(pair[1]), "keeper")
	defer ours.Close()
	defer theirs.Close()
	if err := launch([]string{keepArgument}, theirs, theirs); err != nil {
		return nil, fmt.Errorf("starting the process that keeps the kernel's filter: %w", err)
	}
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, err
	}
	p := keeper.Program{Reached: c.Reached, Quiet: o.quiet, Stderr: keeper.StderrOf(int(stderr.Fd()))}
	return func(listener seccomp.Listener, held begin.Held) error {
		return keeper.Hand(conn.(*net.UnixConn), p, listener, held)
	}, nil
}

// runKeeper is a keeper.
func runKeeper() int {
	runtime.GOMAXPROCS(1)
	os.Chdir("/") // no folder is to be kept busy
	unix.Close(statusFD)
	// It ends with the last process under the filter, which may have to be answered when all are told to end.
	signal.Ignore(syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP, syscall.SIGTERM, syscall.SIGHUP)
	file := os.NewFile(listenerFD, "tlswrap")
	conn, err := net.FileConn(file)
	file.Close()
	if err == nil {
		err = process.Harden()
	}
	if err == nil {
		err = keeper.Keep(conn.(*net.UnixConn))
	}
	if err != nil {
		return exitOurs
	}
	return 0
}
