package channel

import (
	"log/slog"
	"sync"
	"time"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/guard"
)

// Watch looks after the program while the goroutine that reads W does something else, which may take
// long: when the program leaves, that is to end. Nobody else reads W between Begin and End.
type Watch struct {
	pair   *Pair
	leaves func(fd int) bool // asked of W
	then   func()
	log    *slog.Logger
	timer  *time.Timer
	over   chan struct{} // has one when the watch of a Begin has ended that has begun
}

// watchAfter is how long something goes on before it is watched. Most is over before it
// is worth while.
const watchAfter = 20 * time.Millisecond

// newWatch has then called when leaves, which is asked when W has something to tell, says so; and after
// a panic. log gets that.
func newWatch(pr *Pair, leaves func(fd int) bool, then func(), log *slog.Logger) *Watch {
	w := &Watch{pair: pr, leaves: leaves, then: then, log: log, over: make(chan struct{}, 1)}
	w.timer = time.AfterFunc(time.Hour, w.watch)
	w.timer.Stop()
	return w
}

// WatchReset has then called when the program closes its end and leaves bytes unread.
func WatchReset(pr *Pair, then func(), log *slog.Logger) *Watch {
	return newWatch(pr, fdio.Reset, then, log)
}

func (w *Watch) watch() {
	defer func() { w.over <- struct{}{} }()
	guard.Run(w.log, "watch of a program", w.then, func() {
		w.pair.w.WhenReadable(w.leaves)
		if w.pair.is(w.leaves) {
			w.then()
		}
	})
}

// Begin begins to watch.
func (w *Watch) Begin() { w.timer.Reset(watchAfter) }

// End ends that, after which others may read W.
func (w *Watch) End() {
	if !w.timer.Stop() {
		w.pair.w.SetReadDeadline(fdio.Past)
		<-w.over
		w.pair.w.SetReadDeadline(time.Time{})
	}
}

// Departure watches whether the program gives a setup up.
type Departure struct {
	watch *Watch
	once  sync.Once
	left  bool
}

// transport is the upstream of a setup.
type transport interface{ SetDeadline(time.Time) error }

// WatchSetup ends a setup that the program gives up, by cancel and up's deadline: one that
// shuts even one side of a connecting socket ends it, as with TCP. log gets a panic of the goroutine that watches.
func WatchSetup(pr *Pair, up transport, cancel func(), log *slog.Logger) *Departure {
	d := &Departure{watch: newWatch(pr, fdio.Leaving, func() {
		cancel()
		up.SetDeadline(fdio.Past)
	}, log)}
	d.watch.Begin()
	return d
}

// Stop ends the watch, after which others may read W, and reports whether the program
// had left. It may be called again.
func (d *Departure) Stop() bool {
	d.once.Do(func() {
		d.watch.End()
		d.left = d.watch.pair.leaving()
	})
	return d.left
}
