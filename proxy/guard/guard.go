// Package guard keeps a panic to what it was about: the goroutine that serves one connection ends that
// connection, and the worker goes on. Every goroutine and timer of the worker's is guarded, or guards
// its steps. It logs the panic with its stack; how a connection is ended its owner says.
package guard

import (
	"log/slog"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/verdict"
)

// Recover, deferred, turns a panic into the end of what this one goroutine serves: end, which may
// be nil, does that. The log has the stack.
func Recover(log *slog.Logger, what string, end func()) {
	r := recover()
	if r == nil {
		return
	}
	log.Error("panic", "in", what, "panic", r, "stack", string(debug.Stack()))
	if end != nil {
		end()
	}
}

// Func is f for a timer, or for a goroutine of its own: a panic ends nothing else.
func Func(log *slog.Logger, what string, f func()) func() {
	return func() {
		defer Recover(log, what, nil)
		f()
	}
}

// Step is what step returns; a panic in it is a failure, and target's in the log.
func Step(log *slog.Logger, target string, step func() *verdict.Failure) (failure *verdict.Failure) {
	defer func() {
		if r := recover(); r != nil {
			log.Error("panic", "target", target, "panic", r, "stack", string(debug.Stack()))
			failure = verdict.Failf(unix.EPROTO, "internal error: %v", r)
		}
	}()
	return step()
}
