package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
)

// sweep is work that is done again and again with one more of something.
type sweep struct {
	name   string // of its file of data
	unit   string // what x counts
	xs     []int
	wrk    func(x int) (connections int, file string)
	values func(x int, s steady) (speed, cost float64)
}

// plotted are the contenders, in the order that plot.gp gives them colours in.
var plotted = []string{byTLSWrap, byOpenSSL, byStunnel, byPlaintext}

// manyConnections are what is measured of 1 to 1024.
var manyConnections = []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}

func sweeps() []sweep {
	const bulk = 64 << 10
	return []sweep{
		{
			name: "requests", unit: "connections with requests for 1 KB", xs: manyConnections,
			wrk:    func(x int) (int, string) { return x, "small" },
			values: func(_ int, s steady) (float64, float64) { return s.requests, s.perRequest() },
		},
		{
			name: "bulk", unit: "connections with messages of 64 KiB", xs: manyConnections,
			wrk:    func(x int) (int, string) { return x, sized(bulk) },
			values: func(_ int, s steady) (float64, float64) { return s.bulk(bulk) },
		},
		{
			name: "sizes", unit: fmt.Sprintf("bytes a message over %d connections", few), xs: messageSizes,
			wrk:    func(x int) (int, string) { return few, sized(x) },
			values: func(x int, s steady) (float64, float64) { return s.bulk(x) },
		},
	}
}

// points are what was measured: by contender and x, a series each of speed and cost.
type points map[string]map[int]*[2]series

// plot measures all sweeps, round by round, and has gnuplot draw them in folder.
func (l *lab) plot(folder string) error {
	all := make(map[string]points)
	missing := 0
	for round := range l.effort.rounds {
		for _, s := range sweeps() {
			if all[s.name] == nil {
				all[s.name] = make(points)
			}
			for i, x := range s.xs {
				fmt.Fprintf(os.Stderr, "bench: plot: round %d of %d, %s, %d of %d: %d %s\n",
					round+1, l.effort.rounds, s.name, i+1, len(s.xs), x, s.unit)
				missing += l.measurePoint(s, x, all[s.name])
				if l.ctx.Err() != nil {
					return l.ctx.Err()
				}
			}
		}
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for _, s := range sweeps() {
		if err := os.WriteFile(filepath.Join(folder, "performance-"+s.name+".dat"), all[s.name].data(s.xs), 0o644); err != nil {
			return err
		}
	}
	if err := l.draw(folder); err != nil {
		return err
	}
	if missing > 0 {
		return fmt.Errorf("%d measurements are missing", missing)
	}
	return nil
}

// measurePoint lets the contenders take turns at one x. It returns how many failed.
func (l *lab) measurePoint(s sweep, x int, into points) (failed int) {
	connections, file := s.wrk(x)
	wrk := l.wrkUntilStopped(connections, file)
	commands := map[string][]string{
		byTLSWrap:   l.wrapped(wrk("http", l.ports.TLS)...),
		byOpenSSL:   wrk("https", l.ports.TLS),
		byStunnel:   wrk("http", l.ports.stunnel),
		byPlaintext: wrk("http", l.ports.Plain),
	}
	for _, name := range plotted {
		counted, err := l.steadyState(commands[name], connections)
		if err != nil {
			fmt.Fprintf(os.Stderr, "bench: plot: %s failed: %v\n", name, err)
			failed++
			continue
		}
		speed, cost := s.values(x, counted)
		into.add(name, x, speed, cost)
	}
	return failed
}

func (p points) add(contender string, x int, speed, cost float64) {
	if p[contender] == nil {
		p[contender] = make(map[int]*[2]series)
	}
	if p[contender][x] == nil {
		p[contender][x] = new([2]series)
	}
	both := p[contender][x]
	both[0], both[1] = append(both[0], speed), append(both[1], cost)
}

// data is what gnuplot reads: a block for each contender, a line for each x, with the
// medians of speed and cost.
func (p points) data(xs []int) []byte {
	var b bytes.Buffer
	for _, name := range plotted {
		fmt.Fprintf(&b, "# %s\n", name)
		for _, x := range xs {
			if both := p[name][x]; both != nil {
				fmt.Fprintf(&b, "%d %g %g\n", x, both[0].median(), both[1].median())
			}
		}
		fmt.Fprint(&b, "\n\n")
	}
	return b.Bytes()
}

//go:embed plot.gp
var plotScript string

// draw turns the data in folder into performance.svg and performance.png.
func (l *lab) draw(folder string) error {
	script := l.path("plot.gp")
	if err := os.WriteFile(script, []byte(plotScript), 0o644); err != nil {
		return err
	}
	for _, kind := range []string{"svg", "png"} {
		file := filepath.Join(folder, "performance."+kind)
		if _, err := l.run("gnuplot", "-e", fmt.Sprintf("folder=%q; kind=%q; file=%q", folder, kind, file), script); err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "bench: plot: wrote", file)
	}
	return nil
}
