package supervisor

import (
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/seccomp"
	"tlswrap/proxy/wire"
)

// A worker that has no descriptor left cannot look at the program's socket: it gives no call back to the kernel
// unseen, as a question to a DNS server would go out past it.
func TestWithoutADescriptorNothingIsGivenBack(t *testing.T) {
	p := newProgram(t, unix.SOCK_NONBLOCK)
	to := formatAddress(wire.Addr{IP: netip.MustParseAddr("192.0.2.1"), Port: 53})
	for call, args := range map[seccomp.Call][]uint64{
		seccomp.Connect:     {uint64(p.fd), at(to), uint64(len(to))},
		seccomp.Listen:      {uint64(p.fd), 1},
		seccomp.Accept4:     {uint64(p.fd)},
		seccomp.Getsockname: {uint64(p.fd)},
		seccomp.Getsockopt:  {uint64(p.fd), unix.SOL_SOCKET, unix.SO_ERROR},
		seccomp.Sendto:      {uint64(p.fd), at(to), 1, 0, at(to), uint64(len(to))},
	} {
		says(t, fmt.Sprint("call ", call), p.call(t, &signalled{spare: -1}, call, args...), -int64(unix.ENFILE))
	}
}

// EMFILE is a program's that has none itself. Once there are some again all is as before.
func TestAWorkersLastDescriptorsAreNotTheProgramsLast(t *testing.T) {
	for spare := 1; spare < 64; spare++ {
		p := newProgram(t, unix.SOCK_NONBLOCK)
		switch got := p.connect(t, &signalled{spare: spare}); {
		case len(got) == 1 && got[0] == -int64(unix.EINPROGRESS):
			return
		case len(got) == 1 && (got[0] == -int64(unix.ENFILE) || got[0] == -int64(unix.ENETDOWN)):
		default:
			t.Errorf("a connect with %d descriptors to spare: %d", spare, got)
		}
	}
	t.Error("no number of descriptors is enough")
}
