package names

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/verdict"
	"tlswrap/proxy/wire"
)

// ThisHost returns the address that a connect to ip leads to, of a socket that is bound to none: "any"
// is this host, by its loopback address.
func ThisHost(ip netip.Addr) netip.Addr {
	switch {
	case !ip.IsUnspecified():
		return ip
	case ip.Is4():
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}

// Destination returns the address that a connect of fd's to to leads to. By "any" the kernel takes an IPv4
// socket to the address that it is bound to (ip_route_output_key_hash_rcu in net/ipv4/route.c), and an
// IPv6 socket that is bound to an IPv4 address to 127.0.0.1 (tcp_v6_connect in net/ipv6/tcp_ipv6.c). Rules
// are about the address that is returned, and the connection has to be made to it: what fd is bound
// to may change meanwhile.
func Destination(fd int, to wire.Addr) (wire.Addr, *verdict.Failure) {
	ip := to.Real()
	if !ip.IsUnspecified() {
		return to, nil
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return to, verdict.OfCall(err, "cannot tell what the socket is bound to")
	}
	bound := wire.AddrPort(sa).Addr()
	switch {
	case !ip.Is4() && bound.Is4():
		mapped := ThisHost(netip.IPv4Unspecified()).As16()
		return to.With(netip.AddrFrom16(mapped), 0), nil
	case !ip.Is4():
		return to.With(ThisHost(ip), 0), nil
	case bound.Is4() && !bound.IsUnspecified():
		return to.With(bound, 0), nil
	}
	device, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX)
	if err != nil || device != 0 {
		return to, verdict.Failf(unix.EHOSTUNREACH, "cannot tell which address %s is on a socket that is bound to a device", ip)
	}
	return to.With(ThisHost(ip), 0), nil
}
