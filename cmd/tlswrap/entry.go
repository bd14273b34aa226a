package main

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/keeper"
)

// What is in this file runs before Go's runtime does: entry_*.s, which is linked as the program's entry point (see
// the Makefile), calls atEntry. There is no heap, no goroutine and no other thread yet, so that functions may not
// grow the stack (nosplit), allocate, or call any that might. In return fork(2) is as cheap here as it gets, and
// the child may start a runtime of its own.
//
// This process forks there, and the child is its companion: what becomes the worker of a single run, or the keeper
// of a long-lived worker's program. So the two runtimes start at once, each on its own processor. What a companion is
// to be it is told by a socket, and it ends with that where it is not needed (companion.go). Where there is none and one
// is needed it is started in another way.

// atEntry is called by the address that is here, as an assembler's function has no other way to pass an argument
// in a register.
//
//lint:ignore U1000 entry_*.s calls it.
var atEntry = beforeRuntime

// entered is what was found out and done there. Without an entry point of ours it is as it stands here.
var entered atStart

type atStart struct {
	ignored uint64 // bit n-1 is set where signal n was ignored

	isCompanion bool
	keeps       bool                     // a companion that was told to be a keeper
	program     [keeper.MostProgram]byte // what that is to keep, in programLength bytes, where there is something to do now:
	length      int                      // with descriptors from keptFD on. 0: nothing came

	companion int           // the socket to this process's companion, or 0
	forker    int           // the process that has forked it, a child of this one
	failed    syscall.Errno // why there is no companion,
	failing   failure       // and which call has failed

	onOneProcessor bool // by the environment, to which that was added

	// The memory where the kernel looks for the process's command line.
	commandLine       unsafe.Pointer
	commandLineLength uintptr
}

// failure is a system call that has failed.
type failure int

const (
	inFork failure = iota
	inSocketpair
	inFcntl
)

func (f failure) String() string { return [...]string{"fork", "socketpair", "fcntl"}[f] }

// kept is what is to be kept, or nil where nothing has come yet.
func (e *atStart) kept() []byte {
	if e.length == 0 {
		return nil
	}
	return e.program[:e.length]
}

// companionFD is the companion's end of the socket. Of its other descriptors only the standard ones are open, to /dev/null.
const companionFD = 3

// keptFD is the first of a keeper's descriptors, which are the first that it gets.
const keptFD = companionFD + 1

//go:nosplit
func beforeRuntime(at unsafe.Pointer) (stackToGoOnWith unsafe.Pointer) {
	s := stack{at}
	entered.ignored = ignoredSignals()
	entered.commandLine, entered.commandLineLength = s.commandLine()
	switch {
	case s.count() > 1 && isWord(s.argument(1), "worker"), s.count() > 0 && isWord(s.argument(0), "goressl"):
		quiet()
	case s.startsProgram():
		if !s.mayKeep() || !s.hasFlag("-no-kernel") { // which has no keeper, as a rule
			s.forkCompanion()
		}
		return s.onOneProcessor()
	}
	return at
}

// oneProcessor has the runtime start fewer threads, which would wake each other for nothing: until it waits for the
// first time there is one thing to do. It is read there alone.
var oneProcessor = [...]byte{'G', 'O', 'M', 'A', 'X', 'P', 'R', 'O', 'C', 'S', '=', '1', 0}

// onOneProcessor adds that to the environment that the runtime reads, unless there is such a variable: what stands below it on
// the stack moves down by a word.
//
//go:nosplit
func (s stack) onOneProcessor() unsafe.Pointer {
	environment := 1 + s.count() + 1
	for n := environment; s.word(n) != nil; n++ {
		if isPrefix("GOMAXPROCS=", s.word(n)) {
			return s.at
		}
	}
	lower := unsafe.Add(s.at, -int(unsafe.Sizeof(environment)))
	for n := range environment {
		*(*uintptr)(unsafe.Add(lower, n*unsafe.Sizeof(n))) = uintptr(s.word(n))
	}
	*(*uintptr)(unsafe.Add(lower, environment*unsafe.Sizeof(environment))) = address(&oneProcessor)
	entered.onOneProcessor = true
	return lower
}

// stack is that with which the kernel has begun it: the number of arguments, their addresses, 0, those of
// the environment's variables, 0, and pairs of numbers (getauxval(3)).
type stack struct{ at unsafe.Pointer }

//go:nosplit
func (s stack) word(n uintptr) unsafe.Pointer {
	return *(*unsafe.Pointer)(unsafe.Add(s.at, n*unsafe.Sizeof(n)))
}

//go:nosplit
func (s stack) count() uintptr { return uintptr(s.word(0)) }

//go:nosplit
func (s stack) argument(n uintptr) unsafe.Pointer { return s.word(1 + n) }

// commandLine is where the arguments are, one behind the other.
//
//go:nosplit
func (s stack) commandLine() (start unsafe.Pointer, length uintptr) {
	if s.count() == 0 {
		return nil, 0
	}
	start = s.argument(0)
	for n := range s.count() {
		if s.argument(n) != unsafe.Add(start, length) {
			break
		}
		for *(*byte)(unsafe.Add(start, length)) != 0 {
			length++
		}
		length++
	}
	return start, length
}

// startsProgram reports whether this process might, by the words that it has, and is not process 1, whose child
// the companion would become.
//
//go:nosplit
func (s stack) startsProgram() bool {
	if s.count() < 2 || isPrefix("goressl", s.argument(0)) || system(unix.SYS_GETPID, 0, 0, 0) == 1 {
		return false
	}
	for i := range verbNames {
		if isWord(s.argument(1), verbNames[i]) {
			return false
		}
	}
	return true
}

// mayKeep reports whether the companion is likely to be a keeper: there is a flag for that, or something looks so. What
// it is to be, it is told in any case.
//
//go:nosplit
func (s stack) mayKeep() bool { return s.hasFlag("-worker") }

// hasFlag reports whether an argument begins with a flag, with one more "-" or without.
//
//go:nosplit
func (s stack) hasFlag(flag string) bool {
	for n := range s.count() {
		at := s.argument(n)
		if isPrefix(flag, at) || *(*byte)(at) == '-' && isPrefix(flag, unsafe.Add(at, 1)) {
			return true
		}
	}
	return false
}

//go:nosplit
func isPrefix(prefix string, of unsafe.Pointer) bool {
	for i := range len(prefix) {
		if *(*byte)(unsafe.Add(of, i)) != *(*byte)(unsafe.Add(unsafe.Pointer(unsafe.StringData(prefix)), i)) {
			return false // at its end at the latest, which is 0
		}
	}
	return true
}

//go:nosplit
func isWord(at unsafe.Pointer, word string) bool {
	return isPrefix(word, at) && *(*byte)(unsafe.Add(at, len(word))) == 0
}

// system makes a system call, whose error is negative.
//
//go:nosplit
func system(call, a, b, c uintptr) int { return system6(call, a, b, c, 0, 0) }

//go:nosplit
func system6(call, a, b, c, d, e uintptr) int {
	r, _, errno := syscall.RawSyscall6(call, a, b, c, d, e, 0)
	if errno != 0 {
		return -int(errno)
	}
	return int(r)
}

//go:nosplit
func fork() int { return system6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0) }

//go:nosplit
func address[T any](of *T) uintptr { return uintptr(unsafe.Pointer(of)) }

// Of signal(7), in the kernel's own terms.
const (
	sizeofSigset = 8
	sigDfl       = 0
	sigIgn       = 1
)

//go:nosplit
func ignoredSignals() (ignored uint64) {
	var action [4]uint64 // struct sigaction: the handler comes first
	for n := range uintptr(64) {
		if system6(unix.SYS_RT_SIGACTION, n+1, 0, address(&action), sizeofSigset, 0) == 0 && action[0] == sigIgn {
			ignored |= 1 << n
		}
	}
	return ignored
}

// quiet makes this process a worker as far as that cannot come early enough: nobody can open its memory, and it has a
// large timer slack. Go's runtime has a thread that looks after the others every 20 µs while they are at work, for
// which the processor of a virtual machine has to be stopped each time. With a slack of 1 ms a new connection takes
// a tenth less of the worker's time. Other threads have it from this one.
//
//go:nosplit
func quiet() {
	system(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0)
	system(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, 1e6, 0)
}

// forkCompanion forks a process that forks the companion and exits: a program may wait for all of its children.
// Both are born undumpable, so that nobody can open their memory, and nobody has, as one could have
// opened this process's before.
//
//go:nosplit
func (s stack) forkCompanion() {
	var ends [2]int32
	if r := system6(unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0, address(&ends), 0); r < 0 {
		entered.failed, entered.failing = syscall.Errno(-r), inSocketpair
		return
	}
	// A process that adopts orphans would have the companion for a child.
	var reaper int32
	system(unix.SYS_PRCTL, unix.PR_GET_CHILD_SUBREAPER, address(&reaper), 0)
	if reaper != 0 {
		system(unix.SYS_PRCTL, unix.PR_SET_CHILD_SUBREAPER, 0, 0)
	}
	dumpable := system(unix.SYS_PRCTL, unix.PR_GET_DUMPABLE, 0, 0)
	system(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0)
	pid := fork()
	if pid == 0 {
		s.forkAgain(ends[1])
		return
	}
	system(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, uintptr(dumpable), 0)
	if reaper != 0 {
		// Not before the companion is an orphan. Who adopts that is found when its parent ends.
		system6(unix.SYS_WAITID, unix.P_PID, uintptr(pid), 0, unix.WEXITED|unix.WNOWAIT, 0)
		system(unix.SYS_PRCTL, unix.PR_SET_CHILD_SUBREAPER, 1, 0)
	}
	system(unix.SYS_CLOSE, uintptr(ends[1]), 0, 0)
	if pid < 0 {
		entered.failed = syscall.Errno(-pid)
		system(unix.SYS_CLOSE, uintptr(ends[0]), 0, 0)
		return
	}
	// The standard descriptors may be closed, which is no reason for the program to find a socket there.
	entered.companion = int(ends[0])
	if ends[0] <= 2 {
		entered.companion = system(unix.SYS_FCNTL, uintptr(ends[0]), unix.F_DUPFD_CLOEXEC, companionFD)
		system(unix.SYS_CLOSE, uintptr(ends[0]), 0, 0)
		if entered.companion < 0 {
			entered.companion, entered.failed, entered.failing = 0, syscall.Errno(-entered.companion), inFcntl
		}
	}
	entered.forker = pid
}

// forkAgain is the process between. It returns in the companion alone, and tells by the socket which process that is,
// or an error's number, negative.
// What the program inherits, a lock, a pipe or a folder, is not for the companion to hold, and the terminal's signals are not
// for it.
//
//go:nosplit
func (s stack) forkAgain(end int32) {
	root := [...]byte{'/', 0}
	r := system(unix.SYS_SETSID, 0, 0, 0)
	system(unix.SYS_CHDIR, address(&root), 0, 0)
	if end != companionFD && r >= 0 {
		r = system(unix.SYS_DUP3, uintptr(end), companionFD, unix.O_CLOEXEC)
	}
	if r >= 0 {
		closeFrom(companionFD + 1)
		r = standardToNull()
	}
	if r >= 0 {
		r = fork()
	}
	if r != 0 {
		pid := int32(r)
		system6(unix.SYS_SENDTO, companionFD, address(&pid), unsafe.Sizeof(pid), unix.MSG_NOSIGNAL, 0)
		system(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	entered.isCompanion = true
	quiet()
	s.ownRandomness()
	if s.mayKeep() {
		keepAsleep()
	}
}

// closeFrom closes all descriptors from first on, one by one where the kernel is too old for close_range(2), or somebody's
// filter does not let it.
//
//go:nosplit
func closeFrom(first uintptr) {
	if system(unix.SYS_CLOSE_RANGE, first, 1<<32-1, 0) >= 0 {
		return
	}
	limit := [2]uint64{1 << 10}
	system6(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, 0, address(&limit), 0)
	for fd := first; fd < uintptr(limit[0]); fd++ {
		system(unix.SYS_CLOSE, fd, 0, 0)
	}
}

// standardToNull has the standard descriptors be /dev/null, or returns an error's number, negative.
//
//go:nosplit
func standardToNull() int {
	path := [...]byte{'/', 'd', 'e', 'v', '/', 'n', 'u', 'l', 'l', 0}
	null := system6(unix.SYS_OPENAT, 0, address(&path), unix.O_RDWR, 0, 0)
	if null < 0 {
		return null
	}
	for fd := range companionFD {
		if fd == null {
			continue
		}
		if r := system(unix.SYS_DUP3, uintptr(null), uintptr(fd), 0); r < 0 {
			return r
		}
	}
	if null > companionFD {
		system(unix.SYS_CLOSE, uintptr(null), 0, 0)
	}
	return 0
}

// ownRandomness makes anew the 16 bytes by which the runtime's random numbers begin: the parent's were there to be
// read, and have been used.
//
//go:nosplit
func (s stack) ownRandomness() {
	const atNull, atRandom = 0, 25
	n := 1 + s.count() + 1
	for s.word(n) != nil { // the environment
		n++
	}
	for n++; uintptr(s.word(n)) != atNull; n += 2 {
		if uintptr(s.word(n)) == atRandom {
			system(unix.SYS_GETRANDOM, uintptr(s.word(n+1)), 16, 0)
		}
	}
}

// message is what lies first in the companion's socket, with its addresses as numbers: nothing of it moves, and
// nothing may be allocated.
type message struct {
	control [64]byte
	length  int // of all of the text, or an error's number, negative
	rights  bool
}

// receive looks at the message (MSG_PEEK), or takes it, with up to size bytes of its text. Descriptors that come along are
// copies where it only looks.
//
//go:nosplit
func (m *message) receive(text unsafe.Pointer, size, flags uintptr) {
	vector := struct{ base, length uintptr }{uintptr(text), size}
	header := struct {
		name, nameLength, vector, vectorLength, control, controlLength, flags uintptr // struct msghdr
	}{0, 0, address(&vector), 1, address(&m.control), unsafe.Sizeof(m.control), 0}
	for {
		m.length = system(unix.SYS_RECVMSG, companionFD, address(&header), flags|unix.MSG_CMSG_CLOEXEC)
		if m.length != -int(unix.EINTR) {
			break
		}
	}
	m.rights = header.controlLength > 0
}

// keepAsleep does the work of a keeper as long as that is nothing, so that beside most programs there is one without
// a runtime: until the worker does not answer any more. It returns when there is something to do, or when
// this is to be a worker.
//
//go:nosplit
func keepAsleep() {
	var m message
	var word [4]byte
	m.receive(unsafe.Pointer(&word), unsafe.Sizeof(word), unix.MSG_PEEK)
	if m.length <= 0 {
		system(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	if m.rights || word != [4]byte{'k', 'e', 'e', 'p'} {
		closeFrom(companionFD + 1)
		return
	}
	m.receive(unsafe.Pointer(&word), unsafe.Sizeof(word), 0)
	entered.keeps = true
	// Signals that a process has no handler for end it: it has none yet, and ends with the last process under the filter.
	handleSignals(sigIgn, 0)
	nameKeeper()
	m.receive(unsafe.Pointer(&entered.program), unsafe.Sizeof(entered.program), 0)
	if m.length <= 0 {
		system(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	entered.length = m.length
	if m.rights {
		awaitWorkersEnd()
	}
	// Those that all are told to end by, it ignores for good: somebody may have to be answered then.
	handleSignals(sigDfl, 1<<(unix.SIGHUP-1)|1<<(unix.SIGINT-1)|1<<(unix.SIGQUIT-1)|1<<(unix.SIGTERM-1)|1<<(unix.SIGTSTP-1))
}

// handleSignals has the signals be handled so that were not ignored before, but for some.
//
//go:nosplit
func handleSignals(how, but uint64) {
	action := [4]uint64{how} // struct sigaction: the handler comes first
	for n := range uintptr(64) {
		if (entered.ignored|but)>>n&1 == 0 {
			system6(unix.SYS_RT_SIGACTION, n+1, address(&action), 0, sizeofSigset, 0)
		}
	}
}

// awaitWorkersEnd waits for what keeper.Keep has to do, with the descriptors that keeper.Hand has sent. It does not return
// where nobody is left under the filter.
//
//go:nosplit
func awaitWorkersEnd() {
	const listener, life = keptFD, keptFD + 1
	p := [2]unix.PollFd{{Fd: listener}, {Fd: life}}
	for system6(unix.SYS_PPOLL, address(&p), uintptr(len(p)), 0, 0, sizeofSigset) == -int(unix.EINTR) {
	}
	if p[0].Revents != 0 {
		system(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}

// nameKeeper has ps(1) show what this is.
//
//go:nosplit
func nameKeeper() {
	name := [...]byte{'g', 'o', 'r', 'e', 's', 's', 'l', 0, 'k', 'e', 'e', 'p', 0}
	system(unix.SYS_PRCTL, unix.PR_SET_NAME, address(&name), 0)
	for i := range entered.commandLineLength {
		b := byte(0)
		if i < uintptr(len(name)) {
			b = name[i]
		}
		*(*byte)(unsafe.Add(entered.commandLine, i)) = b
	}
}
