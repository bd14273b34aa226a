package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// logLevel is the flag that says which events a log has: the zero value is the default, info.
type logLevel struct {
	least slog.Level
	given bool
}

func (l *logLevel) String() string { return strings.ToLower(l.least.String()) }

// Set implements flag.Value.
func (l *logLevel) Set(s string) error {
	for _, level := range []slog.Level{slog.LevelError, slog.LevelWarn, slog.LevelInfo, slog.LevelDebug} {
		if named := (logLevel{level, true}); named.String() == s {
			*l = named
			return nil
		}
	}
	return errors.New("it has to be error, warn, info or debug")
}

// logFile is where a worker's events go, a line each. One that was renamed or removed is opened
// anew by its name, and lines that cannot be written, since the disk is full, are counted.
type logFile struct {
	path string

	mu     sync.Mutex
	file   *os.File
	looked time.Time         // when its name was last looked at
	lost   int               // lines since the last that was written
	torn   bool              // what is there ends in the middle of a line
	say    func(line string) // tells a person, if there is one
}

// lookAgain is how long a log that was renamed is written to at most.
const lookAgain = time.Second

func openLogFile(path string) (*logFile, error) {
	l := &logFile{path: path, looked: time.Now()}
	f, err := l.open()
	if err != nil {
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	l.file = f
	return l, nil
}

func (l *logFile) open() (*os.File, error) {
	return os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_CLOEXEC, 0o600)
}

// speakTo has what a person should know said by say, which may wait.
func (l *logFile) speakTo(say func(line string)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.say = say
}

// reopen looks at the log's name now.
func (l *logFile) reopen() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look()
}

// look opens the log anew where its name is not its own any more. Where that fails the old file
// has to do. The caller holds mu.
func (l *logFile) look() {
	l.looked = time.Now()
	named, err := os.Stat(l.path)
	if own, e := l.file.Stat(); err == nil && e == nil && os.SameFile(own, named) {
		return
	}
	if f, err := l.open(); err == nil {
		l.file.Close()
		l.file, l.torn = f, false
	}
}

// Write writes one line. It implements io.Writer.
func (l *logFile) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.looked) >= lookAgain {
		l.look()
	}
	out := line
	if l.lost > 0 {
		out = fmt.Appendf(nil, "{\"time\":%q,\"level\":\"ERROR\",\"msg\":\"lines lost\",\"lines\":%d}\n", time.Now().Format(time.RFC3339Nano), l.lost)
		out = append(out, line...)
	}
	if l.torn {
		out = append([]byte("\n"), out...)
	}
	n, err := l.file.Write(out)
	if err == nil {
		if l.lost > 0 {
			l.tell("the log %s is written again; %d lines were lost", l.path, l.lost)
		}
		l.lost, l.torn = 0, false
		return len(line), nil
	}
	if n > 0 {
		l.torn = !bytes.HasSuffix(out[:n], []byte("\n"))
	}
	if l.lost == 0 {
		l.tell("the log %s loses lines: %v", l.path, err)
	}
	l.lost++
	return 0, err
}

func (l *logFile) tell(format string, args ...any) {
	if l.say != nil {
		go l.say(fmt.Sprintf(format, args...)) // what it does may be logged
	}
}

// sayOn says lines on a worker's own standard error.
func sayOn(w io.Writer) func(line string) {
	return func(line string) { fmt.Fprintf(w, "tlswrap: %s\n", line) }
}
