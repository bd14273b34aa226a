package proxy

import (
	"sync"
	"time"

	"tlswrap/proxy/fdio"
)

// departure watches whether the program gives a setup up.
type departure struct {
	pair    *pair
	timer   *time.Timer
	watched chan struct{}
	once    sync.Once
	left    bool
}

// watchAfter is how long a setup goes on before it is watched. Most are over before it
// is worth while.
const watchAfter = 20 * time.Millisecond

// watchDeparture ends a setup that the program gives up, by cancel and up's deadline: one that
// shuts even one side of a connecting socket ends it, as with TCP.
func watchDeparture(w *Worker, pr *pair, up *upstream, cancel func()) *departure {
	d := &departure{pair: pr, watched: make(chan struct{})}
	d.timer = time.AfterFunc(watchAfter, func() {
		defer close(d.watched)
		defer w.guard("watch of a setup", func() { up.SetDeadline(past) })
		d.pair.w.WhenReadable(fdio.Leaving)
		if d.pair.leaving() {
			cancel()
			up.SetDeadline(past)
		}
	})
	return d
}

// stop ends the watch, after which others may read W, and reports whether the program
// had left. It may be called again.
func (d *departure) stop() bool {
	d.once.Do(func() {
		if !d.timer.Stop() {
			d.pair.w.SetReadDeadline(past)
			<-d.watched
			d.pair.w.SetReadDeadline(time.Time{})
		}
		d.left = d.pair.leaving()
	})
	return d.left
}
