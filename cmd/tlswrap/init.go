package main

import (
	"bytes"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/begin"
)

// As process 1 of a PID namespace tlswrap stays, as a small init: the kernel makes the worker, like everybody
// whose parent has gone, a child of process 1, and ends all other processes with it. So the program is a child,
// which waits for no child but its own and whose last bytes the worker sends before process 1 ends.

// stageProgram is the child, which becomes the program. Its first arguments are the descriptor by which it
// tells where its worker is, and the signals that the program is to ignore.
const stageProgram = "tlswrap-program"

// runBelowInit is the child.
func runBelowInit(args []string, std stdio) int {
	fd, err := strconv.Atoi(args[0])
	if err == nil {
		entered.ignored, err = strconv.ParseUint(args[1], 10, 64)
	}
	if err != nil {
		return complain(std, exitOurs, "%v", err)
	}
	unix.CloseOnExec(fd)
	if os.Getenv("LISTEN_PID") == "1" { // sd_listen_fds(3)
		os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	}
	if err := ownGroup(); err != nil {
		return complain(std, exitOurs, "%v", err)
	}
	return wrap(args[2:], std, os.NewFile(uintptr(fd), "init"))
}

// hasForeignTerminal reports whether this process has a terminal and a process group that was made outside of its
// PID namespace, which has no number here: it could not be given the terminal back. It is shared with the
// program then, and gets from the terminal what that gets.
func hasForeignTerminal() bool {
	if unix.Getpgrp() != 0 {
		return false
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	tty.Close()
	return true
}

// ownGroup gives this process a process group, so that what is sent to that of process 1, which hands it on,
// comes once; and the terminal, where process 1's group has that.
func ownGroup() error {
	if hasForeignTerminal() {
		return nil
	}
	runtime.LockOSThread() // whose signals are blocked
	defer runtime.UnlockOSThread()
	var stops, old unix.Sigset_t
	stops.Val[0] = 1<<(unix.SIGTTIN-1) | 1<<(unix.SIGTTOU-1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &stops, &old); err != nil {
		return os.NewSyscallError("rt_sigprocmask", err)
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
	foreground := false
	tty, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(tty)
		// In the background, and with SIGTTIN blocked, even nothing cannot be read (n_tty_read in drivers/tty/n_tty.c).
		_, err := unix.Read(tty, nil)
		foreground = err == nil
	}
	if err := unix.Setpgid(0, 0); err != nil {
		return os.NewSyscallError("setpgid", err)
	}
	if foreground {
		return os.NewSyscallError("tcsetpgrp", unix.IoctlSetPointerInt(tty, unix.TIOCSPGRP, os.Getpid()))
	}
	return nil
}

// initProcess is process 1.
type initProcess struct {
	program int
	shares  bool // a terminal's process group with the program
	signals chan os.Signal
	exits   chan os.Signal // SIGCHLD
	status  int            // the program's, once it has ended
	ended   bool
}

// beInit runs tlswrap with args in a child, and returns the program's exit status: 128 and the signal's number
// where a signal has ended it, as process 1 can end itself by none.
func beInit(args []string, std stdio) int {
	p := initProcess{shares: hasForeignTerminal(), signals: make(chan os.Signal, 64), exits: make(chan os.Signal, 1)}
	signal.Notify(p.exits, syscall.SIGCHLD)
	signal.Notify(p.signals, handedOn()...)
	told, err := p.start(args)
	if err != nil {
		return complain(std, exitOurs, "%v", err)
	}
	for !p.ended {
		select {
		case <-p.exits:
			p.reap()
		case sig := <-p.signals:
			p.handOn(sig.(syscall.Signal))
		}
	}
	if setting := <-told; setting != "" {
		p.finish(setting)
	}
	return p.status
}

// handedOn are the signals that the program is to get: all that others send, but for those that Go's runtime
// uses itself or that tell of a fault.
func handedOn() []os.Signal {
	not := []syscall.Signal{
		syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGCHLD, syscall.SIGURG, 32, 33,
		syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGILL, syscall.SIGTRAP, syscall.SIGSYS,
	}
	var all []os.Signal
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		if !slices.Contains(not, sig) {
			all = append(all, sig)
		}
	}
	return all
}

// start starts the child. told gets where its worker is, or "" where there is none.
func (p *initProcess) start(args []string) (told <-chan string, err error) {
	from, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer to.Close()
	fd, err := unix.FcntlInt(to.Fd(), unix.F_DUPFD, 3)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	defer unix.Close(fd)
	p.program, err = syscall.ForkExec("/proc/self/exe", append([]string{stageProgram, strconv.Itoa(fd), strconv.FormatUint(entered.ignored, 10)}, args...),
		&syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		from.Close()
		return nil, os.NewSyscallError("fork", err)
	}
	settings := make(chan string, 1)
	go func() {
		defer from.Close()
		setting, _ := io.ReadAll(from)
		settings <- string(setting)
	}()
	return settings, nil
}

// handOn gives the program a signal.
func (p *initProcess) handOn(sig syscall.Signal) {
	switch sig {
	case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGWINCH, syscall.SIGHUP:
		if p.shares {
			return // it has it from the terminal
		}
	}
	syscall.Kill(p.program, sig)
}

// reap waits for all children that have ended.
func (p *initProcess) reap() {
	for {
		var how syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &how, syscall.WNOHANG|syscall.WUNTRACED, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil || pid == 0:
			return
		case pid != p.program:
		case how.Stopped():
			p.stopped(how.StopSignal())
		case how.Signaled():
			p.ended, p.status = true, 128+int(how.Signal())
		default:
			p.ended, p.status = true, how.ExitStatus()
		}
	}
}

// stopped has the program go on that the terminal has stopped: process 1 could not be stopped, and nobody else
// is there to let it go on.
func (p *initProcess) stopped(by syscall.Signal) {
	if by != syscall.SIGTSTP || p.shares {
		return
	}
	if tty, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0); err == nil {
		tty.Close()
		syscall.Kill(-p.program, syscall.SIGCONT)
	}
}

// Limits of the end: sessionTime is more than a worker takes to send what was written (session.Session), and
// killTime how long processes may take to end that are killed.
const (
	sessionTime = 70 * time.Second
	killTime    = 2 * time.Second
)

// finish ends what the kernel would end with process 1, but for the worker, and waits until that has sent what
// was written. A signal ends it at once.
func (p *initProcess) finish(setting string) {
	at, err := parseControl(setting)
	if err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		begin.Finish(at.Reached, sessionTime, killOthers)
	}()
	for {
		select {
		case <-done:
			return
		case <-p.exits:
			p.reap()
		case sig := <-p.signals:
			if sig == syscall.SIGTERM || sig == syscall.SIGINT || sig == syscall.SIGQUIT {
				return
			}
		}
	}
}

// killOthers kills every process of this PID namespace but this one and the worker, and waits until they have
// ended. What cannot be looked at ends with process 1.
func killOthers(worker int) {
	for end := time.Now().Add(killTime); time.Now().Before(end); time.Sleep(time.Millisecond) {
		left := false
		for _, pid := range others() {
			if pid != worker {
				left = syscall.Kill(pid, syscall.SIGKILL) == nil || left
			}
		}
		if !left {
			return
		}
	}
}

// others are the processes of this PID namespace that have not ended, but for this one.
func others() (pids []int) {
	if own, err := os.Readlink("/proc/self"); err != nil || own != strconv.Itoa(os.Getpid()) {
		return nil // of another namespace
	}
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range all {
		stat, _ := os.ReadFile(file)
		_, state, _ := bytes.Cut(stat, []byte(") "))
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil && len(state) > 0 && state[0] != 'Z' && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}
