package main

import "fmt"

// Few and many connections that are all in use.
const (
	few  = 8
	many = 1000
)

// at is a contender with a number of connections.
func at(contender string, connections int) string {
	return fmt.Sprintf("%s, %d", contender, connections)
}

// growth compares many active connections with few.
func (l *lab) growth() work {
	return l.growing(work{
		name:  "growth",
		title: "wrk gets a file of 1 KB from nginx over few kept connections and over many, once all are open",
		units: []unit{{"requests/s", 0}, {"CPU µs/request", 1}},
	}, "small", func(s steady) []float64 { return []float64{s.requests, s.perRequest()} })
}

// growthBulk does so where the bytes count.
func (l *lab) growthBulk() work {
	const size = 64 << 10
	return l.growing(work{
		name:  "growth-bulk",
		title: "the same with a file of 64 KiB",
		units: bulkUnits,
	}, sized(size), func(s steady) []float64 {
		speed, cost := s.bulk(size)
		return []float64{speed, cost}
	})
}

// growing gives a work its contenders, whose values are made from what is counted.
func (l *lab) growing(w work, file string, values func(steady) []float64) work {
	w.rounds = l.effort.rounds
	add := func(name string, connections int, wrk []string) {
		w.contenders = append(w.contenders, contender{at(name, connections), func() ([]float64, error) {
			s, err := l.steadyState(wrk, connections)
			if err != nil {
				return nil, err
			}
			return values(s), nil
		}})
	}
	for _, connections := range []int{few, many} {
		wrk := l.wrkUntilStopped(connections, file)
		add(byTLSWrap, connections, l.wrapped(wrk("http", l.ports.TLS)...))
		add(byOpenSSL, connections, wrk("https", l.ports.TLS))
		add(byPlaintext, connections, wrk("http", l.ports.Plain))
	}
	return w
}

// grown is how many times a contender's speed with few connections it has with many.
func grown(work, contender string) figure {
	return ratio(work, at(contender, many), at(contender, few), speed)
}
