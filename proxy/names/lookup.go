package names

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/verdict"
	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

// NameFor returns the host name that a worker takes a real address for whose program has looked nothing up,
// or "" where no rule's name has it.
func NameFor(r *rules.Policy, ip netip.Addr, port uint16) (string, *verdict.Failure) {
	if IsSynthetic(ip) {
		return "", verdict.Failf(unix.EHOSTUNREACH, "%s is a synthetic address, which stands for a name only in the run that has shown it for that", ip)
	}
	t, failure := NewResolver().Identify(new(Table), r, wire.Addr{IP: ip, Port: port}, func(string) {})
	return t.Name, failure
}

// LookUp resolves a host for Explain as a worker does.
func LookUp(ctx context.Context, host string) ([]netip.Addr, error) {
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, errors.New(verdict.LookUp(err))
	}
	for i := range ips {
		ips[i] = ips[i].Unmap()
	}
	return ips, nil
}
