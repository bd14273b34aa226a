package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/process"
)

// A companion is nobody's child. It was forked as this process began (entry.go); where it was not, as there is no entry
// point of ours or none seemed to be needed, it is started in two stages. They are told by argv[0], which no command
// line of a person's has.
const (
	stageLaunch    = "goressl-launch" // starts the companion and exits
	stageCompanion = process.Name     // is the companion
)

// What a companion is to be is the first word of the message that it gets first. The others, each behind a 0, are a
// worker's flags, and its control socket comes along.
const (
	beWorker = "work"
	beKeeper = "keep" // keeper.Hand's message follows
)

// mostFlags is how long a message may be. The kernel takes less, where net.core.wmem_default(7) was not raised.
const mostFlags = 256 << 10

// companion is the socket to it, and its process.
type companion struct {
	*os.File
	pid int
}

// startCompanion tells the companion what it is to be. It is no child of this process when this returns.
func startCompanion(word string, args []string, rights []byte) (c companion, err error) {
	switch {
	case entered.failed != 0:
		err = os.NewSyscallError(entered.failing.String(), entered.failed)
	case entered.companion != 0:
		c = forkedCompanion()
	default:
		c, err = launchCompanion(word, args)
	}
	if err != nil {
		return c, err
	}
	if c.pid, err = c.hearPID(); err != nil {
		c.Close()
		return c, err
	}
	text := strings.Join(append([]string{word}, args...), "\x00")
	if err := unix.Sendmsg(int(c.Fd()), []byte(text), rights, nil, unix.MSG_NOSIGNAL); err != nil {
		defer c.Close()
		unix.Shutdown(int(c.Fd()), unix.SHUT_WR) // it ends, and says nothing
		if err == unix.EMSGSIZE {
			return c, errors.New("the command line is too long for a worker: so many rules belong into a file (--rules)")
		}
		return c, c.explain(os.NewSyscallError("sendmsg", err))
	}
	return c, nil
}

// forkedCompanion returns the one that there is. It waits for the end of who has forked it.
func forkedCompanion() companion {
	awaitForker()
	fd := entered.companion
	entered.companion = 0
	return companion{File: os.NewFile(uintptr(fd), "companion")}
}

// awaitForker waits for the end of who has forked the companion. Where SIGCHLD was ignored nobody has to.
func awaitForker() {
	for {
		if _, err := syscall.Wait4(entered.forker, nil, 0, nil); err != syscall.EINTR {
			break
		}
	}
	entered.forker = 0
}

// hearPID returns which process the companion is, as who has forked it has told: that has ended, and tells nothing any more.
func (c companion) hearPID() (int, error) {
	var pid [4]byte
	n, _, err := unix.Recvfrom(int(c.Fd()), pid[:], unix.MSG_DONTWAIT)
	if err == unix.EAGAIN {
		return 0, errWorkerEnded
	}
	if err == nil && n < len(pid) {
		err = io.EOF
	}
	if err != nil {
		return 0, c.explain(err)
	}
	number := int32(binary.NativeEndian.Uint32(pid[:]))
	if number < 0 {
		return 0, os.NewSyscallError("fork", syscall.Errno(-number))
	}
	return int(number), nil
}

// dismissCompanion has the companion end where none was needed, before this process becomes a program, whose child nothing
// of ours is to be.
func dismissCompanion() {
	if entered.companion > 0 {
		unix.Close(entered.companion)
		entered.companion = 0
	}
	if entered.forker > 0 {
		awaitForker()
	}
}

// launchCompanion starts one by two stages, with a command line that shows what it is to be.
func launchCompanion(word string, args []string) (companion, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return companion{}, err
	}
	defer null.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return companion{}, os.NewSyscallError("socketpair", err)
	}
	defer unix.Close(pair[1])
	c := companion{File: os.NewFile(uintptr(pair[0]), "companion")}
	// A process that adopts orphans (PR_SET_CHILD_SUBREAPER) would have the companion for a child.
	var reaper int
	if unix.Prctl(unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(&reaper)), 0, 0, 0) == nil && reaper != 0 {
		unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
		defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	}
	// os.StartProcess would first find out about pidfds, with a process of its own.
	if word != beWorker {
		args = []string{word}
	}
	pid, err := syscall.ForkExec("/proc/self/exe", append([]string{stageLaunch}, args...), &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{null.Fd(), null.Fd(), null.Fd(), companionFD: uintptr(pair[1])},
	})
	if err != nil {
		c.Close()
		return c, os.NewSyscallError("fork", err)
	}
	entered.forker = pid
	awaitForker()
	return c, nil
}

// runLaunch is the first stage of that, which tells what forkAgain does.
func runLaunch(args []string, _ stdio) int {
	// What the program inherits, a lock or a pipe, is not for the companion to hold.
	unix.CloseRange(companionFD+1, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	socket := os.NewFile(companionFD, "companion")
	cmd := &exec.Cmd{
		Path:        "/proc/self/exe",
		Args:        append([]string{stageCompanion}, args...),
		ExtraFiles:  []*os.File{socket},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	var pid int
	if err := cmd.Start(); err == nil {
		pid = cmd.Process.Pid
	} else if errno, ok := errors.AsType[syscall.Errno](err); ok {
		pid = -int(errno)
	}
	socket.Write(binary.NativeEndian.AppendUint32(nil, uint32(pid)))
	return 0
}

// errWorkerEnded is the end of one that has said nothing.
var errWorkerEnded = errors.New("the worker ended as it started: ulimit -u or another limit may be too low for it")

// explainTime is how long a companion may take for its own words: one that is stopped has none.
const explainTime = 2 * time.Second

// explain prefers the companion's own words to an error in dealing with it.
func (c companion) explain(err error) error {
	words := make([]byte, mostFlags)
	limit := unix.NsecToTimeval(int64(explainTime))
	unix.SetsockoptTimeval(int(c.Fd()), unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)
	if n, _, _ := unix.Recvfrom(int(c.Fd()), words, 0); n > 0 {
		return errors.New(strings.TrimSpace(string(words[:n])))
	}
	for _, ended := range []error{unix.ECONNRESET, unix.ECONNREFUSED, unix.EPIPE, io.EOF} {
		if errors.Is(err, ended) {
			return errWorkerEnded
		}
	}
	return fmt.Errorf("the worker did not start: %w", err)
}

// runCompanion is the companion, which learns now what it is to be.
func runCompanion(_ []string, _ stdio) int {
	if entered.keeps {
		return runKeeper()
	}
	text, oob := make([]byte, mostFlags), make([]byte, unix.CmsgSpace(4))
	n, oobn, flags, _, err := unix.Recvmsg(companionFD, text, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil || n == 0 {
		return 0 // it is not needed
	}
	words := strings.Split(string(text[:n]), "\x00")
	if words[0] == beKeeper {
		nameProcess(beKeeper)
		return runKeeper()
	}
	nameProcess(words[1:]...)
	status := os.NewFile(companionFD, "tlswrap")
	listener, err := onlyDescriptor(oob[:oobn])
	if flags&unix.MSG_TRUNC != 0 {
		err = fmt.Errorf("the command line is too long for a worker, which takes %d bytes of it at most", mostFlags)
	}
	if err == nil {
		err = runOwnWorker(words[1:], listener, status)
	}
	if err != nil {
		fmt.Fprintln(status, err)
		return exitOurs
	}
	return 0
}

// onlyDescriptor is what has come along.
func onlyDescriptor(oob []byte) (*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err == nil && len(messages) == 1 {
		if fds, err := unix.ParseUnixRights(&messages[0]); err == nil && len(fds) == 1 {
			return os.NewFile(uintptr(fds[0]), "listener"), nil
		}
	}
	return nil, errors.New("the worker has no descriptor left for its control socket")
}

// nameProcess has ps(1) show the arguments as the command line of a companion, as far as the one that it was forked
// with leaves room.
func nameProcess(args ...string) {
	if entered.commandLineLength == 0 {
		return
	}
	for i, arg := range os.Args {
		os.Args[i] = strings.Clone(arg) // from what is written over
	}
	line := unsafe.Slice((*byte)(entered.commandLine), entered.commandLineLength)
	clear(line)
	copy(line[:len(line)-1], bytes.Join([][]byte{[]byte(process.Name), []byte(strings.Join(args, "\x00"))}, []byte{0}))
}
