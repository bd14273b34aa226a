// Package folders tells when a file has become another, and in which folders that shows. What is to be done then
// is the worker's.
package folders

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Version tells whether a file was changed or replaced.
type Version struct {
	device, inode uint64
	size          int64
	modified      time.Time
}

// Versions are those of files that exist.
func Versions(files []string) map[string]Version {
	v := make(map[string]Version)
	for _, f := range files {
		fi, err := os.Stat(f)
		if err != nil {
			continue
		}
		st := fi.Sys().(*syscall.Stat_t)
		v[f] = Version{uint64(st.Dev), st.Ino, fi.Size(), fi.ModTime()}
	}
	return v
}

// Settle is how long files must be quiet before they are read again: editors write them
// in pieces, and certificate tools more than one.
const Settle = 200 * time.Millisecond

// Changing reports whether a file was written to a moment ago, and may not be whole.
func Changing(files map[string]Version) bool {
	for _, v := range files {
		if age := time.Since(v.modified); age >= 0 && age < Settle {
			return true
		}
	}
	return false
}

// mostLinks is how many links are followed (path_resolution(7)).
const mostLinks = 40

// Of returns the folders in which something has to change for a file to become another: its own, and that of each
// symbolic link on the way to it.
func Of(file string) []string {
	var dirs []string
	add := func(dir string) {
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	at, rest, links := ".", file, 0
	if filepath.IsAbs(file) {
		at = "/"
	}
	for rest != "" {
		name, after, _ := strings.Cut(strings.TrimLeft(rest, "/"), "/")
		rest = strings.TrimLeft(after, "/")
		to, err := os.Readlink(filepath.Join(at, name))
		switch {
		case err != nil || links == mostLinks:
			if rest == "" {
				add(at)
			}
			at = filepath.Join(at, name)
		default:
			links++
			add(at)
			if filepath.IsAbs(to) {
				at = "/"
			}
			if rest != "" {
				to += "/" + rest
			}
			rest = to
		}
	}
	return dirs
}

// Events are those of a folder (inotify(7)) by which a file in it may have become another: the folder is watched, not
// the file, so that one which is replaced is seen too. What is only written to, such as a log file in the same
// folder, wakes nobody.
const Events = unix.IN_CLOSE_WRITE | unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE
