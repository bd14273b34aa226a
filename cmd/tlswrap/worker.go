package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy"
	"tlswrap/proxy/machine"
	"tlswrap/proxy/process"
	"tlswrap/proxy/room"
	"tlswrap/proxy/wire"
)

// stages are what this program is by argv[0], which no command line of a person's has.
var stages = map[string]func(args []string, std stdio) int{
	stageLaunch:    runLaunch,
	stageCompanion: runCompanion,
	stageProgram:   runBelowInit,
	machine.Stage:  runAttempt,
	room.Stage:     runRoom,
}

// runRoom is a process of a worker's that keeps a network namespace.
func runRoom(_ []string, _ stdio) int {
	// It ends with the worker, which may have to look names up when all processes of a service are told to end.
	signal.Ignore(syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP)
	room.Keep()
	return 0
}

// runOwnWorker is the worker of a single run, which ends with its last session. status, which is closed when it is
// ready, is where it says an error that it returns.
func runOwnWorker(args []string, listener, status *os.File) error {
	os.Chdir("/") // no folder is to be kept busy
	var o options
	f := newFlags(stageCompanion)
	o.policyFlags(f)
	o.logFlags(f)
	if err := f.Parse(args); err != nil {
		return err
	}
	if err := listenHere(int(listener.Fd())); err != nil {
		return err
	}
	if err := process.Harden(); err != nil {
		return err
	}
	process.MoreDescriptors()
	l, err := net.FileListener(listener)
	listener.Close()
	if err != nil {
		return err
	}
	log, file, err := o.openLog(nil)
	if err != nil {
		return err
	}
	w, err := newWorker(&o, log, nil, true)
	if err != nil {
		return err
	}
	if file != nil {
		file.speakTo(w.Tell)
	}
	// The terminal's signals are the program's.
	signal.Ignore(syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP)
	ctx := farewell(w)
	return service{w, l.(*net.UnixListener), file}.run(ctx, func() { status.Close() })
}

// listenHere makes this process the one that listens on a socket, which another may have made: who connects there asks
// the kernel for it (SO_PEERCRED), to let it in past Yama or to spare it as process 1. The call carries the cookie
// of the run that this process may belong to, whose worker could not look into a hardened process.
func listenHere(fd int) error {
	var cookie uint64
	if outer, err := parseControl(os.Getenv(wire.Env)); err == nil {
		cookie = outer.Token.Cookie()
	}
	if _, _, errno := unix.RawSyscall6(unix.SYS_LISTEN, uintptr(fd), unix.SOMAXCONN, 0, 0, 0, uintptr(cookie)); errno != 0 {
		return os.NewSyscallError("listen", errno)
	}
	return nil
}

// farewellTime is how long the worker of a single run goes on once it was told to end: as long as systemd gives
// a service's processes, which it tells all at once.
const farewellTime = 90 * time.Second

// noticeTime is how soon the worker knows at the latest that a program has ended.
const noticeTime = 200 * time.Millisecond

// farewell returns a context that is done when a worker of a single run is to end before its sessions have
// ended. Its programs may have been told with it, and have something to say yet. A second signal means it,
// unless a program has ended since the first: systemd tells those that are left once more then.
func farewell(w *proxy.Worker) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	go func() {
		defer cancel()
		<-told
		late := time.After(farewellTime)
		for {
			known := w.Departures()
			select {
			case <-late:
				return
			case <-told:
			}
			for end := time.Now().Add(noticeTime); w.Departures() == known; time.Sleep(noticeTime / 20) {
				if time.Now().After(end) {
					return
				}
			}
		}
	}()
	return ctx
}

func newWorker(o *options, log *slog.Logger, allow []uint32, single bool) (*proxy.Worker, error) {
	library, err := findLibrary()
	if err != nil {
		return nil, err
	}
	return proxy.New(proxy.Config{
		Load: o.loader(), CAFiles: o.ca, Library: library, Log: log,
		AllowUIDs: allow, EndWithSessions: single,
	})
}

// openLog opens the log for JSON lines; without one, which is a nil *logFile, events go to
// otherwise as text, or nowhere where that is nil.
func (o *options) openLog(otherwise io.Writer) (*slog.Logger, *logFile, error) {
	how := &slog.HandlerOptions{Level: o.level.least}
	if o.log != "" {
		f, err := openLogFile(o.log)
		if err != nil {
			return nil, nil, err
		}
		return slog.New(slog.NewJSONHandler(f, how)), f, nil
	}
	if otherwise == nil {
		return slog.New(slog.DiscardHandler), nil, nil
	}
	return slog.New(slog.NewTextHandler(otherwise, how)), nil, nil
}

// service is a worker with what it listens on, and its log file, which may be nil.
type service struct {
	worker   *proxy.Worker
	listener *net.UnixListener
	log      *logFile
}

// run serves until ctx is done. The worker reloads its rules on SIGHUP and when a file changes; its log
// is then opened anew where it was renamed. ready is called once signals do what they are for.
func (s service) run(ctx context.Context, ready func()) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	useProcessors()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	go s.worker.Watch(ctx, hup)
	if s.log != nil {
		turned := make(chan os.Signal, 1)
		signal.Notify(turned, syscall.SIGHUP)
		go func() {
			for range turned {
				s.log.reopen()
			}
		}()
	}
	ready()
	err := s.worker.Serve(ctx, s.listener)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// useProcessors has a worker use half of those that it may: the programs need processors too. And on two, one at work
// alone is faster: bytes do not wait for another to wake up.
func useProcessors() {
	if os.Getenv("GOMAXPROCS") != "" || entered.onOneProcessor && runtime.NumCPU() < 4 {
		return
	}
	runtime.SetDefaultGOMAXPROCS()
	runtime.GOMAXPROCS(max(1, runtime.GOMAXPROCS(0)/2))
}

// runWorker is tlswrap worker: a long-lived worker for many programs.
func runWorker(args []string, std stdio) int {
	var o options
	var socket string
	var allow list
	f := newFlags("tlswrap worker")
	o.policyFlags(f)
	o.logFlags(f)
	f.StringVar(&socket, "socket", "", "")
	f.Var(&allow, "allow", "")
	if status, done := parseFlags(f, args, std); done {
		return status
	}
	if socket == "" || f.NArg() > 0 {
		return complain(std, exitOurs, "usage: tlswrap worker --socket PATH [--allow USER] [--rules FILE] [--ca FILE] [--tls HOST:PORT] [--errno WORD] [--log FILE] [--log-level LEVEL]")
	}
	uids, err := userIDs(allow)
	if err != nil {
		return complain(std, exitOurs, "%v", err)
	}
	if err := o.resolve(); err != nil {
		return complain(std, exitOurs, "%v", err)
	}
	log, file, err := o.openLog(std.err)
	if err != nil {
		return complain(std, exitOurs, "%v", err)
	}
	if file != nil {
		file.speakTo(sayOn(std.err))
	}
	if err := process.Harden(); err != nil {
		return complain(std, exitOurs, "%v", err)
	}
	w, err := newWorker(&o, log, uids, false)
	if err != nil {
		return complainLines(std, exitOurs, err)
	}
	l, err := listen(socket, len(uids) > 0)
	if err != nil {
		return complain(std, exitOurs, "%v", err)
	}
	defer l.Close()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ready := func() { fmt.Fprintf(std.err, "tlswrap: worker %d serves %s\n", os.Getpid(), socket) }
	if err := (service{w, l, file}).run(ctx, ready); err != nil {
		return complain(std, exitOurs, "%v", err)
	}
	return 0
}

// userIDs looks up the users of --allow, given by name or number.
func userIDs(users []string) ([]uint32, error) {
	var ids []uint32
	for _, name := range users {
		id := name
		if u, err := user.Lookup(name); err == nil {
			id = u.Uid
		}
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("--allow: there is no user %q", name)
		}
		ids = append(ids, uint32(n))
	}
	return ids, nil
}

// listen makes the control socket at path: for our own user in a folder that only it
// can enter, or for others too, who are told apart by SO_PEERCRED.
func listen(path string, others bool) (*net.UnixListener, error) {
	dirMode, mode := os.FileMode(0o700), os.FileMode(0o600)
	if others {
		dirMode, mode = 0o711, 0o666
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, fmt.Errorf("making the control socket's folder: %w", err)
	}
	fi, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if owner := fi.Sys().(*syscall.Stat_t).Uid; owner != 0 && owner != uint32(os.Geteuid()) {
		return nil, fmt.Errorf("%s: this folder belongs to user %d, who can put another socket in place of the worker's", dir, owner)
	}
	if fi.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("%s: others can write to this folder, and put a socket of theirs in place of the worker's", dir)
	}
	switch conn, err := net.Dial("unixpacket", path); {
	case err == nil:
		conn.Close()
		return nil, fmt.Errorf("%s: another worker serves this socket", path)
	case errors.Is(err, unix.ECONNREFUSED): // a worker that died, or no socket
		if fi, e := os.Lstat(path); e == nil && fi.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("%s: exists, and is no socket", path)
		}
		os.Remove(path)
	case !errors.Is(err, unix.ENOENT):
		return nil, fmt.Errorf("finding out whether another worker serves this socket: %w", err)
	}
	// Nobody may connect between bind and chmod.
	old := unix.Umask(0o777)
	file, err := listenAt(path)
	unix.Umask(old)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	err = os.Chmod(path, mode)
	var l net.Listener
	if err == nil {
		l, err = net.FileListener(file)
	}
	if err != nil {
		os.Remove(path)
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(true)
	return l.(*net.UnixListener), nil
}

// listenAt makes a control socket: address is a path, or "@" and an abstract name (unix(7)).
func listenAt(address string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err = os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrUnix{Name: address})); err == nil {
		err = listenHere(fd)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), address), nil
}
