package proxy

import (
	"os"
	"runtime/debug"
)

// collector sets how much garbage the heap may have. Where many connections idle they are
// most of what is in it, and half as much again as they need is better given to programs;
// where there are few, new ones make most of it, and often to collect what little there is
// costs a tenth of their handshakes. $GOGC has the last word.
type collector struct{ early bool }

const (
	manyConnections = 1000
	earlyPercent    = 50
	usualPercent    = 100
)

// count is told how many channels there are.
func (c *collector) count(n int) {
	early := n >= manyConnections || c.early && n > manyConnections/2
	if early == c.early || os.Getenv("GOGC") != "" {
		return
	}
	c.early = early
	percent := usualPercent
	if early {
		percent = earlyPercent
	}
	debug.SetGCPercent(percent)
}
