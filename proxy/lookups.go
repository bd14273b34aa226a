package proxy

import (
	"net/netip"

	"tlswrap/proxy/names"
	"tlswrap/proxy/session"
	"tlswrap/proxy/supervisor"
	"tlswrap/proxy/trust"
	"tlswrap/proxy/wire"
)

// lookups are those of a session's programs that ask a DNS server by themselves.
type lookups struct {
	*session.Session
	worker *Worker
}

func (w *Worker) lookups(s *session.Session) supervisor.Names { return lookups{s, w} }

// shown is what a session's program gets to see in the place of the addresses that it has found for a name, with
// its own /etc/hosts where that is known. It will connect, as a rule, and that needs the roots.
func (w *Worker) shown(s *session.Session, req wire.Request, hosts names.Hosts) ([]wire.Addr, error) {
	trust.WarmRoots()
	return w.resolver.Answer(s.Names, w.policy.Load().Rules, req, hosts)
}

// Shown implements dns.Asker as the shim's look-ups are answered.
func (l lookups) Shown(name string, addrs []netip.Addr) ([]netip.Addr, error) {
	req := wire.Request{Name: name}
	for _, a := range addrs {
		req.Addrs = append(req.Addrs, wire.Addr{IP: a})
	}
	shown, err := l.worker.shown(l.Session, req, nil)
	if err != nil {
		return nil, err
	}
	ips := make([]netip.Addr, len(shown))
	for i, a := range shown {
		ips[i] = a.IP
	}
	return ips, nil
}

// Covers implements dns.Asker.
func (l lookups) Covers(name string) bool {
	return l.worker.policy.Load().Rules.MayCover(name, netip.Addr{})
}

// Needs implements supervisor.Names.
func (l lookups) Needs() (known, must bool) { return l.worker.policy.Load().Rules.NeedsNames() }
