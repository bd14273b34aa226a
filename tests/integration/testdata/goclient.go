// goclient URL COUNT gets a URL over COUNT connections at once and prints what came, once where all got the
// same. It looks at both ends of each connection, as programs do for their logs. goclient exec ARGV... starts
// another program with an empty environment.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"
)

func get(url string) (string, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * time.Minute}
	var ends error
	request, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return "", err
	}
	request = request.WithContext(httptrace.WithClientTrace(request.Context(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { ends = look(info.Conn, request.URL.Port()) },
	}))
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil {
		err = ends
	}
	return string(body), err
}

func look(conn net.Conn, port string) error {
	remote, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok || strconv.Itoa(remote.Port) != port {
		return fmt.Errorf("the remote address is %v (%T)", conn.RemoteAddr(), conn.RemoteAddr())
	}
	local, ok := conn.LocalAddr().(*net.TCPAddr)
	if !ok || local.Port == 0 || local.IP.IsUnspecified() {
		return fmt.Errorf("the local address is %v (%T)", conn.LocalAddr(), conn.LocalAddr())
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return fmt.Errorf("the connection is a %T", conn)
	}
	return tcp.SetNoDelay(true)
}

func main() {
	if os.Args[1] == "exec" {
		cmd := exec.Command(os.Args[2], os.Args[3:]...)
		cmd.Env, cmd.Stdout, cmd.Stderr = []string{}, os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "goclient:", err)
			os.Exit(1)
		}
		return
	}
	count, err := strconv.Atoi(os.Args[2])
	if err != nil {
		panic(err)
	}
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		got = map[string]int{}
	)
	for range count {
		wg.Go(func() {
			body, err := get(os.Args[1])
			if err != nil {
				body = err.Error() + "\n"
			}
			mu.Lock()
			defer mu.Unlock()
			got[body]++
		})
	}
	wg.Wait()
	for body, n := range got {
		if len(got) > 1 {
			fmt.Printf("%d times: ", n)
		}
		fmt.Print(body)
	}
}
