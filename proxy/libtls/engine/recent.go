package engine

import (
	"sync"
	"time"
)

// File is which file a program's descriptor is of, and as of when: two that are equal have the same bytes.
type File struct {
	Kind           Kind
	Device, Inode  uint64
	Size           int64
	Changed, Wrote int64 // the times of its inode and of its bytes, in nanoseconds
}

// recent holds what was made of the files with roots that a user's programs read last. A program that makes a
// configuration for each connection would have all of the system's roots read for each.
type recent struct {
	mu   sync.Mutex
	held []recently
}

// recently is a share, and the file that it was read from; another has none.
type recently struct {
	file  File
	share *share
	timer *time.Timer
}

// As many are kept, each for so long after it was made.
const (
	mostRecent = 8
	keepRecent = 10 * time.Second
)

// find returns what was read from a file, which the caller has to release, or nil.
func (t *Shares) find(file File) *share {
	t.recent.mu.Lock()
	defer t.recent.mu.Unlock()
	for _, r := range t.recent.held {
		if r.file == file {
			t.hold(r.share)
			return r.share
		}
	}
	return nil
}

// keep holds a share for a while.
func (t *Shares) keep(file File, s *share) {
	t.recent.mu.Lock()
	defer t.recent.mu.Unlock()
	for _, r := range t.recent.held {
		if r.share == s && r.file == file {
			return
		}
	}
	if len(t.recent.held) == mostRecent {
		t.recent.held[0].timer.Stop()
		t.dropFirst()
	}
	t.hold(s)
	t.mu.Lock()
	s.kept = true
	t.mu.Unlock()
	r := recently{file: file, share: s}
	r.timer = time.AfterFunc(keepRecent, func() { t.forget(s, file) })
	t.recent.held = append(t.recent.held, r)
}

func (t *Shares) forget(s *share, file File) {
	t.recent.mu.Lock()
	defer t.recent.mu.Unlock()
	for i, r := range t.recent.held {
		if r.share == s && r.file == file {
			t.recent.held[0], t.recent.held[i] = r, t.recent.held[0]
			t.dropFirst()
			return
		}
	}
}

// dropFirst is called with the lock.
func (t *Shares) dropFirst() {
	s := t.recent.held[0].share
	t.recent.held = append(t.recent.held[:0], t.recent.held[1:]...)
	t.release(s)
}

// LoadFile is Load for a file with roots, which read reads if it is not known.
func (s *Store) LoadFile(file File, read func() ([]byte, error)) (uint64, error) {
	if known := s.shares.find(file); known != nil {
		return s.hold(known, nil)
	}
	data, err := read()
	if err != nil {
		return 0, err
	}
	number, err := s.Load(file.Kind, data)
	if err != nil {
		return 0, err
	}
	if sh, err := s.share(number); err == nil {
		s.shares.keep(file, sh)
		s.shares.release(sh)
	}
	return number, nil
}
