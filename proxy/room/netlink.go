package room

import (
	"encoding/binary"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
)

// lo is the number of the loopback interface in every network namespace (LOOPBACK_IFINDEX).
const lo = 1

// linkUp is ip link set lo up.
func linkUp() error {
	return request(unix.RTM_NEWLINK, unix.IfInfomsg{Index: lo, Flags: unix.IFF_UP, Change: unix.IFF_UP})
}

// routeAll is ip route add local default dev lo.
func routeAll(family uint8) error {
	route := struct {
		unix.RtMsg
		unix.RtAttr
		Interface uint32
	}{
		unix.RtMsg{Family: family, Table: unix.RT_TABLE_LOCAL, Protocol: unix.RTPROT_STATIC, Scope: unix.RT_SCOPE_HOST, Type: unix.RTN_LOCAL},
		unix.RtAttr{Len: unix.SizeofRtAttr + 4, Type: unix.RTA_OIF},
		lo,
	}
	return request(unix.RTM_NEWROUTE, route)
}

// request makes one request of rtnetlink(7)'s, and returns how it ended.
func request(kind uint16, body any) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	header := unix.NlMsghdr{
		Len:  uint32(unix.SizeofNlMsghdr + binary.Size(body)),
		Type: kind, Flags: unix.NLM_F_REQUEST | unix.NLM_F_ACK | unix.NLM_F_CREATE,
	}
	message, err := binary.Append(nil, binary.NativeEndian, header)
	if err == nil {
		message, err = binary.Append(message, binary.NativeEndian, body)
	}
	if err != nil {
		return os.NewSyscallError("rtnetlink", unix.EINVAL)
	}
	if err := fdio.Again(func() error { return unix.Sendto(fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) }); err != nil {
		return os.NewSyscallError("rtnetlink", err)
	}
	answer := make([]byte, 4096)
	var n int
	err = fdio.Again(func() (err error) {
		n, _, err = unix.Recvfrom(fd, answer, 0)
		return err
	})
	if err != nil {
		return os.NewSyscallError("rtnetlink", err)
	}
	if n < unix.SizeofNlMsghdr+4 || binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return os.NewSyscallError("rtnetlink", unix.EPROTO)
	}
	if errno := -int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); errno != 0 {
		return os.NewSyscallError("rtnetlink", syscall.Errno(errno))
	}
	return nil
}
