package supervisor

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/wire"
)

// Options by the kernel's numbers for both sizes of time_t (asm-generic/socket.h).
const (
	rcvTimeoOld, sndTimeoOld         = 20, 21
	rcvTimeoNew, sndTimeoNew         = 66, 67
	timestampingOld, timestampingNew = 37, 65
)

// mostOption is the longest value of an option that is moved: more than any that the kernel has.
const mostOption = 64 << 10

// staysOnChannel reports whether an option is the descriptor's own, and not of the network.
func staysOnChannel(level, option int32) bool {
	if level != unix.SOL_SOCKET {
		return false
	}
	switch option {
	case unix.SO_TYPE, unix.SO_RCVLOWAT, unix.SO_PEEK_OFF, rcvTimeoOld, sndTimeoOld, rcvTimeoNew, sndTimeoNew:
		return true
	}
	return false
}

// isOfRecords reports whether an option is about the upstream's own bytes, which are records: a program
// does without.
func isOfRecords(level, option int32) bool {
	return level == unix.IPPROTO_TCP && (option == unix.TCP_ZEROCOPY_RECEIVE || option == unix.TCP_INQ || option == unix.TCP_ULP)
}

// getsockopt answers getsockopt(2): what is of the network, the upstream tells.
func (c *call) getsockopt() answer {
	level, option := int32(c.Args[1]), int32(c.Args[2])
	return c.ofChannel(func(k *kind) answer {
		switch {
		case level == unix.SOL_SOCKET && option == unix.SO_ERROR:
			return c.getError(k)
		case isOfRecords(level, option):
			return fail(unix.EOPNOTSUPP)
		case staysOnChannel(level, option):
			return natively
		}
		return c.withUpstream(k, func(up int) answer {
			room, refusal := c.roomForOption()
			if refusal != nil {
				return refusal
			}
			value := make([]byte, max(1, room)) // of which the kernel may read what it fills
			if refusal := c.read(c.Args[3], value[:room]); refusal != nil {
				return refusal
			}
			size := uint32(room)
			_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(up), uintptr(level), uintptr(option),
				uintptr(unsafe.Pointer(&value[0])), uintptr(unsafe.Pointer(&size)), 0)
			if errno != 0 {
				return fail(errno)
			}
			return c.putOption(value[:min(int(size), room)])
		})
	})
}

// roomForOption is how much the target has room for.
func (c *call) roomForOption() (int, answer) {
	var length [4]byte
	if refusal := c.read(c.Args[4], length[:]); refusal != nil {
		return 0, refusal
	}
	room := int32(native.Uint32(length[:]))
	if room < 0 {
		return 0, fail(unix.EINVAL)
	}
	return min(int(room), mostOption), nil
}

func (c *call) putOption(b []byte) answer {
	var length [4]byte
	native.PutUint32(length[:], uint32(len(b)))
	if refusal := c.write(piece{c.Args[3], b}, piece{c.Args[4], length[:]}); refusal != nil {
		return refusal
	}
	return value(0)
}

// getError answers SO_ERROR with the errno that setup has ended with. Whoever asks is told once.
func (c *call) getError(k *kind) answer {
	room, refusal := c.roomForOption()
	if refusal != nil {
		return refusal
	}
	if c.placed && !k.nonblocking() {
		if e := c.session.Find(k.id); e != nil && c.await(e.Settled(), 0) != nil {
			return nobody // poll(2) may have told that it is over too early
		}
	}
	errno, err := unix.GetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return c.failed(err)
	}
	if e := c.session.Find(k.id); errno != 0 && e != nil {
		if reply := e.Verdict(0); reply.Answer == wire.AnswerError && reply.Errno != 0 {
			errno = int(reply.Errno)
		}
	}
	var b [4]byte
	native.PutUint32(b[:], uint32(errno))
	return c.putOption(b[:min(room, len(b))])
}

// setsockopt answers setsockopt(2).
func (c *call) setsockopt() answer {
	level, option := int32(c.Args[1]), int32(c.Args[2])
	k, refusal := c.socket()
	if refusal != nil {
		return refusal
	}
	defer k.close()
	asks, refusal := c.asksForErrors(level, option)
	switch {
	case refusal != nil:
		return refusal
	case asks && (k.ours || k.possiblyTCP() && mayBecomeChannel(&k)):
		return fail(unix.EOPNOTSUPP)
	case !k.ours, staysOnChannel(level, option):
		return natively
	case isOfRecords(level, option):
		return fail(unix.EOPNOTSUPP)
	}
	return c.withUpstream(&k, func(up int) answer {
		size := int32(c.Args[4])
		if size < 0 || size > mostOption {
			return fail(unix.EINVAL)
		}
		value := make([]byte, size)
		if refusal := c.read(c.Args[3], value); refusal != nil {
			return refusal
		}
		if level == unix.IPPROTO_TCP && option == unix.TCP_CORK && size >= 4 {
			return fail(0) // it would hold back records that are complete: see preload/options.c
		}
		if level == unix.IPPROTO_TCP && option == unix.TCP_NODELAY {
			markDelays(k.fd) // a program with the shim may come after this one
		}
		return c.failed(unix.SetsockoptString(up, int(level), int(option), string(value)))
	})
}

// mayBecomeChannel reports whether a TCP socket has no peer yet.
func mayBecomeChannel(k *kind) bool {
	_, err := unix.Getpeername(k.fd)
	return err != nil
}

// asksForErrors reports whether an option asks for what the kernel would put into a connection's error
// queue: it would come on the upstream, where nobody waits for it.
func (c *call) asksForErrors(level, option int32) (bool, answer) {
	const ofSending = 3 | 3<<8 // linux/net_tstamp.h: when data were sent
	switch {
	case level != unix.SOL_SOCKET:
		return false, nil
	case option == unix.SO_ZEROCOPY:
		return true, nil
	case option != timestampingOld && option != timestampingNew, int32(c.Args[4]) < 4:
		return false, nil
	}
	var flags [4]byte
	if refusal := c.read(c.Args[3], flags[:]); refusal != nil {
		return false, refusal
	}
	return native.Uint32(flags[:])&ofSending != 0, nil
}

// markDelays has the shim believe no longer that a channel's upstream has TCP_NODELAY: see preload/options.c.
func markDelays(channel int) {
	marks, _ := unix.GetsockoptInt(channel, unix.SOL_SOCKET, unix.SO_PRIORITY)
	unix.SetsockoptInt(channel, unix.SOL_SOCKET, unix.SO_PRIORITY, marks|wire.Delays)
}
