// Package integration runs real programs under tlswrap against real servers, in network
// and mount namespaces of its own, and looks at every packet that they send.
package integration

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"tlswrap/tests/testkit"
)

// dirVariable tells the second stage of the test binary where the first has put things.
const dirVariable = "TLSWRAP_INTEGRATION_DIR"

// lab is what all tests share. TestMain fills it in; nothing changes it afterwards.
var lab struct {
	dir     string // for what lives as long as the package's tests
	tlswrap string
	sniffer *testkit.Sniffer
	root    *testkit.Authority
	rootPEM string // root's certificate, for --ca
}

func TestMain(m *testing.M) {
	status, err := 1, error(nil)
	if dir := os.Getenv(dirVariable); dir != "" {
		status, err = inside(m, dir)
	} else {
		status, err = outside()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "integration tests cannot run: %v\n", err)
		status = 1
	}
	os.Exit(status)
}

// outside builds tlswrap and runs this test binary again in new namespaces.
func outside() (int, error) {
	if os.Geteuid() != 0 {
		return 0, errors.New("they need root, to make network and mount namespaces and to capture packets")
	}
	dir, err := os.MkdirTemp("", "tlswrap-integration-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := build(dir); err != nil {
		return 0, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // some programs run as another user
		return 0, err
	}
	// The death signal comes when the thread that started the child ends.
	runtime.LockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), dirVariable+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("making network and mount namespaces (CAP_SYS_ADMIN is needed): %w", err)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	go func() {
		for s := range signals {
			cmd.Process.Signal(s)
		}
	}()
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// build makes tlswrap with the Makefile and copies it to dir, so that a build that goes
// on meanwhile does not disturb the tests.
func build(dir string) error {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		return err
	}
	const inn = "build/inn"
	files := []string{"build/tlswrap", "build/libtlswrap.so", "build/vsftpd"}
	make := exec.Command("make", append([]string{"-s", "-C", root, inn}, files...)...)
	if out, err := make.CombinedOutput(); err != nil {
		return fmt.Errorf("make: %w\n%s", err, out)
	}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(root, f))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(f)), data, 0o755); err != nil {
			return err
		}
	}
	return os.CopyFS(filepath.Join(dir, filepath.Base(inn)), os.DirFS(filepath.Join(root, inn)))
}

// inside runs the tests: this process has namespaces of its own.
func inside(m *testing.M, dir string) (int, error) {
	if err := arrange(dir); err != nil {
		return 0, err
	}
	sniffer, err := testkit.Sniff()
	if err != nil {
		return 0, fmt.Errorf("capturing packets (CAP_NET_RAW is needed): %w", err)
	}
	defer sniffer.Close()
	lab.dir, lab.sniffer = dir, sniffer
	lab.tlswrap = filepath.Join(dir, "tlswrap")
	lab.rootPEM = filepath.Join(dir, "root.pem")
	if lab.root, err = testkit.NewAuthority("tlswrap test root"); err != nil {
		return 0, err
	}
	if err := lab.root.WriteFile(lab.rootPEM); err != nil {
		return 0, err
	}
	if missing := missingPrograms(); len(missing) > 0 {
		return 0, fmt.Errorf("programs are missing: %s (install the packages in packages.txt)", strings.Join(missing, " "))
	}
	return m.Run(), nil
}

func missingPrograms() []string {
	var missing []string
	for _, p := range []string{
		"curl", "wget", "/usr/bin/python3", "node", "java", "perl", "bash", "nc.openbsd", "socat", "nginx",
		"gcc", "g++", "redis-server", "redis-cli", "apache2", "busybox", "memcached", "openssl", "setpriv", "dovecot", "slapd", "ldapsearch", "psql", "pgbench", "git", "ip",
		"/usr/sbin/proftpd", "lftp", "tnftp", "prosody", "sendxmpp", "/usr/sbin/inspircd", "irssi",
		"exim4", "swaks", "msmtp", "tinyproxy", "microsocks", "mariadbd", "mariadb",
	} {
		if _, err := exec.LookPath(p); err != nil {
			missing = append(missing, p)
		}
	}
	return missing
}
