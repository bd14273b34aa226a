package relay

import (
	"log/slog"
	"sync/atomic"

	"tlswrap/proxy/channel"
	"tlswrap/proxy/fdio"
	"tlswrap/proxy/guard"
	"tlswrap/proxy/upstream"
	"tlswrap/proxy/verdict"
)

// Ends are the two sides of a connection.
type Ends struct {
	Channel  *channel.Pair
	Upstream *upstream.Conn

	Log    *slog.Logger
	Target string                 // for the log
	Broken func(*verdict.Failure) // is told why carrying has ended badly

	why atomic.Pointer[string] // the first reason to end that there was
}

// bothWays runs down beside up, and returns up's failure when both have ended, after a panic
// too: what comes then gives back the buffers of both. down's failure is told at once, unless
// the program has closed: then nobody is left to be told how the server does.
func (e *Ends) bothWays(down func() *verdict.Failure, up func(down <-chan struct{}) *verdict.Failure) *verdict.Failure {
	done := make(chan struct{})
	go func() {
		defer close(done)
		guard.Run(e.Log, "download", e.drop, func() {
			if f := guard.Step(e.Log, e.Target, down); f != nil && !e.Channel.HungUp() {
				e.broken(f)
				e.Channel.Close()
			}
		})
	}()
	return guard.Step(e.Log, e.Target, func() *verdict.Failure {
		ended := false
		defer func() {
			if !ended {
				e.Channel.Close()
				e.Upstream.Close()
			}
			<-done
		}()
		f := up(done)
		ended = true
		return f
	})
}

// drop closes both sides after a panic.
func (e *Ends) drop() {
	e.Channel.Drop()
	e.Upstream.Close()
}

// because notes why the connection ends.
func (e *Ends) because(why string) { e.why.CompareAndSwap(nil, &why) }

// broken tells that carrying has ended badly.
func (e *Ends) broken(f *verdict.Failure) {
	e.because(f.Reason)
	e.Broken(f)
}

// breakOff ends a connection from this side, also where the program does not read. First
// comes the sentence, then the reset, after which the program may end.
func (e *Ends) breakOff(f *verdict.Failure) {
	e.broken(f)
	e.Channel.Close()
	e.Upstream.SetDeadline(fdio.Past)
	e.Upstream.Shutdown() // the program may ask about the socket
}
