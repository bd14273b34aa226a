package wire

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// Addr is an Internet address as a program wrote it. An IPv4-mapped IPv6 address
// stays one, so that the program gets back what it knows.
type Addr struct {
	IP    netip.Addr
	Port  uint16
	Scope uint32 // sin6_scope_id
}

// Real returns the address without its IPv6 mapping, as rules and names see it.
func (a Addr) Real() netip.Addr { return a.IP.Unmap() }

// With returns ip in the form that a has: mapped where a is.
func (a Addr) With(ip netip.Addr, scope uint32) Addr {
	if a.IP.Is4In6() && ip.Is4() {
		ip = netip.AddrFrom16(ip.As16())
	}
	a.IP, a.Scope = ip, scope
	return a
}

// AddrPort is a socket's address, invalid for what is no Internet address. An IPv4-mapped one
// counts as IPv4.
func AddrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// AddrOf is a client's address in the form that the program expects: that of its socket.
func AddrOf(sa unix.Sockaddr) Addr {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return Addr{IP: netip.AddrFrom4(sa.Addr), Port: uint16(sa.Port)}
	case *unix.SockaddrInet6:
		return Addr{IP: netip.AddrFrom16(sa.Addr), Port: uint16(sa.Port), Scope: sa.ZoneId}
	}
	return Addr{IP: netip.IPv4Unspecified()}
}
