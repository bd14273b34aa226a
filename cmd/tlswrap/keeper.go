package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"tlswrap/proxy/begin"
	"tlswrap/proxy/keeper"
	"tlswrap/proxy/process"
	"tlswrap/proxy/seccomp"
)

// startKeeper starts a keeper, and returns what gives it what it is
// to keep. It ends by itself where that is never called. Under the filter it could not be started any more: it
// would be held itself.
func (o *options) startKeeper(c control, stderr *os.File) (begin.Keep, error) {
	kept, err := startCompanion(beKeeper, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("starting the process that keeps the kernel's filter: %w", err)
	}
	p := keeper.Program{Reached: c.Reached, Quiet: o.quiet, Stderr: keeper.StderrOf(int(stderr.Fd()))}
	return func(listener seccomp.Listener, held begin.Held) error {
		return keeper.Hand(int(kept.Fd()), p, listener, held)
	}, nil
}

// runKeeper is a keeper.
func runKeeper() int {
	runtime.GOMAXPROCS(1)
	os.Chdir("/") // no folder is to be kept busy
	// It ends with the last process under the filter, which may have to be answered when all are told to end.
	signal.Ignore(syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP, syscall.SIGTERM, syscall.SIGHUP)
	if err := keep(); err != nil {
		return exitOurs
	}
	return 0
}

// keep keeps what was taken before the runtime began, or what comes now.
func keep() error {
	if err := process.Harden(); err != nil {
		return err
	}
	if text := entered.kept(); text != nil {
		return keeper.Keep(text, []int{keptFD, keptFD + 1, keptFD + 2})
	}
	file := os.NewFile(companionFD, "tlswrap")
	conn, err := net.FileConn(file)
	file.Close()
	if err != nil {
		return err
	}
	defer conn.Close()
	text, fds, err := keeper.Receive(conn.(*net.UnixConn))
	if text == nil || err != nil {
		return err
	}
	return keeper.Keep(text, fds)
}
