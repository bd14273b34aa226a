package target

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// CloseOnExec reports whether a descriptor has that flag.
func (t *Thread) CloseOnExec(number int) (bool, error) {
	info, err := t.info(number)
	if err != nil {
		return false, err
	}
	for line := range bytes.Lines(info) {
		if flags, ok := bytes.CutPrefix(line, []byte("flags:")); ok {
			n, err := strconv.ParseUint(string(bytes.TrimSpace(flags)), 8, 64)
			return n&unix.O_CLOEXEC != 0, err
		}
	}
	return false, fmt.Errorf("the kernel does not tell the flags of descriptor %d", number)
}

func (t *Thread) info(number int) ([]byte, error) {
	return os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", t.TID, number))
}

// Place is where a descriptor is registered: in which epoll set, for what.
type Place struct {
	Set   int // a copy of the set's descriptor, the owner's to close
	FD    int // the number that it is registered by, with its open file (epoll(7))
	Event unix.EpollEvent
}

// Others is where a socket is found beside the descriptor that is known.
type Others struct {
	Numbers []int // descriptors of the same socket
	Places  []Place
}

// Close frees the copies.
func (o *Others) Close() {
	for _, set := range o.sets() {
		unix.Close(set)
	}
}

// sets are the epoll sets, each once.
func (o *Others) sets() (all []int) {
	seen := make(map[int]bool)
	for _, p := range o.Places {
		if !seen[p.Set] {
			all = append(all, p.Set)
		}
		seen[p.Set] = true
	}
	return all
}

// Others looks at all of the thread's descriptors for those of the same socket as number, which has
// the inode, and for the epoll sets that one of them is registered in.
func (t *Thread) Others(number int, inode uint64) (o Others, err error) {
	dir := fmt.Sprintf("/proc/%d/fd", t.TID)
	names, err := readNames(dir)
	if err != nil {
		return o, err
	}
	var sets []int
	same := fmt.Sprintf("socket:[%d]", inode)
	for _, name := range names {
		n, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		switch link, _ := os.Readlink(dir + "/" + name); {
		case link == same && n != number:
			o.Numbers = append(o.Numbers, n)
		case link == "anon_inode:[eventpoll]":
			sets = append(sets, n)
		}
	}
	for _, set := range sets {
		if err := t.registered(set, append([]int{number}, o.Numbers...), &o); err != nil {
			o.Close()
			return o, err
		}
	}
	return o, nil
}

func readNames(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

// registered adds the places in one set.
func (t *Thread) registered(set int, numbers []int, o *Others) error {
	info, err := t.info(set)
	if err != nil {
		return err
	}
	fd := -1
	for line := range strings.Lines(string(info)) {
		p, ok := parsePlace(line)
		if !ok || !contains(numbers, p.FD) {
			continue
		}
		if fd < 0 {
			if fd, err = t.Descriptor(set); err != nil {
				return err
			}
		}
		p.Set = fd
		o.Places = append(o.Places, p)
	}
	return nil
}

func contains(numbers []int, n int) bool {
	for _, m := range numbers {
		if m == n {
			return true
		}
	}
	return false
}

// parsePlace reads "tfd: 5 events: 1d data: 7f01 …" (fs/eventpoll.c, ep_show_fdinfo).
func parsePlace(line string) (p Place, ok bool) {
	f := strings.Fields(line)
	if len(f) < 6 || f[0] != "tfd:" || f[2] != "events:" || f[4] != "data:" {
		return p, false
	}
	fd, err := strconv.Atoi(f[1])
	if err != nil {
		return p, false
	}
	events, err := strconv.ParseUint(f[3], 16, 32)
	if err != nil {
		return p, false
	}
	data, err := strconv.ParseUint(f[5], 16, 64)
	if err != nil {
		return p, false
	}
	p.FD, p.Event.Events = fd, uint32(events)
	p.Event.Fd, p.Event.Pad = int32(uint32(data)), int32(uint32(data>>32))
	return p, true
}
