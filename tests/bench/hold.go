package main

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// filesPerIdle is how many descriptors a worker or a stunnel may need for a connection: two,
// and some of its own. Stunnel stops at 125/256 of what it may open.
const filesPerIdle = 2.1

// fitting is as many of count idle connections as a worker or a stunnel can hold.
func (l *lab) fitting(count int) int { return min(count, int(float64(l.maxFiles)/filesPerIdle)) }

// hold is the client that keeps connections.
func (l *lab) hold(port, count int) []string {
	return []string{l.connect, "hold", "localhost", strconv.Itoa(port), "/line", strconv.Itoa(count)}
}

// held are the connections of a client that does nothing with them.
type held struct {
	cmd   *exec.Cmd
	stdin io.Closer // the client's end comes with it
}

// holdTime is how long a client may take to open all of its connections.
const holdTime = 5 * time.Minute

// openIdle starts a client and waits until it holds its connections.
func (l *lab) openIdle(client []string) (*held, error) {
	cmd := exec.CommandContext(l.ctx, client[0], client[1:]...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second // a worker may still hold standard error
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	h := &held{cmd, stdin}
	giveUp := time.AfterFunc(holdTime, func() { cmd.Process.Kill() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	giveUp.Stop()
	if err != nil || line != "held\n" {
		h.close()
		return nil, fmt.Errorf("the client holds no connections: %s", stderr.String())
	}
	return h, nil
}

// close ends the client, and so its connections. nil was never opened.
func (h *held) close() {
	if h != nil {
		h.stdin.Close()
		h.cmd.Wait()
	}
}

// whileHeld calls f while client holds its connections.
func (l *lab) whileHeld(client []string, f func() error) error {
	h, err := l.openIdle(client)
	if err != nil {
		return err
	}
	defer h.close()
	return f()
}
