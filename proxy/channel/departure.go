package channel

import (
	"log/slog"
	"sync"
	"time"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/guard"
)

// Watch looks after the program while the goroutine that reads W does something else, which may take
// long: when the program leaves, that is to end. Nobody else reads W until End. It is lent for that long,
// so that a connection which idles has none.
type Watch struct {
	pair   *Pair
	leaves func(fd int) bool // asked of W
	who    leaver
	log    *slog.Logger
	timer  *time.Timer
	over   chan struct{} // has one when the watch has ended that the timer has begun
}

// leaver is told that the program leaves.
type leaver interface{ Leave() }

// watchAfter is how long something goes on before it is watched. Most is over before it
// is worth while.
const watchAfter = 20 * time.Millisecond

var watches = sync.Pool{New: func() any {
	w := &Watch{over: make(chan struct{}, 1)}
	w.timer = time.AfterFunc(time.Hour, w.watch)
	w.timer.Stop()
	return w
}}

// beginWatch has who told when leaves, which is asked when W has something to tell, says so; and after
// a panic. log gets that.
func beginWatch(pr *Pair, leaves func(fd int) bool, who leaver, log *slog.Logger) *Watch {
	w := watches.Get().(*Watch)
	w.pair, w.leaves, w.who, w.log = pr, leaves, who, log
	w.timer.Reset(watchAfter)
	return w
}

// WatchReset has who told when the program closes its end and leaves bytes unread.
func WatchReset(pr *Pair, who leaver, log *slog.Logger) *Watch {
	return beginWatch(pr, fdio.Reset, who, log)
}

func (w *Watch) watch() {
	defer func() { w.over <- struct{}{} }()
	guard.Run(w.log, "watch of a program", w.who.Leave, func() {
		w.pair.w.WhenReadable(w.leaves)
		if w.pair.is(w.leaves) {
			w.who.Leave()
		}
	})
}

// End ends that, after which others may read W, and gives w back.
func (w *Watch) End() {
	if !w.timer.Stop() {
		w.pair.w.SetReadDeadline(fdio.Past)
		<-w.over
		w.pair.w.SetReadDeadline(time.Time{})
	}
	w.pair, w.leaves, w.who, w.log = nil, nil, nil, nil
	watches.Put(w)
}

// Departure watches whether the program gives a setup up.
type Departure struct {
	pair   *Pair
	up     transport
	cancel func()
	watch  *Watch
	once   sync.Once
	left   bool
}

// transport is the upstream of a setup.
type transport interface{ SetDeadline(time.Time) error }

// WatchSetup ends a setup that the program gives up, by cancel and up's deadline: one that
// shuts even one side of a connecting socket ends it, as with TCP. log gets a panic of the goroutine that watches.
func WatchSetup(pr *Pair, up transport, cancel func(), log *slog.Logger) *Departure {
	d := &Departure{pair: pr, up: up, cancel: cancel}
	d.watch = beginWatch(pr, fdio.Leaving, d, log)
	return d
}

// Leave ends the setup.
func (d *Departure) Leave() {
	d.cancel()
	d.up.SetDeadline(fdio.Past)
}

// Stop ends the watch, after which others may read W, and reports whether the program
// had left. It may be called again.
func (d *Departure) Stop() bool {
	d.once.Do(func() {
		d.watch.End()
		d.left = d.pair.leaving()
	})
	return d.left
}
