package main

import (
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// steady is what many connections do once all of them are at work: with a thousand, opening
// them takes wrk a good part of its time.
type steady struct {
	requests float64 // in a second
	cpu      float64 // seconds that the whole machine works in a second
}

// perRequest is the processor time of a request, in µs.
func (s steady) perRequest() float64 { return s.cpu / s.requests * 1e6 }

// bulk is the throughput in MB/s, and the processor time in s/GB, of replies with so many
// bytes.
func (s steady) bulk(size int) (speed, cost float64) {
	bytes := s.requests * float64(size)
	return bytes / 1e6, s.cpu / (bytes / 1e9)
}

// steadyState has wrk work over connections, and counts at nginx while all of them are in
// use. Nobody else may be connected to it.
func (l *lab) steadyState(wrk []string, connections int) (steady, error) {
	if err := l.awaitNobody(); err != nil {
		return steady{}, err
	}
	cmd := exec.CommandContext(l.ctx, wrk[0], wrk[1:]...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second // a worker may still hold standard error
	if err := cmd.Start(); err != nil {
		return steady{}, err
	}
	result, err := l.count(connections)
	cmd.Process.Signal(syscall.SIGINT) // has wrk say what it saw
	cmd.Wait()
	if err == nil {
		_, err = parseWrk(stdout.String())
	}
	if err != nil {
		return steady{}, fmt.Errorf("%s: %w: %s", strings.Join(wrk, " "), err, strings.TrimSpace(stderr.String()))
	}
	return result, nil
}

// count waits until so many connections are in use, and counts for a while.
func (l *lab) count(connections int) (steady, error) {
	first, err := l.nginxStatus()
	if err != nil {
		return steady{}, err
	}
	if err := l.await(func(s nginxStatus) bool {
		return s.speaking >= connections && s.requests-first.requests > connections
	}); err != nil {
		return steady{}, fmt.Errorf("opening connections: %w", err)
	}
	before, begin, err := l.sample()
	if err != nil {
		return steady{}, err
	}
	select {
	case <-l.ctx.Done():
		return steady{}, l.ctx.Err()
	case <-time.After(l.effort.requests):
	}
	after, end, err := l.sample()
	if err != nil {
		return steady{}, err
	}
	seconds := end.Sub(begin).Seconds()
	return steady{float64(after.requests-before.requests) / seconds, (after.cpu - before.cpu) / seconds}, nil
}

type sample struct {
	requests int
	cpu      float64
}

func (l *lab) sample() (sample, time.Time, error) {
	cpu, err := busyCPU()
	if err != nil {
		return sample{}, time.Time{}, err
	}
	s, err := l.nginxStatus()
	return sample{s.requests, cpu}, time.Now(), err
}

// awaitNobody waits until nobody is connected to nginx.
func (l *lab) awaitNobody() error {
	if err := l.await(func(s nginxStatus) bool { return s.active == 0 }); err != nil {
		return fmt.Errorf("others are connected to nginx: %w", err)
	}
	return nil
}

// await asks nginx until what it says is good, or for commandTime.
func (l *lab) await(good func(nginxStatus) bool) error {
	limit := time.After(commandTime)
	for {
		s, err := l.nginxStatus()
		if err != nil || good(s) {
			return err
		}
		select {
		case <-l.ctx.Done():
			return l.ctx.Err()
		case <-limit:
			return fmt.Errorf("after %v nginx has %d connections, of which %d speak HTTP", commandTime, s.active, s.speaking)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// nginxStatus is what nginx counts, without the connection that asks
// (ngx_http_stub_status_module).
type nginxStatus struct {
	active   int // connections
	speaking int // those of them that have done their handshake
	requests int // so far, these ones too
}

func (l *lab) nginxStatus() (nginxStatus, error) {
	reply, err := http.Get(url("http", l.ports.Plain, "status"))
	if err != nil {
		return nginxStatus{}, err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		return nginxStatus{}, err
	}
	return parseStatus(string(text))
}

func parseStatus(text string) (nginxStatus, error) {
	var s nginxStatus
	var accepted, handled, reading, writing, waiting int
	if _, err := fmt.Sscanf(text, "Active connections: %d\nserver accepts handled requests\n%d %d %d\nReading: %d Writing: %d Waiting: %d",
		&s.active, &accepted, &handled, &s.requests, &reading, &writing, &waiting); err != nil {
		return s, fmt.Errorf("what nginx says of itself, %q: %w", text, err)
	}
	const asking = 1
	s.active -= asking
	s.speaking = reading + writing + waiting - asking
	return s, nil
}
