// Command client is an HTTP client in Go, which no library can be loaded into: over plaintext, or by
// crypto/tls of its own.
//
//	client get URL CA                        one request: prints the bytes of the reply, 0 for those of
//	                                         the request, and the seconds
//	client requests URL CA COUNT SECONDS     requests over COUNT kept connections: prints how many a second
package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "get":
		return get(args[1], args[2])
	case len(args) == 5 && args[0] == "requests":
		count, err1 := strconv.Atoi(args[3])
		seconds, err2 := strconv.ParseFloat(args[4], 64)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		return requests(args[1], args[2], count, time.Duration(seconds*float64(time.Second)))
	}
	return errors.New("usage: see the source")
}

// trusting makes a client that keeps one connection.
func trusting(ca string) (*http.Client, error) {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ReadBufferSize: 64 << 10}}, nil
}

// fetch returns how long a reply's body was.
func fetch(client *http.Client, url string, buffer []byte) (int64, error) {
	reply, err := client.Get(url)
	if err != nil {
		return 0, err
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		return 0, errors.New(reply.Status)
	}
	return io.CopyBuffer(struct{ io.Writer }{io.Discard}, reply.Body, buffer)
}

func get(url, ca string) error {
	client, err := trusting(ca)
	if err != nil {
		return err
	}
	start := time.Now()
	n, err := fetch(client, url, make([]byte, 256<<10))
	if err != nil {
		return err
	}
	fmt.Println(n, 0, time.Since(start).Seconds())
	return nil
}

func requests(url, ca string, count int, limit time.Duration) error {
	var all sync.WaitGroup
	made, errs := make([]int, count), make([]error, count)
	start := time.Now()
	for i := range count {
		client, err := trusting(ca)
		if err != nil {
			return err
		}
		all.Go(func() {
			buffer := make([]byte, 32<<10)
			for errs[i] == nil && time.Since(start) < limit {
				_, errs[i] = fetch(client, url, buffer)
				made[i]++
			}
		})
	}
	all.Wait()
	seconds, sum := time.Since(start).Seconds(), 0
	for _, n := range made {
		sum += n
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Println(float64(sum) / seconds)
	return nil
}
