package record

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernelTLS is a TCP socket whose kernel makes records of what is written to it
// (Documentation/networking/tls.rst). What is read from it is ciphertext as before.
//
// A write that did not wait for room may leave whole records behind TCP's send buffer, and
// close drops them (tls_sw_release_resources_tx): of 16 KiB written to a socket with a small
// buffer 6 were sent, and no record was whole. So before the end settle waits for them.
type kernelTLS struct {
	conn  net.Conn
	raw   syscall.RawConn // conn's
	start int64           // TCP's position when the kernel began to seal
	sent  int64           // bytes of content since then
	total uint64          // records since then, but for those under the current key
	first uint64          // number of the first record under the current key
	size  int             // of a crypto_info
	extra int             // bytes that sealing adds to a record
}

// From linux/tls.h.
const (
	tlsTX            = 1
	tlsSetRecordType = 1
	tlsCipherAES128  = 51
	tlsCipherAES256  = 52
	tlsSaltLen       = 4
	tlsNumberLen     = 8
	maxCryptoInfo    = 56
)

// newKernelTLS has the kernel seal as h would, from the next byte on that is written to
// conn. Where there is an error, nothing has changed.
func newKernelTLS(conn net.Conn, h *half) (*kernelTLS, error) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	k := &kernelTLS{conn: conn, raw: raw, extra: h.sealedLen(0)}
	return k, k.control(func(fd int) error {
		var err error
		if k.start, err = position(fd); err != nil {
			return err
		}
		if err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_ULP, "tls"); err != nil {
			return os.NewSyscallError("setsockopt TCP_ULP", err)
		}
		return k.use(fd, h)
	})
}

// control calls f with the descriptor.
func (k *kernelTLS) control(f func(fd int) error) error {
	var err error
	if e := k.raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

// use has the kernel seal with the key, and the number, of h.
func (k *kernelTLS) use(fd int, h *half) error {
	info := cryptoInfo(h)
	defer clear(info)
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_TLS, tlsTX,
		uintptr(unsafe.Pointer(&info[0])), uintptr(len(info)), 0)
	if errno != 0 {
		return os.NewSyscallError("setsockopt TLS_TX", errno)
	}
	k.first, k.size = h.seq, len(info)
	return nil
}

// cryptoInfo is a struct tls12_crypto_info_aes_gcm_128 or _256: version and cipher, IV,
// key, salt, and the number of the next record.
func cryptoInfo(h *half) []byte {
	cipher := uint16(tlsCipherAES128)
	if h.suite == &aes256 {
		cipher = tlsCipherAES256
	}
	number := binary.BigEndian.AppendUint64(nil, h.seq)
	b := binary.NativeEndian.AppendUint16(make([]byte, 0, maxCryptoInfo), h.version)
	b = binary.NativeEndian.AppendUint16(b, cipher)
	if h.tls13() {
		b = append(b, h.iv[tlsSaltLen:]...)
	} else {
		b = append(b, number...) // the part of the nonce that each record carries, as in seal
	}
	b = append(b, h.key...)
	b = append(b, h.iv[:tlsSaltLen]...)
	return append(b, number...)
}

// records is how many were sealed under the current key.
func (k *kernelTLS) records(fd int) (uint64, error) {
	var info [maxCryptoInfo]byte // the key is in it
	defer clear(info[:])
	size := uint32(k.size)
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_TLS, tlsTX,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, os.NewSyscallError("getsockopt TLS_TX", errno)
	}
	return binary.BigEndian.Uint64(info[k.size-tlsNumberLen:]) - k.first, nil
}

// update changes to the next key, which the peer has been told: that of h.
func (k *kernelTLS) update(h *half) error {
	return k.control(func(fd int) error {
		n, err := k.records(fd)
		if err != nil {
			return err
		}
		k.total += n
		return k.use(fd, h)
	})
}

// write sends content as application data, by way of conn.
func (k *kernelTLS) write(content []byte) error {
	n, err := k.conn.Write(content)
	k.sent += int64(n)
	return err
}

// send sends content as one record of another type than application data.
func (k *kernelTLS) send(typ contentType, content []byte) error {
	oob := make([]byte, unix.CmsgSpace(1))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
	h.Level, h.Type = unix.SOL_TLS, tlsSetRecordType
	h.SetLen(unix.CmsgLen(1))
	oob[unix.CmsgLen(0)] = byte(typ)
	var err error
	if e := k.raw.Write(func(fd uintptr) bool {
		for err = unix.EINTR; err == unix.EINTR; {
			_, err = unix.SendmsgN(int(fd), content, oob, nil, 0)
		}
		return err != unix.EAGAIN
	}); e != nil {
		return e
	}
	if err == nil {
		k.sent += int64(len(content))
	}
	return os.NewSyscallError("sendmsg", err)
}

// settle waits until TCP has everything that was written.
func (k *kernelTLS) settle() error {
	var err error
	if e := k.raw.Write(func(fd uintptr) bool {
		for {
			var settled bool
			if settled, err = k.settled(int(fd)); settled || err != nil {
				return true
			}
			p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
			unix.Poll(p, 0)
			switch {
			case p[0].Revents == 0:
				return false // until there is room
			case p[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0:
				err = unix.ECONNRESET
				return true
			}
			time.Sleep(settleTime)
		}
	}); e != nil {
		return e
	}
	return err
}

// settleTime is when settle looks again while there is room: the kernel's work queue
// (tx_work_handler) is about to use it.
const settleTime = time.Millisecond

// settled reports whether TCP has every byte of every record.
func (k *kernelTLS) settled(fd int) (bool, error) {
	now, err := position(fd)
	if err != nil {
		return false, err
	}
	n, err := k.records(fd)
	if err != nil {
		return false, err
	}
	return now-k.start >= k.sent+int64(k.total+n)*int64(k.extra), nil
}

// position is how many bytes a TCP socket has been given to send, up to a constant.
func position(fd int) (int64, error) {
	acked, err := acknowledged(fd)
	for err == nil {
		var queued int
		if queued, err = unix.IoctlGetInt(fd, unix.SIOCOUTQ); err != nil {
			return 0, os.NewSyscallError("ioctl SIOCOUTQ", err)
		}
		before := acked
		if acked, err = acknowledged(fd); acked == before {
			return int64(acked) + int64(queued), err
		}
	}
	return 0, err
}

func acknowledged(fd int) (uint64, error) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, os.NewSyscallError("getsockopt TCP_INFO", err)
	}
	return info.Bytes_acked, nil
}

// KernelTLS returns the versions of TLS that SealInKernel can have here. Where some are
// missing, why says so for people. It is found out once, with a connection of this process
// to itself.
func KernelTLS() (versions []uint16, why error) { return probe() }

// ErrNotTried is in KernelTLS's error where it could not be found out. Inside a run of tlswrap the connection
// comes under that run's rules.
var ErrNotTried = errors.New("this process cannot connect to itself to try it")

var probe = sync.OnceValues(func() (versions []uint16, why error) {
	for _, v := range []struct {
		version uint16
		without string
	}{
		{tls.VersionTLS12, "the kernel does not do TLS, or its module tls is not loaded"},
		{tls.VersionTLS13, "the kernel cannot change the keys of TLS 1.3, which Linux 6.14 brought"},
	} {
		switch err := try(v.version); {
		case errors.Is(err, ErrNotTried):
			return versions, err
		case err != nil:
			return versions, fmt.Errorf("%s: %w", v.without, err)
		}
		versions = append(versions, v.version)
	}
	return versions, nil
})

// kernelDoes reports whether KernelTLS has a version.
func kernelDoes(version uint16) bool {
	versions, _ := probe()
	return slices.Contains(versions, version)
}

// try reports why the kernel cannot do a version, in which keys can be changed where it
// has that.
func try(version uint16) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotTried, err)
	}
	defer l.Close()
	const enough = 5 * time.Second // nobody accepts, so that a run whose rules want TLS there waits
	conn, err := net.DialTimeout("tcp", l.Addr().String(), enough)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotTried, err)
	}
	defer conn.Close()
	h := &half{suite: &aes128, version: version, key: make([]byte, aes128.keyLen)}
	k, err := newKernelTLS(conn, h)
	if err == nil && h.tls13() {
		err = k.update(h)
	}
	return err
}
