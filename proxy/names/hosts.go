package names

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
)

// Hosts is an /etc/hosts (hosts(5)): for each address the lines that it has, each a list
// of names in lower case.
type Hosts map[netip.Addr][][]string

// mostHosts is how much of such a file is read.
const mostHosts = 4 << 20

// parseHosts reads what it understands, as libc does.
func parseHosts(text []byte) Hosts {
	h := make(Hosts)
	for line := range bytes.Lines(text) {
		line, _, _ = bytes.Cut(line, []byte("#"))
		fields := strings.Fields(strings.ToLower(string(line)))
		if len(fields) < 2 {
			continue
		}
		ip, err := netip.ParseAddr(fields[0])
		if err != nil {
			continue
		}
		for i := range fields {
			fields[i] = strings.TrimSuffix(fields[i], ".")
		}
		ip = ip.Unmap().WithZone("")
		h[ip] = append(h[ip], fields[1:])
	}
	return h
}

// answers reports whether the file gives name the address ip.
func (h Hosts) answers(name string, ip netip.Addr) bool {
	return slices.ContainsFunc(h[ip], func(line []string) bool { return slices.Contains(line, name) })
}

// aliases returns the names that stand with name on a line of ip's, and those of ip that
// name is the beginning of.
func (h Hosts) aliases(name string, ip netip.Addr) []string {
	var found []string
	for _, line := range h[ip] {
		beside := slices.Contains(line, name)
		for _, other := range line {
			if other != name && (beside || strings.HasPrefix(other, name+".")) {
				found = append(found, other)
			}
		}
	}
	return found
}

// ReadHosts reads the /etc/hosts behind fd, which stays the caller's; -1 is an empty one.
func (r *Resolver) ReadHosts(fd int) (Hosts, error) {
	if fd < 0 {
		return nil, nil
	}
	return r.hosts.read(fd)
}

// ownHosts is the /etc/hosts of this process, which has nothing in it where there is none.
func (r *Resolver) ownHosts() (Hosts, error) {
	f, err := os.Open(r.file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	defer f.Close()
	return r.hosts.read(int(f.Fd()))
}

// inFile returns the names that /etc/hosts has for ip, those that are covered. A wildcard's cannot be looked up,
// but a program that reads the file by itself finds them there, and comes with the address alone.
func (r *Resolver) inFile(ip netip.Addr, covered func(name string) bool) ([]string, error) {
	hosts, err := r.ownHosts()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, line := range hosts[ip.Unmap().WithZone("")] {
		for _, name := range line {
			if covered(name) {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// hostsFiles are those that were read last. Programs in other root folders have others.
type hostsFiles struct {
	mu    sync.Mutex
	known []hostsFile
}

type hostsFile struct {
	dev, ino uint64
	size     int64
	mtime    unix.Timespec
	hosts    Hosts
}

const mostHostsFiles = 8

// read returns what is in the file behind fd, which stays the caller's. What is no file
// has nothing in it.
func (f *hostsFiles) read(fd int) (Hosts, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, nil
	}
	is := hostsFile{dev: uint64(st.Dev), ino: st.Ino, size: st.Size, mtime: st.Mtim}
	if known, ok := f.find(is); ok {
		return known, nil
	}
	text, err := io.ReadAll(io.NewSectionReader(fdio.ReaderAt(fd), 0, mostHosts))
	if err != nil {
		return nil, err
	}
	is.hosts = parseHosts(text)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known = append(f.known, is)
	if len(f.known) > mostHostsFiles {
		f.known = slices.Delete(f.known, 0, 1)
	}
	return is.hosts, nil
}

func (f *hostsFiles) find(is hostsFile) (Hosts, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range f.known {
		if k.dev == is.dev && k.ino == is.ino && k.size == is.size && k.mtime == is.mtime {
			return k.hosts, true
		}
	}
	return nil, false
}
