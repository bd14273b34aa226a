package main

import "time"

// effort is how much is measured.
type effort struct {
	rounds   int
	download int64         // bytes
	upload   int64         // bytes
	requests time.Duration // whole seconds: wrk counts in them
	connect  time.Duration // of connections one after the other
	passed   int           // connections that no rule matches
	told     int           // the same, of which the worker is told
	startups int
	idle     int // connections that are held, for what they take of memory
	crowd    int // connections that are held beside an active one
}

var (
	thorough = effort{rounds: 7, download: 1e9, upload: 512e6, requests: 2 * time.Second,
		connect: time.Second, passed: 3000, told: 5000, startups: 20, idle: 10000, crowd: 50000}
	// Of all that is measured for the plot.
	drawn = effort{rounds: 3, requests: time.Second, crowd: 2 * 1024}
	brief = effort{rounds: 2, download: 512e6, upload: 256e6, requests: time.Second,
		connect: time.Second / 2, passed: 1000, told: 1000, startups: 5, idle: 500, crowd: 2000}
)
