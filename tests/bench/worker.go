package main

import (
	"os"
	"path/filepath"
)

// worker is a long-lived one, for single works.
type worker struct {
	*daemon
	socket string
}

// startWorker starts a worker with rules for every TLS port, and flags that count for more than its usual ones.
func (l *lab) startWorker(name string, flags ...string) (*worker, error) {
	dir := l.path(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "socket")
	serves := func() bool {
		_, err := os.Stat(socket)
		return err == nil
	}
	command := append([]string{l.tlswrap(), "worker", "--socket", socket, "--log", "/dev/null"}, l.policy()...)
	command = append(command, flags...)
	d, err := startDaemon(l.ctx, l.path(name+".out"), serves, command...)
	if err != nil {
		return nil, err
	}
	return &worker{d, socket}, nil
}

// stop ends the worker, and waits for it. nil was never started.
func (w *worker) stop() {
	if w != nil {
		w.daemon.stop()
	}
}

// by is a command that this worker serves.
func (l *lab) by(w *worker, command ...string) []string {
	return append([]string{l.tlswrap(), "--worker", w.socket}, command...)
}
