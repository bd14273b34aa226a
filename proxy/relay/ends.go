package relay

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

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

	why  atomic.Pointer[string] // the first reason to end that there was
	left atomic.Bool            // the program has closed, and is still owed bytes
}

// Sending has send called, which sends to the upstream what the program has written. A program that
// closes meanwhile, and leaves bytes unread, ends it, as TCP then drops what is still to be sent (RFC 2525,
// section 2.17). Only the goroutine that reads the channel calls it.
func (e *Ends) Sending(send func() error) error {
	defer channel.WatchReset(e.Channel, e, e.Log).End()
	return send()
}

// Leave ends sending, for a program that has closed and left bytes unread, or where the other direction has
// broken meanwhile and closed the channel.
func (e *Ends) Leave() {
	if !e.Channel.Closed() {
		e.left.Store(true)
	}
	e.Upstream.SetWriteDeadline(fdio.Past)
}

// Undelivered is told that bytes cannot be given to the program. Where it has closed TCP answers them with
// a reset, which ends the other direction as well. What the program wrote last has a while to be sent before.
func (e *Ends) Undelivered() {
	switch {
	case e.Channel.Reset():
		e.Leave()
	case e.Channel.HungUp():
		e.left.Store(true)
		e.Upstream.SetWriteDeadline(time.Now().Add(DrainTime))
	}
}

// Abandoned reports whether the upload has ended in err because the program has closed its end and is
// still owed bytes.
func (e *Ends) Abandoned(err error) bool {
	return errors.Is(err, unix.ECONNRESET) || err != nil && (e.left.Load() || e.Channel.Reset())
}

// Abandon ends the connection of such a program: TCP sends a reset then, and no FIN before (RFC 1122,
// section 4.2.2.13).
func (e *Ends) Abandon() {
	e.because("the program has closed it, and left bytes unread")
	e.Upstream.Abort()
}

// downFailed ends a connection whose download has failed, which is told at once, unless the program has
// closed: then nobody is left to be told how the server does.
func (e *Ends) downFailed(f *verdict.Failure) {
	if !e.Channel.HungUp() {
		e.broken(f)
		e.Channel.Close()
	}
}

// bothWays runs down beside up, and returns up's failure when both have ended, after a panic
// too: what comes then gives back the buffers of both.
func (e *Ends) bothWays(down func() *verdict.Failure, up func(down <-chan struct{}) *verdict.Failure) *verdict.Failure {
	done := make(chan struct{})
	go func() {
		defer close(done)
		guard.Run(e.Log, "download", e.drop, func() {
			if f := guard.Step(e.Log, e.Target, down); f != nil {
				e.downFailed(f)
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
