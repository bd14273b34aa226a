package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// daemon is a server that runs as long as the benchmark, or a part of it.
type daemon struct {
	name  string
	cmd   *exec.Cmd
	words string // the file that it writes its messages to
	done  chan struct{}
}

// readyTime is how long a daemon may take until it serves, and to end.
const readyTime = 10 * time.Second

// startDaemon starts a server and waits until ready says that it serves.
func startDaemon(ctx context.Context, words string, ready func() bool, command ...string) (*daemon, error) {
	file, err := os.Create(words)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	d := &daemon{name: command[0], words: words, done: make(chan struct{})}
	d.cmd = exec.Command(command[0], command[1:]...)
	d.cmd.Stdout, d.cmd.Stderr = file, file
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(d.done)
		d.cmd.Wait()
	}()
	if err := d.await(ctx, ready); err != nil {
		d.stop()
		said, _ := os.ReadFile(words)
		return nil, fmt.Errorf("%s %w: %s", d.name, err, strings.TrimSpace(string(said)))
	}
	return d, nil
}

func (d *daemon) await(ctx context.Context, ready func() bool) error {
	limit := time.After(readyTime)
	for !ready() {
		select {
		case <-d.done:
			return fmt.Errorf("did not start")
		case <-limit:
			return fmt.Errorf("did not serve within %v", readyTime)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// stop ends the daemon, and waits for it. nil was never started.
func (d *daemon) stop() {
	if d == nil {
		return
	}
	d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.done:
	case <-time.After(readyTime):
		d.cmd.Process.Kill()
		<-d.done
	}
}

// listening tells when something listens on all of ports.
func listening(ports ...int) func() bool {
	return func() bool {
		for _, p := range ports {
			conn, err := net.Dial("tcp", address(p))
			if err != nil {
				return false
			}
			conn.Close()
		}
		return true
	}
}

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// freePorts finds ports that nobody listens on, below those that outgoing connections
// get (net.ipv4.ip_local_port_range begins at 32768).
func freePorts(into ...*int) error {
	const first, last, tries = 10000, 32000, 1000
	for try := 0; len(into) > 0; try++ {
		port := first + rand.IntN(last-first)
		l, err := net.Listen("tcp", address(port))
		if err != nil {
			if try == tries {
				return fmt.Errorf("finding a free port: %w", err)
			}
			continue
		}
		defer l.Close() // held until all are found
		*into[0], into = port, into[1:]
	}
	return nil
}
