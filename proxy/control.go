package proxy

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
)

// accept serves the callers of the control socket until it is closed, and returns why it
// could not go on.
func (w *Worker) accept(listener *fdio.Socket) error {
	for {
		var (
			fd  int
			err error
		)
		e := listener.WhenReadable(func(own int) bool {
			fd, err = fdio.Accept(own)
			return err != unix.EAGAIN
		})
		if e != nil {
			return e
		}
		switch err {
		case nil:
			go w.serve(fd)
		case unix.EINTR, unix.ECONNABORTED:
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			// The next connection that closes makes room. Callers wait in the backlog.
			w.log.Error("accept", "error", err.Error())
			time.Sleep(fdio.RetryAccept)
		default:
			if fdio.OfOneClient(err) {
				continue
			}
			return os.NewSyscallError("accept4", err)
		}
	}
}
