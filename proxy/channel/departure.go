package channel

import (
	"log/slog"
	"sync"
	"time"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/guard"
)

// Departure watches whether the program gives a setup up.
type Departure struct {
	pair    *Pair
	timer   *time.Timer
	watched chan struct{}
	once    sync.Once
	left    bool
}

// watchAfter is how long a setup goes on before it is watched. Most are over before it
// is worth while.
const watchAfter = 20 * time.Millisecond

// transport is the upstream of a setup.
type transport interface{ SetDeadline(time.Time) error }

// Watch ends a setup that the program gives up, by cancel and up's deadline: one that
// shuts even one side of a connecting socket ends it, as with TCP. log gets a panic of the goroutine that watches.
func Watch(pr *Pair, up transport, cancel func(), log *slog.Logger) *Departure {
	d := &Departure{pair: pr, watched: make(chan struct{})}
	d.timer = time.AfterFunc(watchAfter, func() {
		defer close(d.watched)
		guard.Run(log, "watch of a setup", func() { up.SetDeadline(fdio.Past) }, func() {
			d.pair.w.WhenReadable(fdio.Leaving)
			if d.pair.leaving() {
				cancel()
				up.SetDeadline(fdio.Past)
			}
		})
	})
	return d
}

// Stop ends the watch, after which others may read W, and reports whether the program
// had left. It may be called again.
func (d *Departure) Stop() bool {
	d.once.Do(func() {
		if !d.timer.Stop() {
			d.pair.w.SetReadDeadline(fdio.Past)
			<-d.watched
			d.pair.w.SetReadDeadline(time.Time{})
		}
		d.left = d.pair.leaving()
	})
	return d.left
}
