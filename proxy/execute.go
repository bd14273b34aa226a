package proxy

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/inspect"
	"tlswrap/proxy/quote"
	"tlswrap/proxy/wire"
)

// inspect answers a program that is about to start another.
func (w *Worker) inspect(a asked) {
	fd := a.fds.Take()
	defer fdio.Close(fd)
	a.Send(w.inspected(a, fd))
}

// inspected is the answer about the program in fd, or in none.
func (w *Worker) inspected(a asked, fd int) wire.Reply {
	refuse := func(why string) wire.Reply { return w.notPreloaded(a, fd, why) }
	if a.Flags&wire.FlagLibraryNoExec != 0 {
		return refuse(inspect.ErrNoExec.Error())
	}
	if a.Flags&wire.FlagLibraryAway != 0 {
		return refuse("the library to preload cannot be reached from where it would start, in another root folder or as another user")
	}
	if a.Flags&wire.FlagUnfollowed != 0 {
		return refuse("it cannot be told to which folder the file actions of posix_spawn lead")
	}
	if fd < 0 {
		return refuse("it may be executed but not read")
	}
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return wire.Reply{Answer: wire.AnswerError, Errno: unix.ENFILE}
	}
	file := os.NewFile(uintptr(dup), a.Request.Name)
	defer file.Close()
	if fi, err := file.Stat(); err == nil && !fi.Mode().IsRegular() {
		return wire.Reply{Answer: wire.AnswerError, Errno: unix.EACCES} // as execve(2) has it
	}
	got, err := inspect.File(file, w.config.Library, a.executor())
	if err != nil {
		return refuse(err.Error())
	}
	if l := got.Loader; l != nil {
		// First comes the argument after the loader's own name.
		argument := inspect.Argument{Next: 1}
		if a.Flags&wire.FlagArgument != 0 {
			if argument, err = l.Argument(a.Request.Name); err != nil {
				return refuse(err.Error())
			}
		}
		switch {
		case argument.Program:
			return wire.Reply{Answer: wire.AnswerProgram}
		case argument.Next > 0:
			return wire.Reply{Answer: wire.AnswerArgument, Number: uint16(argument.Next)}
		}
		got.Library = l.Library
	}
	switch {
	case got.Interpreter != "":
		return wire.Reply{Answer: wire.AnswerScript, Name: got.Interpreter}
	case got.Library != "":
		return wire.Reply{Answer: wire.AnswerExec, Name: got.Library}
	}
	return wire.Reply{Answer: wire.AnswerError, Errno: unix.ENOEXEC}
}

// notPreloaded is the answer about a program that the library cannot be preloaded into.
func (w *Worker) notPreloaded(a asked, fd int, why string) wire.Reply {
	if a.Session.Supervised() { // the kernel hands over what it does
		return wire.Reply{Answer: wire.AnswerExec, Name: w.config.Library}
	}
	name := a.Request.Name
	if name == "" { // it is started by a descriptor
		name, _ = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	}
	a.Say(fmt.Sprintf("%s: not started, because it cannot be preloaded: %s", quote.Printable([]byte(name)), why))
	return wire.Reply{Answer: wire.AnswerError, Errno: unix.EACCES}
}

// executor is who is about to start a program.
func (a asked) executor() inspect.Executor {
	by := inspect.Executor{
		UID: a.UID, GID: a.GID,
		NoNewPrivs: a.Flags&wire.FlagNoNewPrivs != 0, IDsDiffer: a.Flags&wire.FlagIDsDiffer != 0,
		Interprets: a.Flags&wire.FlagInterpreter != 0, Mapped: a.Flags&wire.FlagMapped != 0,
	}
	if a.Flags&wire.FlagIDsReset != 0 {
		by.UID, by.GID = inspect.UnknownID, inspect.UnknownID
	}
	return by
}
