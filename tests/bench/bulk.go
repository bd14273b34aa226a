package main

import (
	"fmt"
	"os"
	"path/filepath"
)

var bulkUnits = []unit{{"MB/s", 0}, {"CPU s/GB", 2}}

func (l *lab) download() work {
	curl := func(scheme string, port int) []string {
		return l.curl("-o", "/dev/null", url(scheme, port, "download"))
	}
	return work{
		name:   "download",
		title:  fmt.Sprintf("curl gets %d MB from nginx over one connection; CPU is the whole machine's", l.effort.download/1e6),
		units:  bulkUnits,
		rounds: l.effort.rounds,
		contenders: []contender{
			{byTLSWrap, l.transfer(l.wrapped(curl("http", l.ports.TLS)...))},
			{byPlaintext, l.transfer(curl("http", l.ports.Plain))},
			{byOpenSSL, l.transfer(curl("https", l.ports.TLS))},
			{byStunnel, l.transfer(curl("http", l.ports.stunnel))},
		},
	}
}

func (l *lab) upload() work {
	file := filepath.Join(l.files, "upload")
	curl := func(scheme string, port int) []string {
		// Without the header curl waits for a 100 Continue.
		return l.curl("-H", "Expect:", "-T", file, "-o", "/dev/null", url(scheme, port, "upload"))
	}
	return work{
		name:   "upload",
		title:  fmt.Sprintf("curl sends %d MB over one connection; CPU is the whole machine's", l.effort.upload/1e6),
		units:  bulkUnits,
		rounds: l.effort.rounds,
		contenders: []contender{
			{byTLSWrap, l.transfer(l.wrapped(curl("http", l.ports.sinkTLS)...))},
			{byPlaintext, l.transfer(curl("http", l.ports.sinkPlain))},
			{byOpenSSL, l.transfer(curl("https", l.ports.sinkTLS))},
			{byStunnel, l.transfer(curl("http", l.ports.stunnelSink))},
		},
	}
}

func (l *lab) curl(args ...string) []string {
	return append([]string{"curl", "-q", "-4fsS", "--noproxy", "*", "--cacert", l.ca,
		"-w", "%{size_download} %{size_upload} %{time_total}"}, args...)
}

// transfer runs curl and gives MB a second and CPU seconds a GB.
func (l *lab) transfer(curl []string) func() ([]float64, error) {
	return func() ([]float64, error) {
		before, err := busyCPU()
		if err != nil {
			return nil, err
		}
		out, err := l.run(curl...)
		if err != nil {
			return nil, err
		}
		after, err := busyCPU()
		if err != nil {
			return nil, err
		}
		var down, up, seconds float64
		if _, err := fmt.Sscan(out, &down, &up, &seconds); err != nil {
			return nil, fmt.Errorf("what curl printed, %q: %w", out, err)
		}
		bytes := down + up
		return []float64{bytes / 1e6 / seconds, (after - before) / (bytes / 1e9)}, nil
	}
}

// busyCPU is how many seconds all processors together have worked (proc_stat(5)).
func busyCPU() (float64, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	var name string
	var user, nice, system, idle, iowait, irq, softirq float64
	if _, err := fmt.Sscan(string(text), &name, &user, &nice, &system, &idle, &iowait, &irq, &softirq); err != nil {
		return 0, fmt.Errorf("reading /proc/stat: %w", err)
	}
	const ticks = 100 // a second: USER_HZ
	return (user + nice + system + irq + softirq) / ticks, nil
}
