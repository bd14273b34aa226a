package machine

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/seccomp"
	"tlswrap/proxy/target"
)

// kernel is what came of trying what supervision takes, as begin.Supervise does.
type kernel struct {
	features seccomp.Features
	filter   error // why there is no listener
	access   target.Access
	tracer   error // why there is no tracer, for where there is no listener
}

// err is why there is no supervision, or nil.
func (k kernel) err() error {
	switch err := k.access.Err(); {
	case err != nil:
		return err
	case k.filter != nil:
		return k.filter
	}
	return k.features.Missing()
}

func tryKernel() (k kernel) {
	k.features, k.filter = seccomp.Try()
	k.access = tryAccess()
	if k.tracer = k.access.Memory; k.tracer == nil {
		k.tracer = tryTracer()
	}
	return k
}

// report has a line for each thing that was tried.
func (k kernel) report(r *Report) {
	r.add("NEW_LISTENER", unless(k.filter, "the kernel takes a filter whose calls another process answers (seccomp(2))"))
	k.reportFeatures(r)
	switch set, _ := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); {
	case set == 1:
		r.add("no_new_privs", yes("it is set already: set-user-ID programs start without their rights here, also without tlswrap"))
	case k.filter != nil:
		r.add("no_new_privs", unknown("there is no filter that would take it"))
	case k.features.NoNewPrivs:
		r.add("no_new_privs", yes("it is set, as the filter takes that or CAP_SYS_ADMIN: set-user-ID programs start without their rights"))
	default:
		r.add("no_new_privs", no("the filter does not take it here: set-user-ID programs keep their rights, and are held too"))
	}
	r.add("process_vm_readv", unless(k.access.Memory, "the worker may read programs' memory"))
	r.add("pidfd_getfd", unless(k.access.Descriptors, "the worker may copy programs' descriptors"))
	r.add("ptrace", unless(k.tracer, "the worker may trace programs"))
	switch pidfds, why := target.Threads(); {
	case why != nil:
		r.add("PIDFD_THREAD", no("calls of threads that are not their process's first are refused, because %v", why))
	case pidfds:
		r.add("PIDFD_THREAD", yes("there are pidfds of threads"))
	default:
		r.add("PIDFD_THREAD", no("there are no pidfds of threads, which Linux 6.9 brought: those with descriptors of their own are refused"))
	}
}

func (k kernel) reportFeatures(r *Report) {
	for _, f := range []struct {
		name string
		have bool
		is   string
		not  string
	}{
		{"ADDFD", k.features.AddFD, "descriptors can be put into programs", "descriptors cannot be put into programs, which takes Linux 5.9"},
		{"SETFD", k.features.SetFD, "they can replace others", "they cannot replace others, which takes Linux 5.9"},
		{"SEND", k.features.Send, "a call can be answered with one", "a call cannot be answered with one, which takes Linux 5.14"},
		{"SYNC_WAKE_UP", k.features.SyncWakeUp, "answers are quicker", "answers are slower than with Linux 6.6, and that is all"},
	} {
		switch {
		case k.filter != nil:
			r.add(f.name, unknown("there is no listener to ask"))
		case f.have:
			r.add(f.name, yes("%s", f.is))
		default:
			r.add(f.name, no("%s", f.not))
		}
	}
}

// Stage is what the process is called that is started to reach this one, or to be traced: Attempt is all of its
// main.
const Stage = "goressl-try"

// patience is how long it may take.
const patience = 5 * time.Second

// Attempt reaches the process that has started this one, as its arguments say, or is traced by it without any. The exit status is 0 where it could say what came of that.
func Attempt(args []string) int {
	if len(args) == 0 {
		return beTraced()
	}
	if len(args) != 3 || json.NewEncoder(os.Stdout).Encode(reachParent(args)) != nil {
		return 1
	}
	return 0
}

// words are an error's, or "".
func words(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// errorOf is the other way round.
func errorOf(words string) error {
	if words == "" {
		return nil
	}
	return errors.New(words)
}

// found is a target.Access in words.
type found struct{ Memory, Descriptors string }

// tryAccess has a process that is no parent of this one, as a worker, reach it.
func tryAccess() target.Access {
	f, err := tryReach()
	if err != nil {
		err = fmt.Errorf("no process could be started to try it with: %w", err)
		return target.Access{Memory: err, Descriptors: err}
	}
	return target.Access{Memory: errorOf(f.Memory), Descriptors: errorOf(f.Descriptors)}
}

func tryReach() (f found, err error) {
	token := make([]byte, 16)
	rand.Read(token)
	r, w, err := os.Pipe()
	if err != nil {
		return f, err
	}
	defer r.Close()
	defer w.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	shown := target.Show(token)
	defer runtime.KeepAlive(shown)
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{Stage, strconv.FormatUint(shown.Address(), 10), strconv.Itoa(int(r.Fd())), hex.EncodeToString(token)}
	cmd.Env = []string{"GOMAXPROCS=1"}
	cmd.ExtraFiles = []*os.File{r}
	var out bytes.Buffer
	cmd.Stdout = &out
	begin, err := cmd.StdinPipe()
	if err != nil {
		return f, err
	}
	if err := cmd.Start(); err != nil {
		return f, err
	}
	target.Admit(cmd.Process.Pid)
	defer target.Admit(0)
	begin.Close()
	if err := cmd.Wait(); err != nil {
		return f, err
	}
	return f, json.Unmarshal(out.Bytes(), &f)
}

// reachParent is the other side: it has an address in its parent's memory, what stands there, and the
// number of a descriptor there, of which it has inherited a copy. It begins once it has been let in, when
// its standard input ends.
func reachParent(args []string) found {
	const copied = 3
	io.Copy(io.Discard, os.Stdin)
	at, err := strconv.ParseUint(args[0], 10, 64)
	number, e := strconv.Atoi(args[1])
	token, e2 := hex.DecodeString(args[2])
	if err := errors.Join(err, e, e2); err != nil {
		return found{err.Error(), err.Error()}
	}
	a := target.Reach(os.Getppid(), at, target.Proof{Memory: token, FD: copied, Number: number})
	return found{words(a.Memory), words(a.Descriptors)}
}
