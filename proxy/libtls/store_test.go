package libtls

import "testing"

func TestAStoreIsBounded(t *testing.T) {
	var s Store
	big := make([]byte, Most)
	var first uint64
	for i := range mostBytes / Most {
		n, err := s.Load(kindCA, big)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		if i == 0 {
			first = n
		}
	}
	if _, err := s.Load(kindKey, []byte("x")); err == nil {
		t.Error("there is no end")
	}
	s.Drop(first)
	s.Drop(first)
	if _, err := s.Load(kindKey, []byte("x")); err != nil {
		t.Error(err)
	}
	if s.size != mostBytes-Most+1 {
		t.Errorf("%d bytes are counted", s.size)
	}
}

// A number of a key is none of a configuration, and what was dropped is nothing.
func TestNumbersOfAnotherKind(t *testing.T) {
	var s Store
	key, err := s.Load(kindKey, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := s.Config(key); err == nil {
		t.Errorf("%v", c)
	}
	config, err := s.Build(make([]byte, settingsHeader))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := s.bytes(config); err == nil {
		t.Errorf("%q", b)
	}
	s.Drop(config)
	if c, err := s.Config(config); err == nil {
		t.Errorf("%v", c)
	}
}
