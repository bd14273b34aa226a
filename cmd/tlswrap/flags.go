package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"tlswrap/rules"
)

// options are what the command line says about rules, trust and words.
type options struct {
	rules   string
	ca      list
	tls     list
	errno   errnoWord
	log     string
	level   logLevel
	worker  string
	verbose bool
	quiet   bool

	acceptStdin bool
	enforce     bool
	noKernel    bool

	init *os.File // is told where the worker is; or nil

	libtlsPath, version bool // print it, and run nothing
}

// list is a flag that may be given again.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

// errnoWord is what --errno says: one of rules.ErrnoWords, or "".
type errnoWord string

func (w *errnoWord) String() string { return string(*w) }

// Set implements flag.Value.
func (w *errnoWord) Set(s string) error {
	if !slices.Contains(rules.ErrnoWords, s) {
		return errors.New("it has to be " + strings.Join(rules.ErrnoWords, " or "))
	}
	*w = errnoWord(s)
	return nil
}

// policyFlags are those that say what the rules are and what is trusted; a running worker has its own.
func (o *options) policyFlags(f *flag.FlagSet) {
	f.StringVar(&o.rules, "rules", "", "`FILE` with the rules")
	f.Var(&o.ca, "ca", "trust the roots in `FILE` for every rule (repeatable)")
	f.Var(&o.tls, "tls", "put a rule for `HOST:PORT` in front (repeatable)")
	f.Var(&o.errno, "errno", "tell programs of failures by `WORD` errnos: precise or plain")
}

// logFlags are those of the commands that a worker comes of; a running one has its own log.
func (o *options) logFlags(f *flag.FlagSet) {
	f.StringVar(&o.log, "log", "", "write JSON lines to `FILE`")
	f.Var(&o.level, "log-level", "write what is at least as grave as `LEVEL`")
}

// usage is the whole of --help.
const usage = `usage: tlswrap [flags] program [args...]
       tlswrap check [--builtin] [FILE]
       tlswrap explain [flags] HOST:PORT
       tlswrap doctor [--json]
       tlswrap worker --socket PATH [flags]
       tlswrap version | --version

Runs the program and turns the connections that the rules name into verified TLS.

  --rules FILE      the rules; else $TLSWRAP_RULES, then the first that exists of
                    $XDG_CONFIG_HOME/tlswrap/rules.toml and /etc/tlswrap/rules.toml,
                    then the built-in profile (tlswrap check --builtin prints it)
  --tls HOST:PORT   put a rule for HOST:PORT in front; repeatable
  --ca FILE         trust the roots in FILE for every rule; repeatable
  --errno WORD      precise, or plain for programs that know only connect(2)'s errnos
  --worker SOCKET   use the running worker at SOCKET
  --log FILE        write what happens to FILE, one JSON object a line
  --log-level LEVEL error, warn, info or debug: how much --log writes (info)
  --enforce         start nothing that the kernel does not hold to the rules
  --no-kernel       only preload: the kernel holds nothing, unless the rules enforce it
  --accept-stdin    serve the client on standard input, which inetd has accepted
  -v, --verbose     say a line for every connection
  -q, --quiet       say nothing, also not why a connection failed
  --libtls-path     print the folder of our libtls.so.26, for LD_LIBRARY_PATH

tlswrap doctor says what this machine allows, and what would allow the rest; with --json
for programs.

tlswrap worker takes --rules, --tls, --ca, --errno, --log and --log-level, and

  --socket PATH     where it listens
  --allow USER      lets another user's programs use it; repeatable

The exit status is the program's; 125 if tlswrap fails, 126 if the program cannot be
started, 127 if it is not found.
See tlswrap(1) and tlswrap.rules(5).
`

// newFlags makes a flag set that says nothing by itself.
func newFlags(name string) *flag.FlagSet {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	return f
}

// parseFlags parses; done is set where the command ends here, with status.
func parseFlags(f *flag.FlagSet, args []string, std stdio) (status int, done bool) {
	err := f.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return runHelp(nil, std), true
	case err != nil && unknownFlag(f, args) == "version":
		return runVersion(nil, std), true
	case err != nil:
		return complain(std, exitOurs, "%v%s; see tlswrap --help", err, meantFlag(f, unknownFlag(f, args))), true
	}
	return 0, false
}

// unknownFlag is the flag that made f.Parse(args) fail because there is none of its name, or "".
func unknownFlag(f *flag.FlagSet, args []string) string {
	at := len(args) - f.NArg() - 1
	if at < 0 || !strings.HasPrefix(args[at], "-") {
		return "" // a value was wrong
	}
	name, _, _ := strings.Cut(strings.TrimLeft(args[at], "-"), "=")
	if f.Lookup(name) != nil {
		return ""
	}
	return name
}

// othersFlags are flags that other programs have, with what stands for them here.
var othersFlags = map[string]string{
	"k": noSwitch, "insecure": noSwitch, "no-check-certificate": noSwitch, "no-verify": noSwitch,
	"cacert": "did you mean --ca?", "CAfile": "did you mean --ca?", "ca-file": "did you mean --ca?",
	"c": "did you mean --rules?", "config": "did you mean --rules?", "f": "did you mean --rules?", "file": "did you mean --rules?",
	"V": "did you mean --version?", "vv": "--log FILE with --log-level debug says more than -v", "debug": "--log FILE with --log-level debug says more than -v",
	"silent": "did you mean -q?", "s": "did you mean -q?", "connect": "did you mean --tls?", "host": "did you mean --tls?",
}

const noSwitch = `no flag switches verification off; verify = "none" in a rule does, for what that covers`

// meantFlag is a hint, at the end of a sentence, at what a flag that does not exist was to be.
func meantFlag(f *flag.FlagSet, name string) string {
	switch name {
	case "":
		return ""
	case "check", "doctor", "explain", "worker": // of verbs
		return fmt.Sprintf("; %s is a command, which comes first and without dashes: tlswrap %[1]s", name)
	}
	if hint, ok := othersFlags[name]; ok {
		return "; " + hint
	}
	const shortest = 4 // of what can be a slip of the pen
	if len(name) < shortest {
		return ""
	}
	var known []string
	f.VisitAll(func(fl *flag.Flag) {
		if len(fl.Name) >= shortest-1 {
			known = append(known, fl.Name)
		}
	})
	if meant := rules.Closest(name, known); meant != "" {
		return fmt.Sprintf("; did you mean --%s?", meant)
	}
	return ""
}

// complain prints one sentence and returns status.
func complain(std stdio, status int, format string, args ...any) int {
	fmt.Fprintf(std.err, "tlswrap: "+format+"\n", args...)
	return status
}

// complainLines prints an error that may be several: one line each.
func complainLines(std stdio, status int, err error) int {
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(std.err, "tlswrap: %s\n", strings.TrimRight(line, "\n"))
	}
	return status
}

func runHelp(_ []string, std stdio) int {
	fmt.Fprint(std.out, usage)
	return 0
}

// version is set by the linker.
var version = "development"

func runVersion(_ []string, std stdio) int {
	goVersion := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		goVersion = info.GoVersion
	}
	fmt.Fprintf(std.out, "tlswrap %s (%s)\n", version, goVersion)
	return 0
}

// findRules returns the rules file that counts, or "" for the built-in profile. Where it cannot
// be told whether there is a file, in a folder that may not be entered, that is an error: the
// built-in profile is not what somebody meant who has put a file there.
func (o *options) findRules() (string, error) {
	if o.rules != "" {
		return o.rules, nil
	}
	if env := os.Getenv("TLSWRAP_RULES"); env != "" {
		return env, nil
	}
	candidates := []string{"/etc/tlswrap/rules.toml"}
	if dir, err := os.UserConfigDir(); err == nil {
		candidates = append([]string{filepath.Join(dir, "tlswrap", "rules.toml")}, candidates...)
	}
	for _, file := range candidates {
		_, err := os.Lstat(file)
		switch {
		case err == nil:
			return file, nil
		case !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR):
			return "", fmt.Errorf("cannot tell whether there are rules in %s: %w (--rules FILE names others)", file, errors.Unwrap(err))
		}
	}
	return "", nil
}

// resolve makes the paths absolute: the worker has another working folder.
func (o *options) resolve() error {
	var err error
	if o.rules, err = o.findRules(); err != nil {
		return err
	}
	for _, name := range []string{"SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if err := absoluteVariable(name); err != nil {
			return err
		}
	}
	paths := []*string{&o.rules, &o.log}
	for i := range o.ca {
		paths = append(paths, &o.ca[i])
	}
	for _, p := range paths {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		*p = abs
	}
	return nil
}

// absoluteVariable makes the paths in an environment variable absolute, for the worker:
// the program gets its own environment as it came.
func absoluteVariable(name string) error {
	value, ok := os.LookupEnv(name)
	if !ok {
		return nil
	}
	paths := filepath.SplitList(value)
	for i, p := range paths {
		abs, err := filepath.Abs(p)
		if err != nil {
			return err
		}
		paths[i] = abs
	}
	return os.Setenv(name, strings.Join(paths, string(filepath.ListSeparator)))
}

// loader returns a function that reads the rules as the options say.
func (o *options) loader() func() (*rules.Policy, error) {
	return func() (*rules.Policy, error) {
		p, err := o.readRules()
		if err != nil {
			return nil, err
		}
		var front []*rules.Rule
		for _, hostport := range o.tls {
			r, err := rules.FromFlag(hostport)
			if err != nil {
				return nil, err
			}
			front = append(front, r)
		}
		p.Prepend(front...)
		if o.errno != "" {
			p.SetErrno(string(o.errno))
		}
		return p, nil
	}
}

// readRules reads the rules file, or takes the built-in profile where there is none.
func (o *options) readRules() (*rules.Policy, error) {
	if o.rules == "" {
		return rules.Builtin(), nil
	}
	return rules.Load(o.rules)
}

// args writes the policy flags out again, for the worker.
func (o *options) args() []string {
	var a []string
	if o.rules != "" {
		a = append(a, "--rules", o.rules)
	}
	for _, f := range o.ca {
		a = append(a, "--ca", f)
	}
	for _, t := range o.tls {
		a = append(a, "--tls", t)
	}
	if o.errno != "" {
		a = append(a, "--errno", string(o.errno))
	}
	if o.log != "" {
		a = append(a, "--log", o.log, "--log-level", o.level.String())
	}
	return a
}
