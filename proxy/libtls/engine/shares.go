package engine

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
)

// Shares is what the programs of one user have given and what was made of it, once for all of
// them who have given the same bytes. Whoever does not have a key's bytes cannot find the key:
// a share is looked for by a hash over everything that it is made of. The zero value is empty.
type Shares struct {
	mu   sync.Mutex
	held map[sum]*share
	size int // of all shares, in bytes

	recent recent
}

// mostBytes is what a user's shares have in all.
const mostBytes = 8 * Most

// shareCost is added to the size of every share: a configuration, and what else has no bytes that
// were loaded, takes memory too.
const shareCost = 4 << 10

// sum names a share.
type sum [sha256.Size]byte

// sumOf hashes parts, each with its length before it.
func sumOf(what string, parts ...[]byte) sum {
	h := sha256.New()
	for _, part := range append([][]byte{[]byte(what)}, parts...) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write(part)
	}
	return sum(h.Sum(nil))
}

// share is bytes that were loaded, or something that was made of them. Numbers, connections and
// the shares that are made of it hold it. With the last of them it is gone.
type share struct {
	sum     sum
	size    int
	holders int  // guarded by Shares.mu
	kept    bool // by recent, once; guarded by Shares.mu
	once    sync.Once
	err     error
	value   any
	parts   []*share // that it holds
	secret  []byte   // that is wiped in the end
}

// get finds a share, or has fill make its value. The caller has to release it.
func (t *Shares) get(name sum, size int, fill func(*share) error) (*share, error) {
	t.mu.Lock()
	s := t.held[name]
	if s == nil {
		s = &share{sum: name, size: size + shareCost}
		if t.size+s.size > mostBytes {
			t.mu.Unlock()
			return nil, errors.New("tlswrap's worker holds too much for this user already")
		}
		if t.held == nil {
			t.held = make(map[sum]*share)
		}
		t.held[name] = s
		t.size += s.size
	}
	s.holders++
	t.mu.Unlock()
	s.once.Do(func() {
		s.err = errors.New("internal error") // of a panic
		s.err = fill(s)
	})
	if s.err != nil {
		t.release(s)
		return nil, s.err
	}
	return s, nil
}

// part has s hold another share, which is made as get makes it.
func (t *Shares) part(s *share, name sum, size int, fill func(*share) error) (any, error) {
	p, err := t.get(name, size, fill)
	if err != nil {
		return nil, err
	}
	s.parts = append(s.parts, p)
	return p.value, nil
}

// isKept reports whether one of these was read from a file that is kept.
func (t *Shares) isKept(shares ...*share) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(shares, func(s *share) bool { return s != nil && s.kept })
}

func (t *Shares) hold(s *share) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.holders++
}

// release undoes one get or hold. s may be nil.
func (t *Shares) release(s *share) {
	if s == nil {
		return
	}
	t.mu.Lock()
	s.holders--
	last := s.holders == 0
	if last {
		delete(t.held, s.sum)
		t.size -= s.size
	}
	t.mu.Unlock()
	if !last {
		return
	}
	clear(s.secret)
	for _, p := range s.parts {
		t.release(p)
	}
}
