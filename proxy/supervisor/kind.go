package supervisor

import (
	"golang.org/x/sys/unix"

	"tlswrap/proxy/channel"
	"tlswrap/proxy/wire"
)

// kind is what a target's socket is.
type kind struct {
	fd     int // a copy, the owner's to close
	domain int
	// Of a channel, or of what a program listens on for channels:
	ours    bool
	id      uint64
	peer    wire.Addr
	listens bool
	words   bool // its client's first words follow at once
}

func (k *kind) close() { unix.Close(k.fd) }

func (k *kind) internet() bool { return k.domain == unix.AF_INET || k.domain == unix.AF_INET6 }

// possiblyTCP reports whether what is sent here might go out by TCP.
func (k *kind) possiblyTCP() bool {
	if !k.internet() {
		return false
	}
	protocol, err := unix.GetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	return err != nil || protocol == unix.IPPROTO_TCP || protocol == unix.IPPROTO_MPTCP
}

// kindOf takes over fd, unless there is an error. A channel is known by its name, or by that of its
// peer where it was accepted (preload/channel_name.c).
func kindOf(fd int) (k kind, err error) {
	k.fd = fd
	if k.domain, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil {
		return k, err
	}
	if k.domain != unix.AF_UNIX {
		return k, nil
	}
	own, err := unix.Getsockname(fd)
	if err != nil {
		return k, err
	}
	if k.id, k.peer, k.ours = channel.ParseName(own); k.ours {
		return k, nil
	}
	if k.id, k.ours = channel.ParseListener(own); !k.ours {
		return k, nil
	}
	peer, err := unix.Getpeername(fd)
	if k.listens = err == unix.ENOTCONN; !k.listens {
		k.id, k.peer, k.ours = channel.ParseName(peer)
		k.words = channel.WordsFollow(peer)
	}
	return k, nil
}

func (k *kind) nonblocking() bool {
	flags, err := unix.FcntlInt(uintptr(k.fd), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_NONBLOCK != 0
}
