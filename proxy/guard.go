package proxy

import "runtime/debug"

// guard, deferred, turns a panic into the end of what this one goroutine serves: end, which may
// be nil, does that. The log has the stack.
func (w *Worker) guard(what string, end func()) {
	r := recover()
	if r == nil {
		return
	}
	w.log.Error("panic", "in", what, "panic", r, "stack", string(debug.Stack()))
	if end != nil {
		end()
	}
}

// guarded is f for a timer, or for a goroutine of its own: a panic ends nothing else.
func (w *Worker) guarded(what string, f func()) func() {
	return func() {
		defer w.guard(what, nil)
		f()
	}
}
