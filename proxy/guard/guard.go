// Package guard keeps a panic to what it was about: the goroutine that serves one connection ends that
// connection, and the worker goes on. Every goroutine and timer of the worker's is guarded, or guards
// its steps. It logs the panic with its stack; how a connection is ended its owner says.
package guard

import (
	"log/slog"
	"runtime/debug"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/verdict"
)

// Run runs f, which serves what, to its end, and turns a panic into the end of what f serves: end, which
// may be nil, does that. The log has the stack.
func Run(log *slog.Logger, what string, end, f func()) {
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		log.Error("panic", "in", what, "panic", r, "stack", string(debug.Stack()))
		if end != nil {
			end()
		}
	}()
	begin(what)
	f()
}

// Func is f for a timer: a panic ends nothing else.
func Func(log *slog.Logger, what string, f func()) func() {
	return func() { Run(log, what, nil, f) }
}

// Step is what step returns, a part of what is done for target; a panic in it is a failure.
func Step(log *slog.Logger, target string, step func() *verdict.Failure) (failure *verdict.Failure) {
	defer func() {
		if r := recover(); r != nil {
			log.Error("panic", "target", target, "panic", r, "stack", string(debug.Stack()))
			failure = verdict.Failf(unix.EPROTO, "internal error: %v", r)
		}
	}()
	begin("step")
	return step()
}

// fault is a test's: it is called where something guarded begins, and may panic there.
var fault atomic.Pointer[func(what string)]

func begin(what string) {
	if f := fault.Load(); f != nil {
		(*f)(what)
	}
}

// Fault has f called with what each guarded function serves, before it runs, until the test is over. f
// may panic.
func Fault(t interface{ Cleanup(func()) }, f func(what string)) {
	fault.Store(&f)
	t.Cleanup(func() { fault.Store(nil) })
}
