package proxy

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
)

// settle is how long files must be quiet before they are read again: editors write them
// in pieces, and certificate tools more than one.
const settle = 200 * time.Millisecond

// Watch reloads the rules on a signal, and when one of the files that they come from
// changes, until ctx is done.
func (w *Worker) Watch(ctx context.Context, hup <-chan os.Signal) {
	folders, err := watchFolders()
	if err != nil {
		w.log.Warn("files are not watched", "error", err.Error())
		folders = &watchedFolders{}
	} else {
		defer folders.socket.Close()
		go folders.run()
	}
	watch := func() {
		for _, f := range w.Files() {
			if err := folders.add(filepath.Dir(f)); err != nil {
				w.log.Warn("file is not watched", "file", f, "error", err.Error())
			}
		}
	}
	watch()
	known := versions(w.Files())
	var look <-chan time.Time // nil while there is nothing to look at
	if changing(known) {
		known, look = nil, time.After(settle) // perhaps after it was read
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-folders.changed:
			if look == nil {
				look = time.After(settle)
			}
			continue
		case <-hup:
		case <-look:
			look = nil
			now := versions(w.Files())
			if maps.Equal(now, known) {
				continue
			}
			if changing(now) {
				look = time.After(settle)
				continue
			}
		}
		known = versions(w.Files())
		w.reload()
		watch()
		look = time.After(settle) // the new rules may have other files
	}
}

// version tells whether a file was changed or replaced.
type version struct {
	device, inode uint64
	size          int64
	modified      time.Time
}

func versions(files []string) map[string]version {
	v := make(map[string]version)
	for _, f := range files {
		fi, err := os.Stat(f)
		if err != nil {
			continue
		}
		st := fi.Sys().(*syscall.Stat_t)
		v[f] = version{uint64(st.Dev), st.Ino, fi.Size(), fi.ModTime()}
	}
	return v
}

// changing reports whether a file was written to a moment ago, and may not be whole.
func changing(files map[string]version) bool {
	for _, v := range files {
		if age := time.Since(v.modified); age >= 0 && age < settle {
			return true
		}
	}
	return false
}

// watchedFolders watches folders, not files, so that a file which is replaced by another is
// seen too (inotify(7)). What is only written to, such as a log file in the same folder,
// wakes nobody.
type watchedFolders struct {
	socket  *fdio.Socket
	changed chan struct{}
}

func watchFolders() (*watchedFolders, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	s, err := fdio.New(fd, "inotify")
	if err != nil {
		return nil, err
	}
	return &watchedFolders{s, make(chan struct{}, 1)}, nil
}

func (f *watchedFolders) add(dir string) error {
	if f.socket == nil {
		return nil
	}
	const mask = unix.IN_CLOSE_WRITE | unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE
	var err error
	if e := f.socket.Control(func(fd int) { _, err = unix.InotifyAddWatch(fd, dir, mask) }); e != nil {
		return e
	}
	return err
}

func (f *watchedFolders) run() {
	events := make([]byte, 4<<10)
	for {
		if _, err := f.socket.Read(events); err != nil {
			return
		}
		select {
		case f.changed <- struct{}{}:
		default:
		}
	}
}

// reload reloads and tells everybody who should know.
func (w *Worker) reload() {
	err := w.Reload()
	if err == nil {
		w.log.Info("rules reloaded")
		return
	}
	w.log.Error("rules not reloaded", "error", err.Error())
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.runs {
		if !s.Voice.Quiet {
			s.Voice.Say("the changed rules are not used, the old ones stay: " + err.Error())
		}
	}
}
