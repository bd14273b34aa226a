package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/machine"
	"tlswrap/proxy/room"
	"tlswrap/tests/testkit"
)

// users are who runs tlswrap: what comes before it on a command line.
var users = map[string][]string{
	"root":             nil,
	"an ordinary user": {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"},
}

// diagnosis is what doctor has said: its lines by their names, in which the answer is the first word.
type diagnosis map[string]string

// doctor has the machine looked at, where refused calls fail, by who runs tlswrap and in what.
func doctor(t *testing.T, refused []testkit.Refusal, within ...string) (d diagnosis, status int) {
	t.Helper()
	argv := append(append([]string{}, within...), lab.tlswrap, "doctor")
	w := wrapped{bare: true, refused: refused}
	e := w.run(t, argv...)
	if e.stderr != "" {
		t.Errorf("stderr: %q", e.stderr)
	}
	d = diagnosis{}
	all := lines(e.stdout)
	for _, line := range all {
		m := regexp.MustCompile(`^(\w+) +(.*)$`).FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("it says %q", line)
		}
		d[m[1]] = m[2]
	}
	if !strings.HasPrefix(all[len(all)-1], "ways ") {
		t.Errorf("the last line is %q", all[len(all)-1])
	}
	asObject(t, d, w.run(t, append(argv, "--json")...).stdout)
	nothingIsLeft(t)
	return d, e.status
}

// asObject compares what doctor says to a person and to a program.
func asObject(t *testing.T, d diagnosis, text string) {
	t.Helper()
	var object map[string]struct{ Is, Says any }
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		t.Fatalf("--json: %v: %q", err, text)
	}
	for name, line := range d {
		fact := object[name]
		is, says, _ := strings.Cut(line, " ")
		if name == "ways" {
			is, says = "", line
		}
		if fact.Is != is && is != "" || fact.Says != strings.TrimSpace(says) {
			t.Errorf("%s: --json says %v, and the line %q", name, fact, line)
		}
	}
	if len(object) != len(d) {
		t.Errorf("--json has %d names, and there are %d lines", len(object), len(d))
	}
}

// nothingIsLeft waits until no process is there that doctor has started.
func nothingIsLeft(t *testing.T) {
	t.Helper()
	eventually(t, "all processes that doctor has started have ended", 20*time.Second, func() bool {
		processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			t.Fatal(err)
		}
		return !slices.ContainsFunc(processes, func(p string) bool {
			line, _ := os.ReadFile(p)
			return strings.HasPrefix(string(line), machine.Stage) || strings.HasPrefix(string(line), room.Stage)
		})
	})
}

func TestDoctorOfAMachineThatAllowsAll(t *testing.T) {
	for who, as := range users {
		t.Run(who, func(t *testing.T) {
			d, status := doctor(t, nil, as...)
			if status != 0 || d["ways"] != "preload, and the kernel for what passes it by" {
				t.Errorf("status %d, ways %q", status, d["ways"])
			}
			for _, name := range []string{"preload", "programs", "kernel", "NEW_LISTENER", "ADDFD", "SETFD", "SEND", "process_vm_readv", "pidfd_getfd"} {
				if !strings.HasPrefix(d[name], "yes ") {
					t.Errorf("%s: %q", name, d[name])
				}
			}
			if has := strings.HasPrefix(d["no_new_privs"], "yes "); has != (as != nil) {
				t.Errorf("no_new_privs: %q", d["no_new_privs"])
			}
			if !strings.HasPrefix(d["io_uring"], "no ") {
				t.Errorf("io_uring: %q", d["io_uring"])
			}
		})
	}
}

// obstacles are what stands in the kernel's way on some machine, where there is no tracer either: what doctor
// says no to, and why.
var obstacles = map[string]struct {
	refused   []testkit.Refusal
	name, why string
}{
	"no seccomp": {testkit.WithoutSeccomp, "NEW_LISTENER",
		"the kernel takes no filter whose calls another process answers (seccomp: function not implemented), which takes "},
	"no copies of descriptors": {[]testkit.Refusal{{Call: unix.SYS_PIDFD_GETFD, Errno: unix.EPERM}}, "pidfd_getfd",
		"the worker may not copy the program's descriptors (pidfd_getfd: operation not permitted), which takes "},
	"no reading of memory": {[]testkit.Refusal{{Call: unix.SYS_PROCESS_VM_READV, Errno: unix.EPERM}}, "process_vm_readv",
		"the worker may not read the program's memory (process_vm_readv: operation not permitted), which takes "},
	"no pidfds": {[]testkit.Refusal{{Call: unix.SYS_PIDFD_OPEN, Errno: unix.ENOSYS}}, "pidfd_getfd",
		"the worker does not find the program (pidfd_open: function not implemented), which takes "},
	"Linux 5.13": {[]testkit.Refusal{{Call: unix.SYS_IOCTL, Errno: unix.EINVAL}}, "kernel",
		"the kernel cannot put descriptors into a program as is needed (it has no SECCOMP_IOCTL_NOTIF_ADDFD), which takes Linux 5.14"},
	"Linux 4.19": {[]testkit.Refusal{{Call: unix.SYS_SECCOMP, Errno: unix.EINVAL}}, "NEW_LISTENER",
		"the kernel takes no filter whose calls another process answers (seccomp: invalid argument), which takes Linux 5.14"},
}

func TestDoctorAndARunSayTheSameOfWhatIsMissing(t *testing.T) {
	static := compile(t, "args.c", "-static")
	for machine, o := range obstacles {
		for who, as := range users {
			t.Run(machine+"/"+who, func(t *testing.T) {
				refused := append(o.refused[:len(o.refused):len(o.refused)], testkit.Refusal{Call: unix.SYS_PTRACE, Errno: unix.EPERM})
				d, status := doctor(t, refused, as...)
				missed(t, d, status, o.name, o.why)
				w := wrapped{bare: true, refused: refused}
				run := append(append(append([]string{}, as...), lab.tlswrap), anyRule().flags...)
				sameSentence(t, d, w.run(t, append(run, static)...), static)
				if e := w.run(t, append(run, "true")...); e.status != 0 || e.stderr != "" {
					t.Errorf("a program that can be preloaded: status %d, stderr: %q", e.status, e.stderr)
				}
			})
		}
	}
}

// missed fails the test unless doctor has said no, why, and to what that leads.
func missed(t *testing.T, d diagnosis, status int, name, why string) {
	t.Helper()
	for _, n := range []string{name, "kernel"} {
		if answer := regexp.MustCompile(` +`).ReplaceAllString(d[n], " "); !strings.HasPrefix(answer, "no "+why) {
			t.Errorf("%s: %q, want %q", n, answer, why)
		}
	}
	if want := "preload only: static and Go programs are refused by name, because " + why; status != 1 || !strings.HasPrefix(d["ways"], want) {
		t.Errorf("status %d, ways %q, want 1, %q", status, d["ways"], want)
	}
}

// sameSentence fails the test unless a static program was refused for what doctor says.
func sameSentence(t *testing.T, d diagnosis, e ended, static string) {
	t.Helper()
	_, why, _ := strings.Cut(d["ways"], "because ")
	want := "tlswrap: " + static + ": not started, because it cannot be preloaded: it is statically linked; and the kernel cannot hold it: " + why + " (tlswrap doctor says what would allow it)\n"
	if e.status != 126 || e.stderr != want || e.stdout != "" {
		t.Errorf("status %d, stdout: %q, stderr: %q, want %q", e.status, e.stdout, e.stderr, want)
	}
}

func TestDoctorInsideARunFindsAnotherListener(t *testing.T) {
	static := compile(t, "args.c", "-static")
	for who, as := range users {
		t.Run(who, func(t *testing.T) {
			outer := append(append(append([]string{}, as...), lab.tlswrap), anyRule().flags...)
			d, status := doctor(t, nil, outer...)
			missed(t, d, status, "NEW_LISTENER", "another process answers for a filter that is under this one already, another tlswrap or a container's (seccomp: device or resource busy)")
			inner := append(append(outer, lab.tlswrap), anyRule().flags...)
			sameSentence(t, d, wrapped{bare: true}.run(t, append(inner, static)...), static)
			wrapped{bare: true}.run(t, append(inner, "true")...).must(t)
		})
	}
}

// What the rules of a run refuse says nothing of the kernel.
func TestDoctorInsideARunThatRefusesItsProbeDoesNotBlameTheKernel(t *testing.T) {
	rules := writeRules(t, "default = \"deny\"\n")
	e := wrapped{bare: true}.run(t, lab.tlswrap, "-q", "--rules", rules, lab.tlswrap, "doctor")
	want := regexp.MustCompile(`(?m)^kernel_tls +unknown +this process cannot connect to itself to try it: .*permission denied; this is inside a run of tlswrap, whose rules count$`)
	if !want.MatchString(e.stdout) {
		t.Errorf("it says %q, want %s", e.stdout, want)
	}
}

func TestEnforceOnAMachineWithoutLandlock(t *testing.T) {
	const why = "the kernel cannot forbid TCP to a program (landlock_create_ruleset: function not implemented), which takes Linux 6.7"
	refused := []testkit.Refusal{{Call: unix.SYS_LANDLOCK_CREATE_RULESET, Errno: unix.ENOSYS}}
	d, status := doctor(t, refused)
	if status != 0 || !strings.HasPrefix(d["enforce"], "no") || !strings.Contains(d["enforce"], why) {
		t.Errorf("status %d, enforce: %q, want %q", status, d["enforce"], why)
	}
	w := anyRule()
	w.refused, w.flags = refused, append([]string{"--enforce"}, w.flags...)
	if e := w.run(t, "true"); e.status != 125 || !strings.HasPrefix(e.stderr, "tlswrap: the kernel cannot be made to hold what the rules promise: "+why) {
		t.Errorf("status %d, stderr: %q", e.status, e.stderr)
	}
}

// Yama's rule, on a kernel that has no Yama: its file, and what it refuses.
func TestDoctorAndARunSayWhatYamaRefuses(t *testing.T) {
	static := compile(t, "args.c", "-static")
	refused := []testkit.Refusal{{Call: unix.SYS_PROCESS_VM_READV, Errno: unix.EPERM}, {Call: unix.SYS_PIDFD_GETFD, Errno: unix.EPERM}}
	const file = `mount -t tmpfs tmpfs /proc/sys/kernel && mkdir /proc/sys/kernel/yama && echo 2 >/proc/sys/kernel/yama/ptrace_scope && exec "$0" "$@"`
	within := []string{"unshare", "-m", "sh", "-c", file}
	d, status := doctor(t, refused, within...)
	missed(t, d, status, "process_vm_readv",
		"the worker may not read the program's memory (process_vm_readv: operation not permitted), which takes CAP_SYS_PTRACE, or at most a 1 in /proc/sys/kernel/yama/ptrace_scope")
	if !strings.Contains(d["yama"], "ptrace_scope is 2:") {
		t.Errorf("yama: %q", d["yama"])
	}
	run := append(append(within, lab.tlswrap), anyRule().flags...)
	sameSentence(t, d, wrapped{bare: true, refused: refused}.run(t, append(run, static)...), static)
}

func TestDoctorWhereThereAreNoMoreNamespaces(t *testing.T) {
	const limit = `echo 0 >/proc/sys/user/max_user_namespaces && exec "$0" "$@"`
	d, status := doctor(t, nil, "unshare", "-Ur", "sh", "-c", limit, "setpriv", "--bounding-set=-all", "--inh-caps=-all")
	if status != 0 {
		t.Errorf("status %d, ways %q", status, d["ways"])
	}
	for name, why := range map[string]string{"user_namespaces": "user.max_user_namespaces", "network_namespaces": "which takes CAP_SYS_ADMIN, or a user namespace"} {
		if !strings.HasPrefix(d[name], "no ") || !strings.Contains(d[name], why) {
			t.Errorf("%s: %q", name, d[name])
		}
	}
}

func TestDoctorOfALibraryThatCannotBePreloaded(t *testing.T) {
	const mount = `mount --bind "$0" "$0" && mount -o remount,bind,noexec "$0" && "$@"`
	library := filepath.Join(filepath.Dir(lab.tlswrap), "libtlswrap.so")
	within := []string{"unshare", "-m", "sh", "-c", mount, library}
	const why = "the library to preload is on a file system mounted noexec"
	d, status := doctor(t, nil, within...)
	if status != 1 || d["ways"] != "the kernel only, because "+why || !strings.HasPrefix(d["preload"], "no ") {
		t.Errorf("status %d, ways %q, preload %q", status, d["ways"], d["preload"])
	}
	d, status = doctor(t, testkit.WithoutSeccomp, within...)
	if status != 1 || !strings.HasPrefix(d["ways"], "none: all programs are refused by name, because "+why+", and the kernel takes no filter") {
		t.Errorf("status %d, ways %q", status, d["ways"])
	}
}

func TestDoctorOfAnInstallationWithoutItsLibrary(t *testing.T) {
	alone := filepath.Join(t.TempDir(), "tlswrap")
	data, err := os.ReadFile(lab.tlswrap)
	if err == nil {
		err = os.WriteFile(alone, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	e := wrapped{bare: true}.run(t, alone, "doctor")
	want := "none: tlswrap starts nothing, because libtlswrap.so is neither beside " + alone + " nor in ../lib/tlswrap\n"
	if e.status != 1 || !strings.HasSuffix(e.stdout, want) {
		t.Errorf("status %d, stdout: %q, want %q", e.status, e.stdout, want)
	}
}

func TestExplainSaysWhichWayAConnectionIsTaken(t *testing.T) {
	s := serveSite(t, "db.example.test")
	argv := append([]string{lab.tlswrap, "explain", s.hostport()}, s.flags()...)
	for want, refused := range map[string][]testkit.Refusal{
		"preload, or the kernel where a program cannot be preloaded\n":                                    nil,
		"preload; kernel: no, because the kernel takes no filter whose calls another process answers (se": testkit.WithoutSeccomp,
	} {
		e := wrapped{bare: true, refused: refused}.run(t, argv...).must(t)
		if !strings.Contains(e.stdout, "\n  way       "+want) {
			t.Errorf("explain does not say %q:\n%s", want, e.stdout)
		}
	}
}

func TestDoctorTakesNothing(t *testing.T) {
	for _, argv := range [][]string{{"doctor", "program"}, {"doctor", "--nothing"}} {
		if e := (wrapped{bare: true}).run(t, append([]string{lab.tlswrap}, argv...)...); e.status != 125 || e.stdout != "" || !strings.HasPrefix(e.stderr, "tlswrap: ") {
			t.Errorf("%q: status %d, stdout: %q, stderr: %q", argv, e.status, e.stdout, e.stderr)
		}
	}
}
