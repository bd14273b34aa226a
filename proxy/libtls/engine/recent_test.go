package engine

import (
	"bytes"
	"errors"
	"testing"
)

// A file of roots is read once, until it changes, also where no configuration holds it in between; only so many
// are kept.
func TestAFileOfRootsIsReadOnce(t *testing.T) {
	var shares Shares
	store := NewStore(&shares)
	cert, _ := newKeypair(t)
	reads := 0
	load := func(file File) uint64 {
		number, err := store.LoadFile(file, func() ([]byte, error) { reads++; return bytes.Clone(cert), nil })
		if err != nil {
			t.Fatal(err)
		}
		return number
	}
	file := File{Kind: kindCA, Device: 1, Inode: 2, Size: int64(len(cert)), Changed: 3, Wrote: 4}
	store.Drop(load(file))
	store.Drop(load(file))
	if reads != 1 {
		t.Errorf("read %d times", reads)
	}
	for _, change := range []func(*File){
		func(f *File) { f.Kind = kindCAEnv }, func(f *File) { f.Device++ }, func(f *File) { f.Inode++ },
		func(f *File) { f.Size++ }, func(f *File) { f.Changed++ }, func(f *File) { f.Wrote++ },
	} {
		other, before := file, reads
		change(&other)
		if store.Drop(load(other)); reads != before+1 {
			t.Errorf("%+v is taken for %+v", other, file)
		}
	}
	for i := range 2 * mostRecent {
		file.Inode = uint64(100 + i)
		store.Drop(load(file))
	}
	if n := len(shares.recent.held); n != mostRecent {
		t.Errorf("%d are kept", n)
	}
	if _, err := store.LoadFile(File{Kind: kindCA}, func() ([]byte, error) { return nil, errors.New("unreadable") }); err == nil {
		t.Error("an error is lost")
	}
	store.Close()
	for len(shares.recent.held) > 0 {
		r := shares.recent.held[0]
		r.timer.Stop()
		shares.forget(r.share, r.file)
	}
	if shares.size != 0 || len(shares.held) != 0 {
		t.Errorf("%d bytes and %d shares are left", shares.size, len(shares.held))
	}
}
