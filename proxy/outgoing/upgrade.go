package outgoing

import (
	"errors"
	"io"
	"net"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/channel"
	"tlswrap/proxy/starttls"
	"tlswrap/proxy/verdict"
)

// upgrade is the dialogue of a connection whose rule says starttls.
type upgrade struct {
	protocol *starttls.Protocol
	dialogue starttls.Dialogue
	early    bool // the program was let in before TLS
}

// protocol is what the upgrade goes by, or nil.
func (c *Conn) protocol() *starttls.Protocol {
	if control := c.control; control != nil {
		return control.upgrade.protocol.Data
	}
	return starttls.Of(c.Target.Decision.Rule.StartTLS)
}

// askTLS has the dialogue before TLS.
func (c *Conn) askTLS() *verdict.Failure {
	p := c.protocol()
	if p == nil {
		return nil
	}
	u := &upgrade{protocol: p}
	u.dialogue.Host = c.verifiedName()
	u.dialogue.Local = c.up.LocalAddr().(*net.TCPAddr).AddrPort().Addr()
	u.dialogue.Peer = c.peer.Real()
	if !c.explains() {
		u.dialogue.Open = c.letIn
		u.dialogue.Warn = func(reason string) { c.report("failed", verdict.Failf(unix.EPROTO, "%s", reason)) }
	}
	if p.Data != nil {
		c.data.sessions = newDataSessions()
		u.dialogue.Expect = c.expectData
	}
	c.upgrade = u
	if f := c.trail().Step("greeted", func() *verdict.Failure {
		if err := u.dialogue.Ask(c.up.Plain(), p); err != nil {
			return verdict.Dialogue(err)
		}
		return nil
	}, "protocol", c.Target.Decision.Rule.StartTLS); f != nil {
		return f
	}
	if p.NewFilter != nil {
		c.filter = p.NewFilter(&u.dialogue)
	}
	return nil
}

// explains reports whether there is no program: Explain makes the connection.
func (c *Conn) explains() bool { return c.pair == nil }

// secured ends the dialogue, under TLS.
func (c *Conn) secured() *verdict.Failure {
	if c.upgrade == nil {
		return nil
	}
	if err := c.upgrade.dialogue.Run(c.tls, c.upgrade.protocol.Secured); err != nil {
		return verdict.Dialogue(err)
	}
	return nil
}

// greeting is what the program reads first that the server does not send.
func (c *Conn) greeting() []byte {
	if c.upgrade == nil || c.upgrade.protocol.Greeting == nil {
		return nil
	}
	return []byte(c.upgrade.protocol.Greeting(&c.upgrade.dialogue))
}

// letIn is a dialogue's Open. The program has until setup's deadline for what it says.
func (c *Conn) letIn() (io.ReadWriter, error) {
	if c.watch.Stop() {
		return nil, errLeft
	}
	if f := c.open(); f != nil {
		return nil, f
	}
	c.upgrade.early = true
	c.pair.SetReadDeadline(c.until)
	return programConn{c.pair}, nil
}

// programConn is the connection to a program that has been let in.
type programConn struct{ pair *channel.Pair }

// Read takes no more from the program than there is room for: the rest is upload's.
func (c programConn) Read(b []byte) (int, error) {
	n, err := c.pair.Read(b)
	if err == io.EOF || errors.Is(err, unix.ECONNRESET) {
		err = errLeft
	}
	return n, err
}

func (c programConn) Write(b []byte) (int, error) {
	if c.pair.Send(b) != nil {
		return 0, errLeft
	}
	return len(b), nil
}

// refuse ends a setup whose program had been let in before it failed.
func (c *Conn) refuse(f *verdict.Failure) {
	if c.matters(f) {
		c.report("failed", f)
		if refusal := c.upgrade.protocol.Refusal; refusal != nil {
			c.pair.Send(refusal("tlswrap: " + f.Reason))
		}
	}
	c.end(dropSocket, f.Reason)
}

// matters reports whether a failure after the program was let in is one to anybody. A
// data connection that has carried nothing is not missed: what the server does not want
// to transfer it says on the control connection, and a program may close what it does not
// need.
func (c *Conn) matters(f *verdict.Failure) bool {
	switch {
	case f == errLeft:
		return false
	case c.control == nil || c.pair.Unsent():
		return true
	}
	return f != errNoTransfer && !c.pair.HungUp()
}
