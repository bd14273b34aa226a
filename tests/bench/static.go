package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
)

// What no library can be loaded into, against the same program with one: the kernel hands its calls over.

//go:embed programs/true.c
var trueSource string

// Contenders of works about programs that are linked statically.
const (
	byNotified  = "notified"        // static, under tlswrap
	byPreloaded = "preloaded"       // the same program with the shim
	byStatic    = "static"          // started under tlswrap
	byGo        = "Go, notified"    // a client in Go, under tlswrap
	byGoTLS     = "Go, its own TLS" // crypto/tls in the client
	byGoPlain   = "Go, plaintext"   // without any
	startsHere  = ", non-blocking"  // of the same that does not wait
	goClient    = "programs/client" // its source
	goConnected = 8                 // connections that it keeps
)

// compileStatic makes what is linked statically.
func (l *lab) compileStatic() error {
	l.connectStatic, l.trueStatic, l.goClient = l.path("connect-static"), l.path("true-static"), l.path("client")
	if _, err := l.run("cc", "-std=gnu17", "-O2", "-static", "-o", l.connectStatic, l.connect+".c"); err != nil {
		return err
	}
	source := l.path("true.c")
	if err := os.WriteFile(source, []byte(trueSource), 0o644); err != nil {
		return err
	}
	if _, err := l.run("cc", "-std=gnu17", "-O2", "-static", "-o", l.trueStatic, source); err != nil {
		return err
	}
	_, here, _, _ := runtime.Caller(0)
	build := exec.CommandContext(l.ctx, "go", "build", "-o", l.goClient, ".")
	build.Dir, build.Env = filepath.Join(filepath.Dir(here), goClient), append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w: %s", goClient, err, bytes.TrimSpace(said))
	}
	return nil
}

// notified measures what passed does, of a program whose connects the worker makes.
func (l *lab) notified() work {
	client := func(program, mode string) []string {
		return []string{program, mode, "127.0.0.1", strconv.Itoa(l.ports.Plain), strconv.Itoa(l.effort.passed)}
	}
	return work{
		name:   "notified",
		title:  fmt.Sprintf("connect(2) of a static program that passes, to a port that no rule is about, median of %d", l.effort.passed),
		units:  []unit{{"µs", 1}},
		rounds: l.effort.rounds,
		contenders: []contender{
			{byNotified, l.number(l.wrapped(client(l.connectStatic, "time")...))},
			{byPreloaded, l.number(l.wrapped(client(l.connect, "time")...))},
			{byPlaintext, l.number(client(l.connectStatic, "time"))},
			{byNotified + startsHere, l.number(l.wrapped(client(l.connectStatic, "start")...))},
			{byPlaintext + startsHere, l.number(client(l.connectStatic, "start"))},
		},
	}
}

func (l *lab) notifiedTLS() work {
	loop := func(program string, port int) []string { return append([]string{program}, l.loop(port)[1:]...) }
	return work{
		name:   "notified-tls",
		title:  "a static program: " + connectionsTitle + ", each with a full handshake",
		units:  []unit{{"connections/s", 0}},
		rounds: l.effort.rounds,
		contenders: []contender{
			{byNotified, l.countConnections(noneResume, l.wrapped(loop(l.connectStatic, l.ports.Full)...))},
			{byPreloaded, l.countConnections(noneResume, l.wrapped(loop(l.connect, l.ports.Full)...))},
			{byPlaintext, l.countConnections(noneResume, loop(l.connectStatic, l.ports.Plain))},
		},
	}
}

func (l *lab) staticDownload() work {
	get := func(program string, port int) []string {
		return []string{program, "get", "localhost", strconv.Itoa(port), "/download"}
	}
	inGo := func(scheme string, port int) []string {
		return []string{l.goClient, "get", url(scheme, port, "download"), l.ca}
	}
	return work{
		name:   "static-get",
		title:  fmt.Sprintf("a small C client gets %d MB from nginx over one connection, and one in Go; CPU is the whole machine's", l.effort.download/1e6),
		units:  bulkUnits,
		rounds: l.effort.rounds,
		contenders: []contender{
			{byNotified, l.transfer(l.wrapped(get(l.connectStatic, l.ports.TLS)...))},
			{byPreloaded, l.transfer(l.wrapped(get(l.connect, l.ports.TLS)...))},
			{byPlaintext, l.transfer(get(l.connectStatic, l.ports.Plain))},
			{byGo, l.transfer(l.wrapped(inGo("http", l.ports.TLS)...))},
			{byGoTLS, l.transfer(inGo("https", l.ports.TLS))},
			{byGoPlain, l.transfer(inGo("http", l.ports.Plain))},
		},
	}
}

func (l *lab) staticRequests() work {
	seconds := strconv.FormatFloat(l.effort.requests.Seconds(), 'f', -1, 64)
	client := func(scheme string, port int) []string {
		return []string{l.goClient, "requests", url(scheme, port, "small"), l.ca, strconv.Itoa(goConnected), seconds}
	}
	return work{
		name:   "static-requests",
		title:  fmt.Sprintf("a static client in Go gets a file of 1 KB from nginx over %d kept connections", goConnected),
		units:  []unit{{"requests/s", 0}},
		rounds: l.effort.rounds,
		contenders: []contender{
			{byGo, l.number(l.wrapped(client("http", l.ports.TLS)...))},
			{byGoTLS, l.number(client("https", l.ports.TLS))},
			{byGoPlain, l.number(client("http", l.ports.Plain))},
		},
	}
}
