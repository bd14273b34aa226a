package main

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"tlswrap/tests/testkit"
)

// way is how a program is run.
type way int

const (
	natively way = iota
	unmatched
	inTLS
)

var ways = []way{natively, unmatched, inTLS}

func (w way) String() string {
	return [...]string{"natively", "with rules that match nothing", "in TLS"}[w]
}

// nothing are rules that match nothing.
const nothing = `
default = "pass"

[[rule]]
host = "db.example"
port = 1

[[listen]]
port = 1
cert_file = "server.pem"
key_file = "server.key"
`

// everything are rules by which client and server both speak TLS.
const everything = `
[[rule]]
host = "*"
ca_file = "ca.pem"

[[listen]]
port = "1-65535"
cert_file = "server.pem"
key_file = "server.key"
`

// ending is how a test has ended: ok, skipped, failed, hung, or died where the interpreter has ended with it.
type ending struct{ how, why string }

func (e ending) String() string {
	if e.why == "" {
		return e.how
	}
	return e.how + " (" + e.why + ")"
}

// results are the endings of tests.
type results map[string]ending

func (r results) String() string {
	counts := make(map[string]int)
	for _, e := range r {
		counts[e.how]++
	}
	var all []string
	for _, how := range []string{"ok", "skipped", "failed", "hung", "died"} {
		if counts[how] > 0 {
			all = append(all, fmt.Sprint(counts[how], " ", how))
		}
	}
	return strings.Join(all, ", ")
}

// of is how a test has ended, if it was run.
func (r results) of(test string) ending {
	if e, ok := r[test]; ok {
		return e
	}
	return ending{how: "not run"}
}

// bad are the tests that do not end well.
func (r results) bad() []string { return r.that("failed", "hung", "died") }

// hung are the tests that do not end.
func (r results) hung() []string { return r.that("hung") }

func (r results) that(how ...string) (tests []string) {
	for test, e := range r {
		if slices.Contains(how, e.how) {
			tests = append(tests, test)
		}
	}
	slices.Sort(tests)
	return tests
}

// runner runs tests in a folder of its own.
type runner struct {
	dir    string
	python string
	limit  time.Duration
	now    progress
}

// progress is what is running.
type progress struct {
	mu  sync.Mutex
	all map[string]*run
}

// run is one of a module's tests.
type run struct {
	way
	begun time.Time
	ended int    // tests
	test  string // the one that runs
}

func (p *progress) note(m module, change func(*run)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all == nil {
		p.all = make(map[string]*run)
	}
	if p.all[m.name] == nil {
		p.all[m.name] = &run{begun: time.Now()}
	}
	change(p.all[m.name])
}

func (p *progress) over(m module) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.all, m.name)
}

func (p *progress) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for name, r := range p.all {
		all = append(all, fmt.Sprintf("%s %s for %s, %d tests have ended, now %s",
			name, r.way, time.Since(r.begun).Round(time.Second), r.ended, cmp.Or(strings.TrimPrefix(r.test, "test."), "none")))
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

//go:embed run.py
var program []byte

// prepare writes the rules and the certificates.
func (r *runner) prepare() error {
	authority, err := testkit.NewAuthority("suites")
	if err != nil {
		return err
	}
	host, _ := os.Hostname()
	leaf := testkit.Leaf{Names: []string{"localhost", "ip6-localhost", "localhost.localdomain"},
		IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2"), netip.IPv6Loopback()}}
	if host != "" {
		leaf.Names = append(leaf.Names, host)
	}
	certificate, err := authority.Issue(leaf)
	if err != nil {
		return err
	}
	if _, _, err := certificate.WriteFiles(r.dir, "server"); err != nil {
		return err
	}
	if err := authority.WriteFile(filepath.Join(r.dir, "ca.pem")); err != nil {
		return err
	}
	for name, text := range map[string]string{"run.py": string(program), unmatched.rules(): nothing, inTLS.rules(): everything} {
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) log() string { return filepath.Join(r.dir, "log") }

// connections counts those that were verified, in all runs.
func (r *runner) connections() int {
	log, _ := os.ReadFile(r.log())
	return bytes.Count(log, []byte(`"msg":"connected"`))
}

// rules is the file of a way's rules.
func (w way) rules() string { return fmt.Sprintf("%d.toml", w) }

// version is what the Python is, which has to have its tests.
func (r *runner) version(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, r.python, "-c", "import sys, test.test_socket; print('Python', sys.version.split()[0])").CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return "", err
	}
	if err != nil {
		return "", fmt.Errorf("%s does not have its tests (Debian's libpython3.11-testsuite): %w: %s", r.python, err, lastLine(out))
	}
	return strings.TrimSpace(string(out)), nil
}

func lastLine(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}

// run runs the tests of names, without names all of the module's, but not those to skip. After one that hangs it
// goes on with those that are left.
func (r *runner) run(ctx context.Context, w way, m module, names, skip []string) (results, error) {
	r.now.note(m, func(now *run) { now.way = w })
	defer r.now.over(m)
	if names == nil {
		names = []string{"test." + m.name}
	}
	all := make(results)
	for {
		before := len(all)
		over, err := r.once(ctx, w, m, names, slices.AppendSeq(append([]string{}, skip...), maps.Keys(all)), all)
		if err != nil || over {
			return all, err
		}
		if len(all) == before { // it has ended otherwise than by a test, and would again
			return all, nil
		}
	}
}

// timeLimit is what faulthandler says before it ends the interpreter with 1, as run.py asks it to.
var timeLimit = regexp.MustCompile(`Timeout \([0-9:.]+\)!\n`)

// event is a line that run.py says.
type event struct{ What, Test, How, Why string }

// once adds to all what ends, and reports whether that is everything.
func (r *runner) once(ctx context.Context, w way, m module, names, skip []string, all results) (over bool, err error) {
	said, saying, err := os.Pipe()
	if err != nil {
		return false, err
	}
	defer said.Close()
	argv := []string{r.python, filepath.Join(r.dir, "run.py"), strconv.FormatFloat(r.limit.Seconds(), 'f', -1, 64)}
	if m.resource != "" {
		argv = append(argv, m.resource)
	}
	if w != natively {
		argv = append([]string{filepath.Join(testkit.Root(), "build", "tlswrap"), "--rules", filepath.Join(r.dir, w.rules()), "--log", r.log()}, argv...)
	}
	work, err := os.MkdirTemp(r.dir, "work-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(work)
	asked, err := json.Marshal(map[string][]string{"names": names, "skip": skip})
	if err != nil {
		return false, err
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var out bytes.Buffer
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = work, bytes.NewReader(asked), &out, &out
	cmd.ExtraFiles = []*os.File{saying}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err = cmd.Start()
	saying.Close()
	if err != nil {
		return false, err
	}
	running := ""
	lines := json.NewDecoder(said)
	for {
		var e event
		if err := lines.Decode(&e); err == io.EOF {
			break
		} else if err != nil {
			cmd.Cancel()
			cmd.Wait()
			return false, fmt.Errorf("%s %s: %w\n%s", m.name, w, err, out.Bytes())
		}
		switch e.What {
		case "begin":
			running = e.Test
		case "end":
			all[e.Test] = ending{e.How, e.Why}
			running = ""
		case "over":
			over = true
		}
		r.now.note(m, func(now *run) { now.test, now.ended = running, len(all) })
	}
	err = cmd.Wait()
	why := cmd.ProcessState.String() + ": " + lastLine(out.Bytes())
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case running != "" && cmd.ProcessState.ExitCode() == 1 && timeLimit.Match(out.Bytes()): // by faulthandler's clock, not ours
		all[running] = ending{"hung", ""}
	case running != "":
		all[running] = ending{"died", why}
	case len(all) == 0 && !over:
		return false, fmt.Errorf("%s %s: %w\n%s", m.name, w, err, out.Bytes())
	case !cmd.ProcessState.Success(): // between tests, or at the interpreter's end
		all["the end of "+m.name] = ending{"died", why}
	}
	return over, nil
}
