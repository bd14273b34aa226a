// Package begin is what tlswrap itself asks a worker for before it becomes the program: that a run begins,
// that sockets are served which it was started with, and that the kernel's filter is answered for. tlswrap
// calls it, and so does its keeper (package keeper); the worker does not.
package begin

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/seccomp"
	"tlswrap/proxy/session"
	"tlswrap/proxy/target"
	"tlswrap/proxy/verdict"
	"tlswrap/proxy/wire"
)

// Hello is how a process begins a run. Sentences for a person will go to Stderr.
type Hello struct {
	Token          wire.Token
	Stderr         *os.File
	Verbose, Quiet bool
	Worker         int // its process, where that is known and may not listen yet
}

// Greet begins a run with the worker at address, an abstract socket
// ("@name") or a path, on behalf of this process, once trust has nothing against the user that the
// worker runs as. It waits until the worker is ready; the error of a worker that went away is io.EOF
// or the network's.
func Greet(address string, trust func(uid uint32) error, h Hello) (Reached, error) {
	w := Reached{Address: address, Token: h.Token}
	c, err := wire.Dial(address, wire.RequestTime, func(peer uint32) error {
		w.UID = peer
		return trust(peer)
	})
	if err != nil {
		return w, err
	}
	defer c.Close()
	hello := wire.Request{Op: wire.OpHello, Flags: wire.FlagStderr, Token: h.Token}
	if h.Verbose {
		hello.Flags |= wire.FlagVerbose
	}
	if h.Quiet {
		hello.Flags |= wire.FlagQuiet
	}
	r, err := h.ask(c, hello)
	if err != nil {
		return w, err
	}
	if r.Answer == wire.AnswerError && r.Errno == unix.ENETDOWN {
		return w, session.ErrManySessions
	}
	if r.Answer != wire.AnswerGood {
		return w, errors.New("this user may not use it (tlswrap worker --allow lets others)")
	}
	w.Enforce = r.Number == wire.NumberEnforce
	switch {
	case r.Errno == unix.EFAULT:
		w.unreachable = outOfReach(r.Name)
	case r.Errno != 0:
		w.unreachable = errors.New(r.Name)
	}
	return w, nil
}

// ask says hello, and shows this process to the worker by what that knows it, if it can reach it: memory, and the
// descriptor of this connection.
func (h Hello) ask(c wire.Conn, hello wire.Request) (wire.Reply, error) {
	target.Admit(cmp.Or(h.Worker, int(c.PID)))
	shown := target.Show(h.Token[:])
	defer runtime.KeepAlive(shown)
	hello.Name, hello.Channel = strconv.Itoa(c.FD), shown.Address()
	r, got, err := c.Ask(hello, int(h.Stderr.Fd()), c.FD)
	got.Close()
	return r, err
}

// Reached is a run's worker, as Greet has found it.
type Reached struct {
	Address string
	UID     uint32
	Token   wire.Token
	Enforce bool // its rules want the program enforced

	unreachable error // why the worker cannot answer for this process, or nil
}

// Serve shows the worker a TCP socket of this process, one that listens or, with
// accepted, one that was accepted, and puts in its place what the program is to use
// instead, without the close-on-exec flag. It reports whether a listen rule is about the
// socket. A client that was accepted has then shaken hands; the error is a Failure, of
// which the person has been told, where it did not.
func Serve(w Reached, fd int, accepted bool) (covered bool, err error) {
	c, err := w.dial()
	if err != nil {
		return false, err
	}
	defer c.Close()
	req := wire.Request{Op: wire.OpListen, Token: w.Token}
	if accepted {
		req.Op = wire.OpAccept
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0) // before the worker has its own way with it
	if err != nil {
		return false, os.NewSyscallError("fcntl", err)
	}
	r, got, err := c.Ask(req, fd)
	end := got.Take()
	got.Close()
	if end >= 0 {
		defer unix.Close(end)
	}
	switch {
	case err != nil:
		return false, err
	case r.Answer == wire.AnswerPass:
		return false, nil
	case r.Answer == wire.AnswerError:
		return true, verdict.Failf(r.Errno, "%v", r.Errno)
	case r.Answer != wire.AnswerChannel || end < 0:
		return true, errors.New("it did not answer as expected")
	}
	if err := unix.SetNonblock(end, flags&unix.O_NONBLOCK != 0); err != nil {
		return true, os.NewSyscallError("fcntl", err)
	}
	if err := unix.Dup3(end, fd, 0); err != nil {
		return true, os.NewSyscallError("dup3", err)
	}
	return true, c.Tell(wire.Request{Op: wire.OpTaken, Token: w.Token})
}

// Finish lets the worker know that no process is left of the run, as soon as kill has seen to that, and waits until what
// they have written is sent, for limit at most. kill gets the worker's own process, 0 where that is in another
// PID namespace.
func Finish(w Reached, limit time.Duration, kill func(worker int)) {
	c, err := w.dialFor(limit)
	if err != nil {
		return // it has ended
	}
	defer c.Close()
	kill(int(c.PID))
	if c.Tell(wire.Request{Op: wire.OpFinish, Token: w.Token}) == nil {
		c.WaitForEnd() // with its last session
	}
}

// acceptTime is the longest that a client's handshake can take (see rules).
const acceptTime = 11 * time.Minute

// Supervision is how much a program is to be supervised.
type Supervision int

const (
	Unasked  Supervision = iota // not at all, unless the worker's rules demand it
	Possible                    // where it is possible
	Needed                      // or not started: by a tracer where the kernel can do no better
	Enforced                    // or not started
)

// ErrUnasked is why there is none where it was not asked for.
var ErrUnasked = errors.New("nobody has asked for it")

// ErrEnforced is why no program is started: it would be free to connect.
var ErrEnforced = errors.New("the kernel cannot be made to hold what the rules promise")

// Trial finds out whether this process can have a filter under it.
type Trial struct {
	want Supervision
	err  func() error
}

// Try begins a trial, on a thread that ends: a filter is under one for good. It goes on while a worker starts.
func Try(want Supervision) Trial {
	try := sync.OnceValue(func() error {
		features, err := seccomp.Try()
		if err != nil {
			return err
		}
		return features.Missing()
	})
	if want != Unasked {
		go try()
	}
	return Trial{want, try}
}

// Supervise has the kernel hand the worker those calls of this process on sockets that the shim does not
// make (package supervisor), and of whatever it becomes and starts. Where that is enforced, or the worker's
// rules say so, the shim's own connects are handed over as well. The calling goroutine is locked to the process's first
// thread, and executes the program there: what the kernel keeps for that thread alone goes on, a signal for its parent's
// death (PR_SET_PDEATHSIG) and who may look into it (Yama). start is nil where the worker ends with its programs.
// The error says why there is no supervision; no program may be started without it where it wraps ErrEnforced.
func Supervise(w Reached, t Trial, start StartKeeper) error {
	w.Enforce = w.Enforce || t.want == Enforced
	if t.want == Unasked && !w.Enforce {
		return ErrUnasked
	}
	stands, err := w.supervise(t, start)
	if err != nil && (stands || w.Enforce) {
		return fmt.Errorf("%w: %w", ErrEnforced, err)
	}
	return err
}

// supervise reports, with an error, whether the filter stands and nobody answers.
func (w Reached) supervise(t Trial, start StartKeeper) (stands bool, err error) {
	stands, err = w.byListener(t, start)
	if err == nil || t.want != Needed || stands || w.Enforce {
		return stands, err
	}
	if _, far := errors.AsType[outOfReach](err); far {
		return false, err // for a tracer, too
	}
	// Where that fails nothing is started, as it cannot be preloaded.
	if traced := w.byTracer(); traced != nil {
		return false, seccomp.NorByTracing(err, traced)
	}
	return false, nil
}

// Keep gives the keeper of a filter (package keeper) its listener and what the worker has given for that. They stay the
// caller's.
type Keep func(listener seccomp.Listener, h Held) error

// StartKeeper starts a keeper, which is done before there is a filter that it would be under itself.
type StartKeeper func() (Keep, error)

// Held is what a worker gives whoever hands it a filter's listener, the owner's to close.
type Held struct {
	Life    int // has POLLHUP to tell when it does not answer any more, however that came
	Pending int // seccomp.ReadPending then tells what it has left unanswered
}

// Close closes both.
func (h Held) Close() {
	fdio.Close(h.Life)
	fdio.Close(h.Pending)
}

// Hold has a worker answer for a filter that stands already: the one that comes after a long-lived one, which
// has ended.
func (w Reached) Hold(listener seccomp.Listener) (Held, error) {
	c, err := w.dial()
	if err != nil {
		return Held{}, err
	}
	defer c.Close()
	return w.askHold(c, listener)
}

// outOfReach is why the worker cannot read the program's memory.
type outOfReach string

func (o outOfReach) Error() string { return string(o) }

// byListener has the worker answer for a filter whose calls wait for that.
func (w Reached) byListener(t Trial, start StartKeeper) (stands bool, err error) {
	if w.unreachable != nil {
		return false, w.unreachable
	}
	if err := t.err(); err != nil {
		return false, err // before a filter is under this thread for good
	}
	c, err := w.dial()
	if err != nil {
		return false, err
	}
	defer c.Close()
	keep := Keep(func(seccomp.Listener, Held) error { return nil })
	if start != nil {
		if keep, err = start(); err != nil {
			return false, err
		}
	}
	if w.Enforce {
		if err := seccomp.Confine(); err != nil {
			return false, err
		}
	}
	listener, err := seccomp.Install(seccomp.Policy{Cookie: seccomp.Cookie(w.Token.Cookie()), Enforce: w.Enforce})
	if err != nil {
		return false, err
	}
	defer unix.Close(int(listener))
	held, err := w.askHold(c, listener)
	if err != nil {
		return true, err
	}
	defer held.Close()
	err = keep(listener, held)
	return err != nil, err
}

// byTracer has the worker trace this thread, and puts a filter under it whose calls stop for that.
func (w Reached) byTracer() error {
	c, err := w.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	got, err := w.askSupervise(c, strconv.Itoa(unix.Gettid()))
	got.Close()
	if err != nil {
		return err
	}
	if err := seccomp.InstallTraced(seccomp.Cookie(w.Token.Cookie())); err != nil {
		return err
	}
	if err := seccomp.Prove(); err != nil {
		return err
	}
	return tryTraced()
}

// tryTraced makes a call that the worker is to answer: it reads memory, copies a descriptor, and gives the call back.
func tryTraced() error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	var nowhere [2]byte // AF_UNSPEC
	if _, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&nowhere)), unsafe.Sizeof(nowhere)); errno != 0 {
		return fmt.Errorf("the worker cannot answer for a program that it traces (%w)", errno)
	}
	return nil
}

// askHold has the worker supervise by a listener.
func (w Reached) askHold(c wire.Conn, listener seccomp.Listener) (Held, error) {
	got, err := w.askSupervise(c, "", int(listener))
	if err == nil && len(got) != 2 {
		err = errors.New("the worker has no descriptor left")
	}
	if err != nil {
		got.Close()
		return Held{}, err
	}
	return Held{Life: got[0], Pending: got[1]}, nil
}

// askSupervise has the worker supervise this process, by a listener or by tracing a thread, and returns the
// descriptors that it gives for that, the caller's to close.
func (w Reached) askSupervise(c wire.Conn, thread string, listener ...int) (wire.Descriptors, error) {
	r, got, err := c.Ask(wire.Request{Op: wire.OpSupervise, Token: w.Token, Name: thread}, listener...)
	switch {
	case err != nil:
	case r.Answer == wire.AnswerError && r.Name != "":
		err = errors.New(r.Name)
	case r.Answer != wire.AnswerGood:
		err = errors.New("the worker does not answer for the kernel's filter")
	}
	return got, err
}

// dial connects to the worker again.
func (w Reached) dial() (wire.Conn, error) { return w.dialFor(acceptTime) }

// dialFor connects for an exchange of at most limit.
func (w Reached) dialFor(limit time.Duration) (wire.Conn, error) {
	c, err := wire.Dial(w.Address, limit, func(peer uint32) error {
		if peer != w.UID {
			return fmt.Errorf("user %d has taken the worker's place", peer)
		}
		return nil
	})
	c.Cookie = w.Token.Cookie()
	return c, err
}
