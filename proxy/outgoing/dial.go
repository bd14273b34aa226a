package outgoing

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/starttls"
	"tlswrap/proxy/verdict"
	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

// reach gets as far as the TLS handshake: to the port where the server speaks TLS at once,
// if the rule knows one and something listens there, or else by asking for it.
func (c *Conn) reach(ctx context.Context) *verdict.Failure {
	rule := c.Target.Decision.Rule
	if rule.TLSPort != 0 {
		if f := c.dialTLSPort(ctx); f == nil || ctx.Err() != nil {
			return f
		}
	}
	f := c.dial(ctx, rule.Upstream)
	if f == nil {
		return c.askTLS()
	}
	if rule.TLSPort != 0 {
		f = verdict.Failf(f.Errno, "%s; nothing answers on port %d either", f.Reason, rule.TLSPort)
	}
	return f
}

// tlsPortTime is how long it may take to find out that nothing listens on a TLS port:
// packets to a port that is not meant to be used may be dropped.
const tlsPortTime = 3 * time.Second

func (c *Conn) dialTLSPort(ctx context.Context) *verdict.Failure {
	rule := c.Target.Decision.Rule
	deadline, _ := ctx.Deadline()
	c.up.SetDeadline(time.Now().Add(min(tlsPortTime, rule.Timeout/2)))
	defer c.up.SetDeadline(deadline)
	f := c.dial(ctx, rules.Endpoint{Host: rule.Upstream.Host, Port: rule.TLSPort})
	if f != nil {
		c.up.Disconnect()
	}
	return f
}

// dial connects the upstream, to the address that the program meant, or to where the
// rule says.
func (c *Conn) dial(ctx context.Context, to rules.Endpoint) *verdict.Failure {
	if c.Target.Decision.Rule.Via.Scheme != "" {
		return c.dialVia(ctx, to)
	}
	return c.dialTo(ctx, to)
}

// dialTo connects to an endpoint, of which host and port may be missing: those are the
// target's.
func (c *Conn) dialTo(ctx context.Context, to rules.Endpoint) *verdict.Failure {
	addrs, failure := c.upstreamAddrs(ctx, to)
	for i, a := range addrs {
		if i > 0 {
			c.up.Disconnect()
		}
		c.front.Stopped(c.state.Session, a, c.from.Value().Namespace)
		var err error
		where := netip.AddrPortFrom(a.Real(), a.Port)
		failure = c.trail().Step("dialled", func() *verdict.Failure {
			if err = c.up.Connect(a); err != nil {
				return verdict.Dial(err, where, c.waited())
			}
			return nil
		}, "upstream", where)
		if failure == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
	}
	return failure
}

func (c *Conn) upstreamAddrs(ctx context.Context, end rules.Endpoint) ([]wire.Addr, *verdict.Failure) {
	to := c.Target.Addr
	if end.Port != 0 {
		to.Port = end.Port
	}
	host := end.Host
	if host == "" {
		return []wire.Addr{to}, nil
	}
	ips := make([]netip.Addr, 0, 4)
	if ip, err := netip.ParseAddr(host); err == nil {
		ips = append(ips, ip)
	} else if ips, err = c.front.Resolver.Lookup(ctx, "ip", host); err != nil {
		return nil, verdict.Dial(err, netip.AddrPort{}, c.Target.Decision.Rule.Timeout)
	}
	var addrs []wire.Addr
	for _, ip := range ips {
		ip = ip.Unmap()
		switch {
		case to.IP.Is4() && ip.Is6():
			continue // the program's socket cannot go there
		case to.IP.Is6() && ip.Is4():
			ip = netip.AddrFrom16(ip.As16())
		}
		addrs = append(addrs, wire.Addr{IP: ip, Port: to.Port})
	}
	if len(addrs) == 0 {
		return nil, verdict.Failf(unix.EHOSTUNREACH, "%s has no address of the family that the program's socket is of", host)
	}
	return addrs, nil
}

// dialVia connects to the rule's proxy, and has that connect to the target.
func (c *Conn) dialVia(ctx context.Context, endpoint rules.Endpoint) *verdict.Failure {
	rule := c.Target.Decision.Rule
	if f := c.dialTo(ctx, rule.Via.Endpoint); f != nil {
		return f.By(rule.Via.Endpoint)
	}
	to := rules.Endpoint{Host: c.Target.Host(), Port: c.Target.Addr.Port}
	if endpoint.Port != 0 {
		to.Port = endpoint.Port
	}
	if endpoint.Host != "" {
		to.Host = endpoint.Host
	}
	var d starttls.Dialogue
	f := c.trail().Step("greeted", func() *verdict.Failure {
		if err := d.Run(c.up.Plain(), starttls.Via(rule.Via, to)); err != nil {
			return verdict.Dialogue(err).By(rule.Via.Endpoint)
		}
		return nil
	}, "protocol", rule.Via.Scheme)
	if c.explains() {
		c.said = append(c.said, d.Said()...)
	}
	return f
}
