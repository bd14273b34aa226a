package main

import (
	"bufio"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// The same programs, linked to libtls, with Debian's library and under tlswrap.

//go:embed programs/libtls.c
var libtlsSource string

func (l *lab) compileLibtls() error {
	source := l.path("libtls.c")
	if err := os.WriteFile(source, []byte(libtlsSource), 0o644); err != nil {
		return err
	}
	l.libtls = l.path("libtls")
	_, err := l.run("cc", "-std=gnu17", "-O2", "-o", l.libtls, source, "-ltls")
	return err
}

// unruled is a command under tlswrap that makes its own TLS: no rule is about it.
func (l *lab) unruled(command ...string) []string {
	return append([]string{l.tlswrap(), "--rules", l.rules}, command...)
}

// byBoth lets both do the same.
func (l *lab) byBoth(measure func(command []string) func() ([]float64, error), command ...string) []contender {
	command = append([]string{l.libtls}, command...)
	return []contender{{byTLSWrap, measure(l.unruled(command...))}, {byLibtls, measure(command)}}
}

const byLibtls = "libtls26"

func (l *lab) libtlsDownload() work {
	return work{
		name: "libtls-get", title: fmt.Sprintf("a libtls client gets %d MB from nginx; CPU is the program's own", l.effort.download/1e6),
		units: bulkUnits, rounds: l.effort.rounds,
		contenders: l.byBoth(func(command []string) func() ([]float64, error) {
			return func() ([]float64, error) {
				v, err := l.numbers(3, command...)
				if err != nil {
					return nil, err
				}
				return []float64{v[0] / 1e6 / v[1], v[2] / (v[0] / 1e9)}, nil
			}
		}, "get", "localhost", strconv.Itoa(l.ports.TLS), "/download", l.ca),
	}
}

func (l *lab) libtlsConnections() work {
	seconds := strconv.FormatFloat(l.effort.connect.Seconds(), 'f', -1, 64)
	return work{
		name: "libtls-full", title: "a libtls client: " + connectionsTitle + ", each with a full handshake",
		units: []unit{{"connections/s", 0}}, rounds: l.effort.rounds,
		contenders: l.byBoth(func(command []string) func() ([]float64, error) {
			return func() ([]float64, error) {
				v, err := l.numbers(2, command...)
				if err != nil {
					return nil, err
				}
				return []float64{v[0] / v[1]}, nil
			}
		}, "loop", "localhost", strconv.Itoa(l.ports.Full), "/line", l.ca, seconds),
	}
}

func (l *lab) libtlsPing() work {
	return work{
		name: "libtls-ping", title: "a libtls client: a request and its answer over one connection to nginx",
		units: []unit{{"µs", 1}}, rounds: l.effort.rounds,
		contenders: l.byBoth(func(command []string) func() ([]float64, error) {
			return func() ([]float64, error) { return l.numbers(1, command...) }
		}, "ping", "localhost", strconv.Itoa(l.ports.TLS), "/line", l.ca, "2000"),
	}
}

// numbers runs a command that prints so many.
func (l *lab) numbers(count int, command ...string) ([]float64, error) {
	out, err := l.run(command...)
	if err != nil {
		return nil, err
	}
	var values []float64
	for word := range strings.FieldsSeq(out) {
		v, err := strconv.ParseFloat(word, 64)
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	if len(values) != count {
		return nil, fmt.Errorf("%s printed %q", strings.Join(command, " "), out)
	}
	return values, nil
}

// serving starts a libtls server for what f measures. It gets the port and the process.
func (l *lab) serving(command []string, f func(port, pid int) ([]float64, error)) func() ([]float64, error) {
	return func() ([]float64, error) {
		ctx, cancel := context.WithTimeout(l.ctx, commandTime)
		defer cancel()
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			return nil, err
		}
		defer cmd.Wait()
		defer cancel()
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("%s: %w", strings.Join(command, " "), err)
		}
		port, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			return nil, err
		}
		return f(port, cmd.Process.Pid)
	}
}

// aes128 has an OpenSSL client choose the same cipher, whatever the server would.
const aes128 = "TLS_AES_128_GCM_SHA256"

func (l *lab) libtlsServe() work {
	measure := func(command []string) func() ([]float64, error) {
		return l.serving(command, func(port, pid int) ([]float64, error) {
			before, err := processorTime(pid)
			if err != nil {
				return nil, err
			}
			out, err := l.run(append(l.curl("-o", "/dev/null", "--tls13-ciphers", aes128), url("https", port, "download"))...)
			if err != nil {
				return nil, err
			}
			var down, up, seconds float64
			if _, err := fmt.Sscan(out, &down, &up, &seconds); err != nil {
				return nil, fmt.Errorf("what curl printed, %q: %w", out, err)
			}
			after, err := processorTime(pid)
			return []float64{down / 1e6 / seconds, (after - before) / (down / 1e9)}, err
		})
	}
	return work{
		name: "libtls-serve", title: fmt.Sprintf("curl gets %d MB from a libtls server; CPU is the server program's own", l.effort.download/1e6),
		units: bulkUnits, rounds: l.effort.rounds,
		contenders: l.byBoth(measure, "serve", l.cert, l.key, strconv.FormatInt(l.effort.download, 10)),
	}
}

func (l *lab) libtlsAccept() work {
	measure := func(command []string) func() ([]float64, error) {
		return l.serving(command, func(port, _ int) ([]float64, error) {
			return l.countOpenSSL(noneResume, port)()
		})
	}
	return work{
		name: "libtls-accept", title: "openssl s_time connects to a libtls server again and again, each with a full handshake",
		units: []unit{{"connections/s", 0}}, rounds: l.effort.rounds,
		contenders: l.byBoth(measure, "serve", l.cert, l.key, "1"),
	}
}
