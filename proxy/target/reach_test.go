package target

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReachKnowsTheProcess(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	mark := []byte("0123456789abcdef")
	proof := Proof{Memory: mark, FD: int(w.Fd()), Number: int(r.Fd())} // one pipe
	if a := Reach(os.Getpid(), Show(mark).Address(), proof); a.Err() != nil {
		t.Errorf("this process: %v, %v", a.Memory, a.Descriptors)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	proof = Proof{Memory: []byte("another's memory"), FD: int(null.Fd()), Number: int(r.Fd())}
	if a := Reach(os.Getpid(), Show(mark).Address(), proof); a.Memory != errAnother || a.Descriptors != errAnother {
		t.Errorf("another's proof: %v, %v", a.Memory, a.Descriptors)
	}
}

// The sentences go to tlswrap in a reply of the worker's.
func TestRefusalsFitIntoAReply(t *testing.T) {
	const most = 255 // of wire.Reply's name
	for call, what := range map[string]string{"process_vm_readv": "read the program's memory", "pidfd_getfd": "copy the program's descriptors"} {
		for _, errno := range []unix.Errno{unix.EPERM, unix.ENOSYS, unix.EFAULT} {
			if err := refusal(what, call, errno); len(err.Error()) > most || strings.Contains(err.Error(), "\n") {
				t.Errorf("%d bytes: %v", len(err.Error()), err)
			}
		}
	}
}
