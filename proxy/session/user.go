package session

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// What the programs of one user can have of a worker at the same time, so that others who use
// it have theirs. Sessions and listeners are refused beyond; of handshakes the oldest ends, and of
// ends and failures the oldest is forgotten.
const (
	MostSessions   = 4096
	MostListeners  = 1024
	MostHandshakes = 4096     // that programs do not know of, of clients of all listeners
	mostEndsOfUser = 4 * 4096 // that are remembered, of libtls connections of all sessions
	mostFailed     = 4096     // connections that did not come to be, or that broke, and that are remembered
)

// What is remembered of connections has a descriptor each, which those that go on may need: all users together
// have one of so many that the worker may open for it, and each of them half of that.
const descriptorsForFailed = 4

// NewFailed makes the crowd of the failed connections of all users of a worker, under its limit of
// descriptors as it is now.
func NewFailed() *Crowd {
	most := uint64(2 * mostFailed)
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		most = min(most, max(2, limit.Cur/descriptorsForFailed))
	}
	return &Crowd{Most: int(most)}
}

// ErrManySessions refuses a session.
var ErrManySessions = fmt.Errorf("it has %d sessions of this user already, which is the most", MostSessions)

// User is one whose programs the worker serves.
type User struct {
	Handshakes Crowd
	Ends       Crowd  // of libtls connections
	Failed     Crowd  // connections, each with its socket
	AllFailed  *Crowd // those of all users
}

// NewUser makes one who has nothing yet. all is the crowd of the failed connections of all users.
func NewUser(all *Crowd) *User {
	return &User{Handshakes: Crowd{Most: MostHandshakes}, Ends: Crowd{Most: mostEndsOfUser},
		Failed: Crowd{Most: min(mostFailed, all.Most/2)}, AllFailed: all}
}
