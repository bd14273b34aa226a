// Command tlswrap runs an unmodified program and turns the connections that its rules name into
// verified TLS. It reads the command line, starts a worker (package proxy) or finds one, begins a
// session with it, and becomes the program. As process 1 of a PID namespace it stays, and the
// program is its child. Other commands check and explain rules, look at the machine, and run a
// long-lived worker.
//
// It is larger than others because it is all that stands between a shell and the worker: each
// command's flags, how processes start and what they inherit, the log's file.
package main

import (
	"io"
	"os"
	"runtime"
)

// The program takes the process's first thread: see begin.Supervise.
func init() { runtime.LockOSThread() }

func main() {
	os.Exit(run(os.Args, stdio{os.Stdin, os.Stdout, os.Stderr}))
}

// stdio is where a command reads and writes.
type stdio struct {
	in       io.Reader
	out, err *os.File
}

// Exit statuses of our own, as env(1) and timeout(1) have them.
const (
	exitOurs       = 125 // tlswrap itself failed
	exitCannotExec = 126 // the program was found and cannot be started
	exitNotFound   = 127
)

// verbs are the commands for people. One counts only as the very first word.
var verbs = map[string]func(args []string, std stdio) int{
	"check":   runCheck,
	"doctor":  runDoctor,
	"explain": runExplain,
	"worker":  runWorker,
	"version": runVersion,
	"help":    runHelp,
}

// verbNames are those of verbs, for what runs before a map can be made (entry.go).
var verbNames = [...]string{"check", "doctor", "explain", "worker", "version", "help"}

// run does what the command line says. Where a program is wrapped it returns only if
// that failed: the program has taken this process.
func run(args []string, std stdio) int {
	if entered.onOneProcessor {
		os.Unsetenv("GOMAXPROCS") // which is ours, and not the program's
	}
	if entered.isCompanion {
		return runCompanion(nil, std)
	}
	if stage, ok := stages[args[0]]; ok {
		return stage(args[1:], std)
	}
	if len(args) > 1 {
		if verb, ok := verbs[args[1]]; ok {
			return verb(args[2:], std)
		}
	}
	return runProgram(args[1:], std)
}
