package main

import (
	"strings"
	"testing"
)

const wrkWords = `Running 2s test @ http://localhost:10802/small
  1 threads and 8 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    55.67ms    8.34ms  92.67ms   72.89%
    Req/Sec    17.53k     1.94k   21.80k    64.29%
  Latency Distribution
     50%  950.00us
     75%    1.00ms
     90%    1.10ms
     99%    1.02s 
  49853 requests in 4.08s, 60.10MB read
Requests/sec:  12229.72
Transfer/sec:     14.74MB
`

func TestWhatWrkSaysIsRead(t *testing.T) {
	r, err := parseWrk(wrkWords)
	if want := (wrkReport{49853, 12229.72, 950, 1.02e6}); err != nil || r != want {
		t.Errorf("read %v (%v), want %v", r, err, want)
	}
}

func TestWhatWrkComplainsOfCountsForNothing(t *testing.T) {
	for name, words := range map[string]string{
		"status":  strings.Replace(wrkWords, "Requests/sec", "  Non-2xx or 3xx responses: 3\nRequests/sec", 1),
		"errors":  strings.Replace(wrkWords, "Requests/sec", "  Socket errors: connect 0, read 1, write 0, timeout 0\nRequests/sec", 1),
		"none":    strings.Replace(wrkWords, "12229.72", "0.00", 1),
		"nothing": "",
	} {
		if r, err := parseWrk(words); err == nil {
			t.Errorf("%s: read %v", name, r)
		}
	}
}

const straceWords = `    calls syscall
--------- ----------------
     2601 futex
       64 setsockopt
--------- ----------------
     2665 total
`

func TestWhatStraceSumsIsRead(t *testing.T) {
	if n, err := parseStrace(straceWords); err != nil || n != 2665 {
		t.Errorf("read %d (%v), want 2665", n, err)
	}
	for _, words := range []string{"", strings.Replace(straceWords, "total", "totals", 1), strings.Replace(straceWords, "2665", "many", 1)} {
		if n, err := parseStrace(words); err == nil {
			t.Errorf("read %d of %q", n, words)
		}
	}
}

func TestNginxCountsWithoutTheOneThatAsks(t *testing.T) {
	s, err := parseStatus("Active connections: 1001 \nserver accepts handled requests\n 1004 1003 283 \nReading: 2 Writing: 3 Waiting: 313 \n")
	if want := (nginxStatus{active: 1000, speaking: 317, requests: 283}); err != nil || s != want {
		t.Errorf("read %+v (%v), want %+v", s, err, want)
	}
	if s, err := parseStatus("404"); err == nil {
		t.Errorf("read %+v of an error", s)
	}
}
