package fdio

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestErrorsAreNotKept(t *testing.T) {
	calls := 0
	get := Kept(func() (int, error) {
		if calls++; calls < 3 {
			return -1, unix.EMFILE
		}
		return calls, nil
	})
	for i, want := range []int{-1, -1, 3, 3} {
		if got, err := get(); got != want || (err == nil) != (i > 1) {
			t.Errorf("call %d: %d, %v", i, got, err)
		}
	}
}
