package session

import (
	"os"
	"slices"
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

func TestWhatIsRememberedOfAConnectionIsForgottenOnce(t *testing.T) {
	first, second := &Crowd{Most: 3}, &Crowd{Most: 2}
	forgotten := make([]int, 4)
	for i := range forgotten[:3] {
		Keep(func() { forgotten[i]++ }, first, second)
	}
	if !slices.Equal(forgotten, []int{1, 0, 0, 0}) || first.Len() != 2 || second.Len() != 2 {
		t.Errorf("of three where two may stay these are forgotten: %v; %d and %d are left", forgotten, first.Len(), second.Len())
	}
	first.Close()
	Keep(func() { forgotten[3]++ }, second, first)
	if !slices.Equal(forgotten, []int{1, 1, 1, 1}) || first.Len() != 0 || second.Len() != 0 {
		t.Errorf("after the end these are forgotten: %v; %d and %d are left", forgotten, first.Len(), second.Len())
	}
}

func TestFailedConnectionsHaveAShareOfTheDescriptors(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	all := NewFailed()
	forgotten := 0
	for range 2 {
		u := NewUser(all)
		for range u.Failed.Most + 1 {
			Keep(func() { forgotten++ }, &u.Failed, u.AllFailed)
		}
	}
	if forgotten < 2 || uint64(all.Len()) > limit.Cur/descriptorsForFailed || all.Len() == 0 {
		t.Errorf("of %d descriptors %d are for what failed, after %d were let go", limit.Cur, all.Len(), forgotten)
	}
}
