package target

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"unsafe"

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
	numbers := make([]int, 0, len(names))
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil {
			numbers = append(numbers, n)
		}
	}
	sets, told := t.compared(number, numbers, &o)
	if !told {
		sets = t.linked(numbers, fmt.Sprintf("socket:[%d]", inode), &o)
		o.Numbers = slices.DeleteFunc(o.Numbers, func(n int) bool { return n == number })
	}
	for _, set := range sets {
		if err := t.registered(set, append([]int{number}, o.Numbers...), &o); err != nil {
			o.Close()
			return o, err
		}
	}
	return o, nil
}

// compared finds among numbers those of the same open file as number, and the epoll sets where one of them is
// registered, by kcmp(2), which costs a fraction of looking at each; told is not set where that cannot tell.
func (t *Thread) compared(number int, numbers []int, o *Others) (sets []int, told bool) {
	const file, epollTarget = 0, 7 // KCMP_FILE, KCMP_EPOLL_TFD (linux/kcmp.h)
	same := []int{number}
	for _, n := range numbers {
		if n == number {
			continue
		}
		differ, _, errno := unix.RawSyscall6(unix.SYS_KCMP, uintptr(t.TID), uintptr(t.TID), file, uintptr(number), uintptr(n), 0)
		switch {
		case errno == unix.EBADF: // closed meanwhile
		case errno != 0:
			o.Numbers = nil
			return nil, false
		case differ == 0:
			o.Numbers, same = append(o.Numbers, n), append(same, n)
		}
	}
	for _, set := range numbers {
		for _, n := range same {
			slot := struct{ set, target, offset uint32 }{uint32(set), uint32(n), 0}
			differ, _, errno := unix.RawSyscall6(unix.SYS_KCMP, uintptr(t.TID), uintptr(t.TID), epollTarget, uintptr(n), uintptr(unsafe.Pointer(&slot)), 0)
			if errno == unix.ENOSYS || errno == unix.EOPNOTSUPP || errno == unix.EPERM {
				o.Numbers = nil
				return nil, false
			}
			if errno == 0 && differ == 0 {
				sets = append(sets, set)
				break
			}
		}
	}
	return sets, true
}

// linked finds them by what /proc shows of each: every epoll set counts, as it is looked into later.
func (t *Thread) linked(numbers []int, same string, o *Others) (sets []int) {
	for _, n := range numbers {
		switch link, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", t.TID, n)); link {
		case same:
			o.Numbers = append(o.Numbers, n)
		case "anon_inode:[eventpoll]":
			sets = append(sets, n)
		}
	}
	return sets
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
