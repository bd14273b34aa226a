// Package machine finds out what this machine allows tlswrap to do, by trying it as a run does, and says it
// for people: one sentence for what is missing, with what would allow it, which a run that fails for it says
// too. It leaves nothing behind. The commands doctor and explain ask it.
package machine

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"tlswrap/proxy/inspect"
	"tlswrap/proxy/record"
	"tlswrap/proxy/seccomp"
	"tlswrap/proxy/target"
	"tlswrap/proxy/wire"
)

// Library is the shim, and why there is none, or nil.
type Library struct {
	Path string
	Lost error
}

// usable is why no program can be preloaded with it, or nil.
func (l Library) usable() error {
	if l.Lost != nil {
		return l.Lost
	}
	return inspect.CheckLibrary(l.Path)
}

// Ways are those by which a connection is taken: why there is none of this kind, or nil.
type Ways struct {
	Lost            error // tlswrap starts nothing
	Preload, Kernel error
	Tracer          error // for what cannot be preloaded, where the kernel hands nothing over
}

// Try finds out which ways there are.
func Try(l Library) Ways {
	return waysOf(l, tryKernel())
}

func waysOf(l Library, k kernel) Ways { return Ways{l.Lost, l.usable(), k.err(), k.tracer} }

// Both reports whether every program can be wrapped.
func (w Ways) Both() bool { return w.Preload == nil && w.Kernel == nil }

// traces reports whether it is by ptrace(2) that programs are wrapped which cannot be preloaded.
func (w Ways) traces() bool { return w.Lost == nil && w.Kernel != nil && w.Tracer == nil }

// missing is why neither the kernel's filter holds programs nor a tracer.
func (w Ways) missing() error {
	if w.Tracer == w.Kernel {
		return w.Kernel
	}
	return seccomp.NorByTracing(w.Kernel, w.Tracer)
}

// String says what becomes of programs.
func (w Ways) String() string {
	switch {
	case w.Lost != nil:
		return fmt.Sprintf("none: tlswrap starts nothing, because %v", w.Lost)
	case w.Both():
		return "preload, and the kernel for what passes it by"
	case w.Preload == nil && w.traces():
		return fmt.Sprintf("preload, and ptrace for a program that cannot be preloaded: not the kernel, because %v", w.Kernel)
	case w.traces():
		return fmt.Sprintf("ptrace only: not preload, because %v, and not the kernel, because %v", w.Preload, w.Kernel)
	case w.Preload == nil:
		return fmt.Sprintf("preload only: static and Go programs are refused by name, because %v", w.missing())
	case w.Kernel == nil:
		return fmt.Sprintf("the kernel only, because %v", w.Preload)
	}
	return fmt.Sprintf("none: all programs are refused by name, because %v, and %v", w.Preload, w.missing())
}

// OfOne says by which way a connection would be taken.
func (w Ways) OfOne() string {
	switch {
	case w.Lost != nil:
		return w.String()
	case w.Both():
		return "preload, or the kernel where a program cannot be preloaded"
	case w.Preload == nil && w.traces():
		return fmt.Sprintf("preload, or ptrace where a program cannot be preloaded; kernel: no, because %v", w.Kernel)
	case w.Preload == nil:
		return fmt.Sprintf("preload; kernel: no, because %v", w.missing())
	case w.Kernel == nil:
		return fmt.Sprintf("the kernel; preload: no, because %v", w.Preload)
	}
	return w.String()
}

// Answer says whether the machine allows something, and more about that, or why not. "unknown" is what
// cannot be asked after, because something else is missing.
type Answer struct {
	Is   string `json:"is"` // "yes", "no" or "unknown"
	Says string `json:"says"`
}

func yes(format string, args ...any) Answer { return Answer{"yes", fmt.Sprintf(format, args...)} }
func no(format string, args ...any) Answer  { return Answer{"no", fmt.Sprintf(format, args...)} }
func unknown(format string, args ...any) Answer {
	return Answer{"unknown", fmt.Sprintf(format, args...)}
}

// unless is no where there is an error, with its words.
func unless(err error, format string, args ...any) Answer {
	if err != nil {
		return no("%v", err)
	}
	return yes(format, args...)
}

// Fact is one thing that is asked after.
type Fact struct {
	Name string
	Answer
}

// Report is all that there is to say of a machine.
type Report struct {
	Facts []Fact
	Ways  Ways
}

// Look finds out all of it.
func Look(l Library) *Report {
	k := tryKernel()
	r := &Report{Ways: waysOf(l, k)}
	r.add("preload", unless(r.Ways.Preload, "%s", l.Path))
	r.add("programs", programs(l))
	r.add("kernel", unless(r.Ways.Kernel, "the kernel hands over the calls on sockets that the library does not make"))
	k.report(r)
	r.add("yama", yama())
	r.add("io_uring", ring(r.Ways.Kernel))
	r.add("enforce", enforce(r.Ways.Kernel))
	rooms(r)
	r.add("kernel_tls", kernelTLS())
	return r
}

func (r *Report) add(name string, a Answer) { r.Facts = append(r.Facts, Fact{name, a}) }

// Print writes a line for each fact, and a last one for the ways.
func (r *Report) Print(w io.Writer) error {
	var b strings.Builder
	for _, f := range r.Facts {
		fmt.Fprintf(&b, "%-19s %-8s %s\n", f.Name, f.Is, f.Says)
	}
	fmt.Fprintf(&b, "%-19s %s\n", "ways", r.Ways)
	_, err := io.WriteString(w, b.String())
	return err
}

// MarshalJSON writes an object with the facts by their names, and the ways.
func (r *Report) MarshalJSON() ([]byte, error) {
	object := make(map[string]any, len(r.Facts)+1)
	for _, f := range r.Facts {
		object[f.Name] = f.Answer
	}
	object["ways"] = struct {
		Preload bool   `json:"preload"`
		Kernel  bool   `json:"kernel"`
		Ptrace  bool   `json:"ptrace"`
		Says    string `json:"says"`
	}{r.Ways.Preload == nil, r.Ways.Lost == nil && r.Ways.Kernel == nil, r.Ways.traces(), r.Ways.String()}
	return json.Marshal(object)
}

// programs are those that there are shims for.
func programs(l Library) Answer {
	if l.Lost != nil {
		return no("%v", l.Lost)
	}
	kinds, without, err := inspect.Kinds(l.Path)
	if err != nil {
		return no("%v", err)
	}
	more := ""
	if without != "" {
		more = fmt.Sprintf("; there is no library for those of %s beside it, which make cross builds", without)
	}
	return yes("of %s, with glibc 2.34 or newer, or musl%s", strings.Join(kinds, ", "), more)
}

func yama() Answer {
	scope, err := target.Yama()
	switch {
	case err != nil:
		return unknown("%v", err)
	case scope < 0:
		return no("this kernel has no Yama, whose ptrace_scope could keep the worker from programs")
	case scope == 0:
		return yes("ptrace_scope is 0: the worker may reach the programs of its own user")
	case scope == 1:
		return yes("ptrace_scope is 1: without CAP_SYS_PTRACE the worker may reach the program that is started, and others that have the library")
	case scope == 2:
		return yes("ptrace_scope is 2: the worker reaches programs with CAP_SYS_PTRACE only")
	}
	return yes("ptrace_scope is %d: nobody reaches programs, until the machine is started anew", scope)
}

func ring(kernel error) Answer {
	if kernel != nil {
		return unknown("what a program does by io_uring nobody sees, as the kernel hands nothing over")
	}
	return no("it is switched off for programs (io_uring_setup: ENOSYS), as nobody would see what they do by it; they go on without")
}

// enforce is about what --enforce takes beside the kernel's way.
func enforce(kernel error) Answer {
	if err := seccomp.TryConfine(); err != nil {
		return no("%v", err)
	}
	if kernel != nil {
		return no("the kernel can forbid TCP to a program (Landlock), but %v", kernel)
	}
	return yes("the kernel can forbid TCP to a program (Landlock, ABI 4), and hand over every call")
}

func kernelTLS() Answer {
	versions, why := record.KernelTLS()
	names := make([]string, len(versions))
	for i, v := range versions {
		names[i] = tls.VersionName(v)
	}
	switch all := strings.Join(names, " and "); {
	case len(names) == 0 && errors.Is(why, record.ErrNotTried):
		if os.Getenv(wire.Env) != "" {
			return unknown("%v; this is inside a run of tlswrap, whose rules count", why)
		}
		return unknown("%v", why)
	case len(names) == 0:
		return no("%v", why)
	case why != nil:
		return yes("%s; %v", all, why)
	default:
		return yes("%s", all)
	}
}
