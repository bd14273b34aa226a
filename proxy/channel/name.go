package channel

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/wire"
)

// Name is the abstract address of a channel: see preload/wire.h.
func Name(id uint64, peer wire.Addr) string {
	family := '6'
	if peer.IP.Is4() {
		family = '4'
	}
	return wire.NamePrefix + fmt.Sprintf("%016x/%c%04x%08x%s", id, family, peer.Port, peer.Scope, hex.EncodeToString(peer.IP.AsSlice()))
}

// ParseName reads the name of a channel; ok is not set for any other socket's.
func ParseName(sa unix.Sockaddr) (id uint64, peer wire.Addr, ok bool) {
	const digits = 16
	name, ok := strings.CutPrefix(strings.TrimSuffix(pathOf(sa), wire.NameWords), "@"+wire.NamePrefix)
	if !ok || len(name) < digits+len("/4pppp")+8+8 || name[digits] != '/' {
		return 0, peer, false
	}
	id, err := strconv.ParseUint(name[:digits], 16, 64)
	family, rest := name[digits+1], name[digits+2:]
	port, e := strconv.ParseUint(rest[:4], 16, 16)
	scope, f := strconv.ParseUint(rest[4:12], 16, 32)
	ip, g := hex.DecodeString(rest[12:])
	if err != nil || e != nil || f != nil || g != nil {
		return 0, peer, false
	}
	peer.Port, peer.Scope = uint16(port), uint32(scope)
	if peer.IP, ok = netip.AddrFromSlice(ip); !ok || peer.IP.Is4() != (family == '4') {
		return 0, peer, false
	}
	return id, peer, true
}

// WordsFollow reports whether a channel's name says that its client's first words follow at once.
func WordsFollow(sa unix.Sockaddr) bool { return strings.HasSuffix(pathOf(sa), wire.NameWords) }

// ParseListener reads the name of what a program listens on in the place of a TCP socket, and of what
// was accepted there.
func ParseListener(sa unix.Sockaddr) (id uint64, ok bool) {
	path := pathOf(sa)
	const before = "/" + wire.ListenPrefix
	at := strings.LastIndex(path, before)
	if at < 0 || path[0] != '/' {
		return 0, false
	}
	digits := path[at+len(before):]
	id, err := strconv.ParseUint(digits, 16, 64)
	return id, err == nil && len(digits) == 16
}

func pathOf(sa unix.Sockaddr) string {
	if sa, ok := sa.(*unix.SockaddrUnix); ok {
		return sa.Name
	}
	return ""
}
