package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/begin"
	"tlswrap/proxy/inspect"
	"tlswrap/proxy/quote"
	"tlswrap/proxy/verdict"
	"tlswrap/proxy/wire"
)

// runProgram wraps: tlswrap [flags] program [args...].
func runProgram(args []string, std stdio) int {
	return wrap(args, std, nil)
}

// wrap does that. init is told where the worker is; without it, which is nil, there is none, and as process 1
// this process becomes one.
func wrap(args []string, std stdio, init *os.File) int {
	o := options{init: init}
	f := newFlags("tlswrap")
	o.policyFlags(f)
	f.StringVar(&o.worker, "worker", "", "use the running worker at `SOCKET`")
	o.logFlags(f)
	f.BoolVar(&o.verbose, "v", false, "")
	f.BoolVar(&o.verbose, "verbose", false, "")
	f.BoolVar(&o.quiet, "q", false, "")
	f.BoolVar(&o.quiet, "quiet", false, "")
	f.BoolVar(&o.enforce, "enforce", false, "")
	f.BoolVar(&o.noKernel, "no-kernel", false, "")
	f.BoolVar(&o.acceptStdin, "accept-stdin", false, "")
	f.BoolVar(&o.libtlsPath, "libtls-path", false, "")
	f.BoolVar(&o.version, "version", false, "")
	if status, done := parseFlags(f, args, std); done {
		return status
	}
	if o.version {
		return runVersion(nil, std)
	}
	if o.libtlsPath {
		return printLibtlsPath(std)
	}
	if _, client, err := tcpSocket(0); o.acceptStdin || client || err != nil {
		std.err = awayFromClient(std.err)
	}
	if err := o.checkRun(f.NArg()); err != nil {
		return complain(std, exitOurs, "%v", err)
	}
	if init == nil && os.Getpid() == 1 {
		return beInit(args, std)
	}
	library, err := findLibrary()
	if err != nil {
		return complain(std, exitOurs, "%v", err)
	}
	return o.start(f.Args(), library, std)
}

// start becomes a program, with its arguments, under a worker; it returns where that cannot be.
func (o *options) start(program []string, library string, std stdio) int {
	path, status, err := findProgram(program[0])
	if err != nil {
		return complain(std, status, "%v", err)
	}
	e := execution{path: path, program: program, library: library}
	preload, refused, cannotPreload := inspectProgram(path, program, library)
	trial := begin.Try(o.supervision(cannotPreload))
	control, err := o.reachWorker(std)
	if err != nil {
		return complainLines(std, exitOurs, err)
	}
	e.setting = control.setting()
	if o.init != nil {
		io.WriteString(o.init, e.setting)
	}
	if err := o.serveInherited(control); err != nil {
		if _, told := errors.AsType[*verdict.Failure](err); told {
			return exitOurs
		}
		return complain(std, exitOurs, "%v", err)
	}
	var keeper begin.StartKeeper
	if o.worker != "" { // which another may come after
		keeper = func() (begin.Keep, error) { return o.startKeeper(control, std.err) }
	}
	unsupervised := begin.Supervise(control.Reached, trial, keeper)
	switch {
	case errors.Is(unsupervised, begin.ErrEnforced):
		return complain(std, exitOurs, "%v", unsupervised)
	case cannotPreload != nil && errors.Is(unsupervised, begin.ErrUnasked):
		return complain(std, exitCannotExec, "%s: not started, because it cannot be preloaded: %v (without --no-kernel the kernel might hold it)",
			quote.Printable([]byte(refused)), cannotPreload)
	case cannotPreload != nil && unsupervised != nil:
		return complain(std, exitCannotExec, "%s: not started, because it cannot be preloaded: %v; and the kernel cannot hold it: %v (tlswrap doctor says what would allow it)",
			quote.Printable([]byte(refused)), cannotPreload, unsupervised)
	case cannotPreload != nil:
		preload = e.forOthers()
	case unsupervised != nil && !errors.Is(unsupervised, begin.ErrUnasked) && o.verbose:
		complain(std, 0, "the kernel does not hold what the preloaded library does not see: %v", unsupervised)
	}
	return e.become(preload, std)
}

// execution is a program that is to be executed.
type execution struct {
	path    string
	program []string // its arguments
	library string   // the shim
	setting string   // where its worker is
}

// forOthers is what is preloaded where the program itself cannot be, for what it starts; or "", where the loader
// would complain of it each time.
func (e execution) forOthers() string {
	if inspect.CheckLibrary(e.library) != nil {
		return ""
	}
	return e.library
}

// become executes it, and returns the exit status where that fails.
func (e execution) become(preload string, std stdio) int {
	env := preloadEnv(os.Environ(), preload, e.setting)
	dismissCompanion()
	restoreIgnoredSignals()
	err := syscall.Exec(e.path, e.program, env)
	if errors.Is(err, unix.ENOEXEC) {
		// A text without "#!" is the shell's, as for execvp(3).
		err = syscall.Exec("/bin/sh", append([]string{"sh", e.path}, e.program[1:]...), env)
	}
	return complain(std, exitCannotExec, "%s: %v", e.program[0], err)
}

// supervision is how much a program is to be supervised that cannot be preloaded because of an error, or can.
func (o *options) supervision(cannotPreload error) begin.Supervision {
	switch {
	case o.enforce:
		return begin.Enforced
	case o.noKernel:
		return begin.Unasked
	case cannotPreload != nil:
		return begin.Needed
	}
	return begin.Possible
}

// checkRun looks for what is missing and for what does not go together. words is the length of the
// program's command.
func (o *options) checkRun(words int) error {
	switch {
	case words == 0:
		return errors.New("no program given; see tlswrap --help")
	case o.worker != "" && (o.rules != "" || len(o.ca) > 0 || len(o.tls) > 0 || o.errno != "" || o.log != "" || o.level.given):
		return errors.New("--rules, --ca, --tls, --errno, --log and --log-level are the running worker's to say, and do not go with --worker")
	case o.enforce && o.noKernel:
		return errors.New("--enforce and --no-kernel contradict each other")
	case o.log == "" && o.level.given:
		return errors.New("--log-level is about the file of --log, which is not given")
	}
	return checkTrace()
}

// checkTrace looks at what names the file of the library's trace, which has no voice to say that it does
// not like it (preload/trace.c).
func checkTrace() error {
	file := os.Getenv("TLSWRAP_TRACE")
	if file != "" && (!filepath.IsAbs(file) || len(file) >= unix.PathMax) {
		return fmt.Errorf("TLSWRAP_TRACE is %q, and has to be an absolute path: programs change their folder", file)
	}
	return nil
}

// findLibrary finds the shim beside this program, in the build folder or as installed.
func findLibrary() (string, error) {
	own, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding libtlswrap.so: %w", err)
	}
	dir := filepath.Dir(own)
	for _, path := range []string{
		filepath.Join(dir, "libtlswrap.so"),
		filepath.Join(dir, "..", "lib", "tlswrap", "libtlswrap.so"),
	} {
		if _, err := os.Lstat(path); err != nil {
			continue
		}
		if strings.ContainsAny(path, " \t\n:$") {
			return "", fmt.Errorf("%q cannot be preloaded: ld.so takes no path with a blank, a colon or a $", path)
		}
		return path, nil
	}
	return "", fmt.Errorf("libtlswrap.so is neither beside %s nor in ../lib/tlswrap", own)
}

// printLibtlsPath prints the folder with libtls.so.26 and the others, which are the shim: for
// LD_LIBRARY_PATH, where a program opens libtls by its name.
func printLibtlsPath(std stdio) int {
	library, err := findLibrary()
	if err != nil {
		return complain(std, exitOurs, "%v", err)
	}
	fmt.Fprintln(std.out, filepath.Join(filepath.Dir(library), "libtls"))
	return 0
}

// findProgram finds the file that execvp(3) would start.
func findProgram(name string) (path string, status int, err error) {
	path, err = exec.LookPath(name)
	switch {
	case err == nil, errors.Is(err, exec.ErrDot):
		return path, 0, nil
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return "", exitNotFound, fmt.Errorf("%s: program not found", name)
	}
	return "", exitCannotExec, fmt.Errorf("%s: %w", name, errors.Unwrap(err))
}

// inspectProgram follows scripts to the program that runs them, and a dynamic loader to the
// program that its arguments name. It returns the library to preload, or what is refused.
func inspectProgram(path string, argv []string, library string) (preload, refused string, err error) {
	noNewPrivs, _ := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	by := inspect.Executor{
		UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), NoNewPrivs: noNewPrivs == 1,
		IDsDiffer: os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid(),
	}
	name := argv[0]
	const mostFiles = 6
	for range mostFiles {
		file, err := os.Open(path)
		if err != nil {
			return "", name, errors.Unwrap(err)
		}
		got, err := inspect.File(file, library, by)
		file.Close()
		switch {
		case err != nil:
			return "", name, err
		case got.Interpreter != "":
			path, by.Interprets = got.Interpreter, true
		case got.Loader == nil:
			return got.Library, name, inspect.CheckLibrary(got.Library)
		default:
			at, err := got.Loader.Program(argv[1:])
			if at < 0 {
				return got.Loader.Library, name, inspect.CheckLibrary(got.Loader.Library)
			}
			argv = argv[1+at:]
			if err != nil {
				return "", argv[0], err
			}
			path, by.Mapped = argv[0], true
		}
		name = path
	}
	return "", name, unix.ELOOP
}

// control is this program's worker, and where it is.
type control struct {
	begin.Reached
	quiet bool // nothing is to be said to people
}

// setting is what goes into TLSWRAP_CONTROL.
func (c control) setting() string {
	version := "1"
	if c.quiet {
		version = "1q"
	}
	return fmt.Sprintf("%s:%d:%s:%s", version, c.UID, hex.EncodeToString(c.Token[:]), c.Address)
}

// parseControl reads what setting has written.
func parseControl(setting string) (c control, err error) {
	fields := strings.SplitN(setting, ":", 4)
	if len(fields) < 4 {
		return c, errors.New("it has too few fields")
	}
	uid, err := strconv.ParseUint(fields[1], 10, 32)
	if err != nil {
		return c, err
	}
	token, err := hex.DecodeString(fields[2])
	if err != nil || len(token) != len(c.Token) {
		return c, errors.New("its token is none")
	}
	c.UID, c.Address = uint32(uid), fields[3]
	copy(c.Token[:], token)
	return c, nil
}

// reachWorker begins a session with a worker, its own or the one that runs at
// --worker.
func (o *options) reachWorker(std stdio) (c control, err error) {
	rand.Read(c.Token[:])
	c.keepCookie()
	c.quiet = o.quiet
	address := o.worker
	var started companion
	if address == "" {
		if err := o.resolve(); err != nil {
			return c, err
		}
		if started, address, err = o.startWorker(); err != nil {
			return c, err
		}
		defer started.Close()
	} else {
		abs, err := filepath.Abs(address)
		if err != nil {
			return c, err
		}
		address = abs
	}
	var stranger error
	trust := func(uid uint32) error {
		stranger = mayServe(address, uid)
		return stranger
	}
	c.Reached, err = begin.Greet(address, trust, begin.Hello{Token: c.Token, Stderr: std.err, Verbose: o.verbose, Quiet: o.quiet, Worker: started.pid})
	if stranger != nil {
		return c, stranger
	}
	if err != nil && started.File != nil {
		return c, started.explain(err)
	}
	if err != nil {
		return c, fmt.Errorf("no worker at %s: %w (tlswrap worker --socket %[1]s starts one)", address, err)
	}
	return c, nil
}

// keepCookie takes the cookie of the run that this process belongs to, where it does: that one's filter is
// under the program as well.
func (c *control) keepCookie() {
	if outer, err := parseControl(os.Getenv(wire.Env)); err == nil {
		copy(c.Token[:8], outer.Token[:])
	}
}

// startWorker starts a worker of our own, at the address that it returns.
func (o *options) startWorker() (c companion, address string, err error) {
	var id [8]byte
	rand.Read(id[:])
	address = "@tlswrap-" + hex.EncodeToString(id[:])
	listener, err := listenAt(address)
	if err != nil {
		return c, "", fmt.Errorf("making the control socket: %w", err)
	}
	defer listener.Close()
	c, err = startCompanion(beWorker, o.args(), unix.UnixRights(int(listener.Fd())))
	return c, address, err
}

// preloadEnv is env with the shim first in LD_PRELOAD; without a library LD_PRELOAD is as it was.
func preloadEnv(env []string, library, control string) []string {
	out := make([]string, 0, len(env)+2)
	preload := library
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		switch name {
		case wire.Env:
		case "LD_PRELOAD":
			if library == "" {
				preload = value
			} else if value != library && !strings.HasPrefix(value, library+":") {
				preload = strings.TrimSuffix(library+":"+value, ":")
			} else {
				preload = value
			}
		default:
			out = append(out, e)
		}
	}
	if preload != "" {
		out = append(out, "LD_PRELOAD="+preload)
	}
	return append(out, wire.Env+"="+control)
}

// restoreIgnoredSignals ignores again what was ignored when this process began: Go's
// runtime has put handlers in their place, and exec would make those the default.
func restoreIgnoredSignals() {
	for sig := syscall.Signal(1); sig < 64; sig++ {
		if entered.ignored&(1<<(sig-1)) != 0 {
			signal.Ignore(sig)
		}
	}
}
