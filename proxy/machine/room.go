package machine

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/thread"
)

const room = "room"

// rooms tells of the network namespaces in which the worker answers the DNS of programs that ask servers
// themselves: made by rights of its own, or in a user namespace.
func rooms(r *Report) {
	ownRights, inUser := tryNetwork(), tryUser()
	r.add("user_namespaces", unless(inUser, "with a network namespace in it"))
	switch {
	case ownRights == nil:
		r.add("network_namespaces", yes("with CAP_SYS_ADMIN, for the DNS of programs that ask servers themselves"))
	case inUser == nil:
		r.add("network_namespaces", yes("in a user namespace, for the DNS of programs that ask servers themselves"))
	default:
		r.add("network_namespaces", no("%v, which takes CAP_SYS_ADMIN or a user namespace: rules for *.example.com do not cover programs that ask DNS servers themselves", ownRights))
	}
}

// tryNetwork makes a network namespace on a thread that ends.
func tryNetwork() (err error) {
	thread.Run(func() {
		if err = os.NewSyscallError("unshare(CLONE_NEWNET)", unix.Unshare(unix.CLONE_NEWNET)); err == nil {
			err = linkUp()
		}
	})
	return err
}

// tryUser starts a process in a user and a network namespace.
func tryUser() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := attempt(ctx, room)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET, AmbientCaps: []uintptr{unix.CAP_NET_ADMIN}}
	out, err := cmd.Output()
	if err == nil {
		var said string
		if err = json.Unmarshal(out, &said); err == nil {
			err = errorOf(said)
		}
	}
	if err != nil {
		return fmt.Errorf("a process cannot have one of its own, and rights there (%w), which takes CONFIG_USER_NS, no chroot, and the sysctls "+
			"user.max_user_namespaces, kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns, where there are such", err)
	}
	return nil
}

// linkUp needs CAP_NET_ADMIN in the network namespace.
func linkUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(s)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return os.NewSyscallError("ioctl SIOCSIFFLAGS", unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo))
}
