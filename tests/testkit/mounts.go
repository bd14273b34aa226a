package testkit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// PrivateMounts keeps the mounts that are made in this process's mount namespace, which must be
// its own, from the namespace that it was made from. Where the process is in a chroot, whose / is
// no mount point, it also makes it one, as unshare(1) and the like need: it changes the root
// directory of this whole process to a bind mount of it.
func PrivateMounts() error {
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if err != unix.EINVAL {
		return wrap("making mounts private", err)
	}
	root, err := os.Open("/")
	if err != nil {
		return err
	}
	defer root.Close()
	own, err := os.MkdirTemp("/", "root-")
	if err != nil {
		return err
	}
	// chroot(2): who is outside of its root directory gets by ".." to that of the namespace.
	err = unix.Chroot(own)
	for range 64 {
		err = errors.Join(err, unix.Chdir(".."))
	}
	err = errors.Join(err, unix.Mount("", ".", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		root.Chdir(), unix.Chroot("."))
	if err == nil {
		err = errors.Join(unix.Mount("/", own, "", unix.MS_BIND|unix.MS_REC, ""), unix.Chroot(own))
	}
	return wrap("making / a mount point", err)
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// mountsVariable tells a test binary that it has a mount namespace of its own.
const mountsVariable = "TLSWRAP_TEST_MOUNTS"

// OwnRoot runs this test binary again, as root in a chroot whose / is no mount point, where it is
// one: done and the exit status. Elsewhere it does nothing.
func OwnRoot() (status int, done bool, err error) {
	if os.Getenv(mountsVariable) != "" {
		dir, err := os.Getwd()
		if err == nil {
			err = errors.Join(PrivateMounts(), os.Chdir(dir), os.Unsetenv(mountsVariable))
		}
		return 0, false, err
	}
	var info unix.Statx_t
	if os.Geteuid() != 0 || unix.Statx(unix.AT_FDCWD, "/", 0, unix.STATX_TYPE, &info) != nil ||
		info.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0 || info.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return 0, false, nil
	}
	// The death signal comes when the thread that started the child ends.
	runtime.LockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), mountsVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		return exit.ExitCode(), true, nil
	}
	return 0, true, err
}
