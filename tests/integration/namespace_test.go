package integration

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"tlswrap/tests/testkit"
)

// hosts is the whole of name resolution. Names on one line are one host's.
const hosts = `127.0.0.1 localhost
::1       localhost
127.0.0.1 db.example.test
127.0.0.1 wrong.example.test
127.0.0.1 plain.example.test
127.0.0.2 other.example.test
127.0.0.4 one.shared.test
127.0.0.4 two.shared.test
127.0.0.5 a.wild.test b.wild.test a.b.wild.test
127.0.0.6 dual.example.test
::1       dual.example.test six.example.test
127.0.0.7 app.short.test nickname
127.0.0.7 app
127.0.0.7 stranger
127.0.0.7 bad~name.bad.test
10.77.0.1  lan4.example.test
fd00:77::1 lan6.example.test
`

// arrange makes the new namespaces usable: interfaces, and files of our own in /etc.
func arrange(dir string) error {
	here, err := os.Getwd()
	if err == nil {
		err = errors.Join(testkit.PrivateMounts(), os.Chdir(here))
	}
	if err != nil {
		return err
	}
	for _, command := range []string{
		"ip link set lo up",
		"ip addr add 10.77.0.1/32 dev lo",
		"ip -6 addr add fd00:77::1/128 dev lo nodad",
		// What slips past the shim to a synthetic address is sent, and so it is seen.
		"ip route add default dev lo",
		"ip -6 route add default dev lo",
	} {
		words := strings.Fields(command)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", command, err, out)
		}
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/tcp_fastopen", []byte("3"), 0); err != nil {
		return err
	}
	for file, text := range map[string]string{
		"hosts":         hosts,
		"resolv.conf":   "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
		"nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
	} {
		own := filepath.Join(dir, file)
		if err := os.WriteFile(own, []byte(text), 0o644); err != nil {
			return err
		}
		if err := bind(own, filepath.Join("/etc", file)); err != nil {
			return err
		}
	}
	return nil
}

// bind mounts own over path, which may be a symbolic link.
func bind(own, path string) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	if err := syscall.Mount(own, path, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting over %s: %w", path, err)
	}
	return nil
}
