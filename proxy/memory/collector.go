// Package memory sets how much garbage the worker's heap may have, by how many connections there are, and
// gives memory that is not needed any more back to the system. It is told of what begins and ends, and
// knows nothing of it. The worker has one Collector.
package memory

import (
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

// Collector sets how much garbage the heap may have. Where many connections idle they are
// most of what is in it, and half as much again as they need is better given to programs;
// where there are few, new ones make most of it, and often to collect what little there is
// costs a tenth of their handshakes. $GOGC has the last word. The zero value has seen nothing, and the
// methods may be called from any goroutine.
//
// Memory that is not needed any more it gives back to the system: the Go runtime collects
// nothing for minutes where nothing is allocated.
type Collector struct {
	mu    sync.Mutex
	early bool
	open  int // connections
	begun int // of them, since memory was last given back
	most  int // of them, since then
	due   *time.Timer
	seen  int       // of begun, when due was set
	next  time.Time // when memory may be given back again
}

const (
	manyConnections = 1000
	earlyPercent    = 50
	usualPercent    = 100
)

// Memory is looked at giveBackAfter after something has ended, or begun: by then connections that idle have let go
// of what they do not need (fdio.IdleAfter). Below keptMemory it is not worth a collection. Collecting takes no more
// than one part in giveBackShare of the time.
const (
	giveBackAfter = 5 * time.Second
	giveBackShare = 100
	keptMemory    = 12 << 20
)

// Opened notes a connection.
func (c *Collector) Opened() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open++
	c.begun++
	c.most = max(c.most, c.open)
	c.tune()
	c.look()
}

// Closed notes the end of a connection.
func (c *Collector) Closed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	c.tune()
	c.look()
}

// Freed notes that something else has ended.
func (c *Collector) Freed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.look()
}

// tune is called with mu held.
func (c *Collector) tune() {
	early := c.open >= manyConnections || c.early && c.open > manyConnections/2
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

// look is called with mu held. What ends while the timer runs is looked at with the rest.
func (c *Collector) look() {
	if c.due == nil {
		c.seen = c.begun
		c.due = time.AfterFunc(max(giveBackAfter, time.Until(c.next)), c.giveBack)
	}
}

// giveBack gives memory back where half of the connections have ended since it last did, or half of them have begun
// and no more do: what a worker has that is as busy as before it needs again at once.
func (c *Collector) giveBack() {
	c.mu.Lock()
	c.due = nil
	busy := c.begun != c.seen
	if busy {
		c.look()
	}
	changed := c.open <= c.most/2 || !busy && c.open >= manyConnections && c.begun >= c.open/2
	c.mu.Unlock()
	if !changed || heldMemory() < keptMemory {
		return
	}
	began := time.Now()
	runtime.GC() // a sync.Pool keeps what it has over one collection
	debug.FreeOSMemory()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.most, c.begun = c.open, 0
	c.next = time.Now().Add(giveBackShare * time.Since(began))
}

// heldMemory is what the Go runtime has of the system, in bytes.
func heldMemory() uint64 {
	// Package runtime/metrics would tell without stopping anything, but sets itself up in every process.
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Sys - m.HeapReleased
}
