package supervisor

import (
	"golang.org/x/sys/unix"

	"tlswrap/proxy/wire"
)

// getpeername answers getpeername(2): there is a peer once setup has ended well.
func (c *call) getpeername() answer {
	return c.ofChannel(func(k *kind) answer {
		if k.listens || !c.connected(k) {
			return fail(unix.ENOTCONN)
		}
		return c.name(formatAddress(k.peer))
	})
}

// getsockname answers getsockname(2) with the address of the upstream.
func (c *call) getsockname() answer {
	return c.ofUpstream(func(up int) answer {
		raw, err := rawName(unix.SYS_GETSOCKNAME, up)
		if err != nil {
			return c.failed(err)
		}
		return c.name(raw)
	})
}

func (c *call) name(raw []byte) answer {
	if refusal := c.writeAddress(raw, c.Args[1], c.Args[2]); refusal != nil {
		return refusal
	}
	return value(0)
}

// connected reports whether setup has ended well. A channel that is writable has; one that is not is
// still being set up, or full.
func (c *call) connected(k *kind) bool {
	p := []unix.PollFd{{Fd: int32(k.fd), Events: unix.POLLOUT}}
	if n, err := unix.Poll(p, 0); err == nil && n > 0 {
		return p[0].Revents&(unix.POLLERR|unix.POLLHUP) == 0
	}
	e := c.session.Find(k.id)
	return e != nil && e.Verdict(0).Answer == wire.AnswerGood
}

// ofChannel answers what is about a channel, and leaves the rest to the kernel.
func (c *call) ofChannel(f func(k *kind) answer) answer {
	k, refusal := c.socket()
	if refusal != nil {
		return refusal
	}
	defer k.close()
	if !k.ours {
		return natively
	}
	return f(&k)
}

// ofUpstream answers for a channel with what f makes of its upstream.
func (c *call) ofUpstream(f func(up int) answer) answer {
	return c.ofChannel(func(k *kind) answer { return c.withUpstream(k, f) })
}

func (c *call) withUpstream(k *kind, f func(up int) answer) answer {
	up := -1
	if e := c.session.Find(k.id); e != nil {
		up = e.Lend()
	}
	if up < 0 {
		return fail(unix.ENOTCONN)
	}
	defer unix.Close(up)
	return f(up)
}
