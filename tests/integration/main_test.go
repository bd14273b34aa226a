// Package integration runs real programs under tlswrap against real servers, in network
// and mount namespaces of its own, and looks at every packet that they send.
package integration

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
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
	flag.Parse()
	// Most of the tests wait for something rather than work.
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		flag.Set("test.parallel", "6")
	}
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
		return 0, testkit.NotTested("real programs and servers", "only root can make namespaces and capture packets")
	}
	if without, err := testkit.Without("real programs and servers", "make", "gcc", "ip"); without {
		return 0, err
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
	// Some of what the programs write there is for nobody else.
	if err := os.Mkdir(filepath.Join(dir, "home"), 0o755); err != nil {
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
	out, err := exec.Command("make", "-s", "-C", root, "build/tlswrap", "build/libtlswrap.so").CombinedOutput()
	if err != nil {
		return fmt.Errorf("make: %w\n%s", err, out)
	}
	fetched, err := testkit.Fetch(root, "build/inn", "build/vsftpd", "build/busybox-static")
	if err != nil {
		return err
	}
	for _, f := range append(fetched, "build/tlswrap", "build/libtlswrap.so") {
		if out, err := exec.Command("cp", "-r", filepath.Join(root, f), dir).CombinedOutput(); err != nil {
			return fmt.Errorf("cp: %w\n%s", err, out)
		}
	}
	return nil
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
	return m.Run(), nil
}

// programs are the programs of others that the tests start.
var programs = []string{
	"apache2", "bash", "busybox", "bwrap", "caddy", "curl", "dovecot", "etcd", "etcdctl", "exim4", "g++", "gcc", "git", "inspircd", "irssi", "java", "ldapsearch", "lftp",
	"mariadb", "mariadbd", "memcached", "microsocks", "msmtp", "nc.openbsd", "nginx", "node", "openssl", "perl", "pgbench", "proftpd",
	"prosody", "psql", "python3", "rclone", "redis-cli", "redis-server", "sendxmpp", "setpriv", "slapd", "socat", "swaks", "tinyproxy",
	"tnftp", "unshare", "wget",
}

// need skips a test that starts one of programs which is not there: it stands in a command line,
// or in a shell's text there.
func need(t *testing.T, argv []string) {
	t.Helper()
	for _, word := range strings.FieldsFunc(strings.Join(argv, " "), func(r rune) bool { return strings.ContainsRune(" \t\n'\"()|&;", r) }) {
		if slices.Contains(programs, filepath.Base(word)) {
			testkit.Need(t, word)
		}
	}
}
