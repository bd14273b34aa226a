package relay

import (
	"tlswrap/proxy/guard"
	"tlswrap/proxy/verdict"
)

// direction is one of the two of a connection.
type direction struct {
	what  string                        // for the log
	bytes func(*Conn) *verdict.Failure  // carries them, until their end or until nothing has come for a while: idle
	await func(*Conn)                   // waits for more after that
	fail  func(*Conn, *verdict.Failure) // ends the other direction as well
	end   func(*Conn)                   // is called once, after a panic too
}

// idle is no failure: nothing has come for a while.
var idle = verdict.Failf(0, "nothing has come for a while")

// carry carries a direction on a goroutine of its own. When nothing has come for a while another takes its place, so
// that thousands of connections which idle have the smallest stacks there are: the runtime does not make one as small
// again that carrying has needed more of. While bytes are waited for here, the functions on the stack have to take
// less than 1248 bytes of it together, or the runtime does not even halve the 8 KiB that carrying takes.
func (c *Conn) carry(d *direction) {
	f := guard.Step(c.Log, c.Target, func() *verdict.Failure { return d.bytes(c) })
	if f == idle {
		go c.rest(d)
		return
	}
	c.over(d, f)
}

// rest waits until there is something to carry, and carries on.
func (c *Conn) rest(d *direction) {
	guard.Run(c.Log, d.what, c.drop, func() { d.await(c) })
	c.carry(d)
}

// over ends a direction, which may have failed.
func (c *Conn) over(d *direction, f *verdict.Failure) {
	guard.Run(c.Log, d.what, c.drop, func() {
		if f != nil {
			d.fail(c, f)
		}
	})
	d.end(c)
}
