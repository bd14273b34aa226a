// goserver ADDRESS FILE serves FILE as /big, and sends back what is posted; it says whom it takes its client
// for. Its own address must be the one that it was given.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

func main() {
	l, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if l.Addr().String() != os.Args[1] {
		fmt.Fprintln(os.Stderr, "listens on", l.Addr())
		os.Exit(1)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		client, _, err := net.SplitHostPort(r.RemoteAddr)
		local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
		if err != nil || !ok || local.String() != os.Args[1] {
			http.Error(w, fmt.Sprintf("%q %v", r.RemoteAddr, r.Context().Value(http.LocalAddrContextKey)), 500)
			return
		}
		w.Header().Set("X-Client", client)
		if r.Method == "POST" {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				http.Error(w, err.Error(), 500)
				return
			}
			w.Write(body)
			return
		}
		http.ServeFile(w, r, os.Args[2])
	})
	fmt.Fprintln(os.Stderr, http.Serve(l, nil))
}
