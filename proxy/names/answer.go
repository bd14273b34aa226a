package names

import (
	"fmt"

	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

// Answer says which addresses a program is to see for a name that it has looked up, and notes in
// table what that shows it. hosts is the program's /etc/hosts. The error says whose look-up is
// to fail, and why.
func (r *Resolver) Answer(table *Table, p *rules.Policy, req wire.Request, hosts Hosts) ([]wire.Addr, error) {
	name, err := hostName(req.Name)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", req.Name, err)
	}
	if name == "" {
		return req.Addrs, nil
	}
	l := lookedUp{name: name, hosts: hosts}
	for _, a := range req.Addrs {
		l.ips = append(l.ips, a.Real())
	}
	if name, err = r.meant(p, l); err != nil {
		return nil, fmt.Errorf("%s: %w", l.name, err)
	}
	for i, a := range req.Addrs {
		if req.Addrs[i], err = r.shownFor(table, p, looked{name, a, req.Flags&wire.FlagDatagram != 0}); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return req.Addrs, nil
}

// looked is one address that a program found for a name, which it may look up for datagrams.
type looked struct {
	name     string
	addr     wire.Addr
	datagram bool
}

// shownFor returns what the program is shown in its place.
func (r *Resolver) shownFor(table *Table, p *rules.Policy, l looked) (wire.Addr, error) {
	ip := l.addr.Real()
	if id, ok := table.Lookup(ip); ok && id.Name == l.name {
		return l.addr, nil // it has been here before
	}
	covered := p.MayCover(l.name, ip)
	if !covered && !r.collides(ip, p) {
		if table.isAdopted() {
			table.show(ip, l.name) // where there is no room for it, connecting to it is refused
		}
		return l.addr, nil
	}
	if l.datagram || covered && p.WantsRealAddresses(l.name, ip) {
		if covered {
			return l.addr, table.show(ip, l.name)
		}
		return l.addr, nil
	}
	ip, err := table.forIdentity(Identity{l.name, ip, l.addr.Scope})
	if err != nil {
		return l.addr, err
	}
	return l.addr.With(ip, 0), nil
}
