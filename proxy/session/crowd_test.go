package session

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/upstream"
)

func TestTheOldestHandshakeOfACrowdEnds(t *testing.T) {
	c := Crowd{Most: 2}
	var ups []*upstream.Conn
	var members []*Member
	for range 3 {
		ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(ends[1])
		up, err := upstream.New(ends[0])
		if err != nil {
			t.Fatal(err)
		}
		defer up.Close()
		up.SetDeadline(time.Now().Add(time.Minute))
		ups = append(ups, up)
		members = append(members, c.Enter(func() { up.SetDeadline(fdio.Past) }))
	}
	if _, err := ups[0].Read(make([]byte, 1)); !os.IsTimeout(err) {
		t.Errorf("the oldest reads on: %v", err)
	}
	if c.Leave(members[0]) || !c.Leave(members[1]) || !c.Leave(members[2]) {
		t.Error("another than the oldest had to go")
	}
}
