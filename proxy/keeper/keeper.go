// Package keeper is a process beside each program of a long-lived worker's that the kernel holds.
// It has the listener of the program's filter as well as the worker: the kernel fails a filter's
// calls for good as soon as nobody has that.
//
// It does nothing while a worker answers. When that has ended it fails what was left unanswered.
// From then on it hands the listener to the worker that it finds at the same place, with the next
// call that comes; where there is none it refuses what only a worker can decide. tlswrap starts it,
// and it ends when no process is under the filter any more. Programs that are traced (package
// tracer) have none: they end with their worker.
package keeper

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/begin"
	"tlswrap/proxy/seccomp"
	"tlswrap/proxy/wire"
)

// Program is whose filter is kept.
type Program struct {
	begin.Reached // where its worker is, and by what the next one is to know it
	Quiet         bool
	Stderr        Stderr
}

// Descriptors come with a program: the listener, and what begin.Held has.
const Descriptors = 3

// MostProgram is more than a program takes, in bytes: a path of 107 at most (unix(7)), and numbers.
const MostProgram = 4 << 10

// Hand gives a keeper what it is to keep, by its connection, an AF_UNIX socket of type SOCK_SEQPACKET. The
// descriptors stay the caller's to close.
func Hand(keeper int, p Program, listener seccomp.Listener, held begin.Held) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	// With the cookie, as this process is under the filter, and its worker may have ended.
	to := wire.Conn{FD: keeper, Cookie: p.Token.Cookie()}
	if err := to.Send(text, unix.UnixRights(int(listener), held.Life, held.Pending)); err != nil {
		return fmt.Errorf("the process that keeps the kernel's filter does not take it: %w", err)
	}
	return nil
}

// keeper is what Keep has.
type keeper struct {
	Program
	listener seccomp.Listener
	held     *begin.Held  // nil while no worker answers
	newest   uint64       // the last notification that is known of
	unfound  bool         // there is one to be taken back whose number is not
	told     map[int]bool // processes to which the sentence was said
}

// Keep does a keeper's work with what Hand has given: a text, and descriptors, which it takes over. It returns when
// nobody is left under the filter.
func Keep(text []byte, fds []int) error {
	k, err := take(text, fds)
	if err != nil {
		return err
	}
	for {
		if k.held != nil {
			if k.waitForWorker() {
				return nil
			}
			k.takeBack()
		}
		if k.waitForCall() {
			return nil
		}
		if h, err := k.Hold(k.listener); err == nil {
			k.held = &h
			continue
		}
		k.refuseNext()
	}
}

// Receive returns what Hand gives by conn, or nothing where the filter could not be put there, or the program not be
// started. The descriptors are the caller's to close.
func Receive(conn *net.UnixConn) (text []byte, fds []int, err error) {
	text = make([]byte, MostProgram)
	oob := make([]byte, unix.CmsgSpace(4*Descriptors))
	n, oobn, _, _, err := conn.ReadMsgUnix(text, oob)
	if n == 0 || err != nil {
		return nil, nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 {
		return nil, nil, errors.New("no descriptors came along")
	}
	fds, err = unix.ParseUnixRights(&messages[0])
	return text[:n], fds, err
}

func take(text []byte, fds []int) (*keeper, error) {
	if len(fds) != Descriptors {
		return nil, errors.New("other descriptors came along than those that are kept")
	}
	k := &keeper{listener: seccomp.Listener(fds[0]), held: &begin.Held{Life: fds[1], Pending: fds[2]}, told: make(map[int]bool)}
	return k, json.Unmarshal(text, &k.Program)
}

// waitForWorker waits until the worker does not answer any more, or reports that nobody is left to be answered.
func (k *keeper) waitForWorker() (over bool) {
	p := []unix.PollFd{{Fd: int32(k.listener)}, {Fd: int32(k.held.Life)}}
	wait(p)
	return p[0].Revents != 0
}

// waitForCall waits until a call is to be answered, or reports that there will be none.
func (k *keeper) waitForCall() (over bool) {
	for {
		p := []unix.PollFd{{Fd: int32(k.listener), Events: unix.POLLIN}}
		if !k.unfound {
			p[0].Events |= unix.POLLOUT // a call was received and not answered, and not by us
		}
		wait(p)
		if p[0].Revents&unix.POLLOUT == 0 {
			return p[0].Revents&unix.POLLIN == 0
		}
		k.takeBackUnnoted()
	}
}

func wait(p []unix.PollFd) {
	for {
		if _, err := unix.Poll(p, -1); err != unix.EINTR {
			return
		}
	}
}

// takeBack fails what the worker has left unanswered: it is told of no more, and would wait for ever.
func (k *keeper) takeBack() {
	ids, newest, err := seccomp.ReadPending(k.held.Pending)
	for _, id := range ids {
		k.listener.Fail(id, unix.ENETDOWN)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	k.newest = cmp.Or(newest, k.newest)
	k.held.Close()
	k.held = nil
}

// takeBackUnnoted fails what the worker had received and not noted when it ended, or has received since: it may go
// on for a moment when it does not answer any more. The kernel counts the calls, so that these come after the last
// one that is known of. Before the first one nothing is.
func (k *keeper) takeBackUnnoted() {
	for id := k.newest + 1; id <= k.newest+mostUnnoted && k.listener.AreUnanswered(); id++ {
		k.listener.Fail(id, unix.ENETDOWN)
	}
	k.unfound = k.listener.AreUnanswered()
}

// mostUnnoted bounds the calls that were interrupted before the worker received the one that it did not note.
const mostUnnoted = 1 << 20
