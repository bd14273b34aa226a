package fdio

import "sync"

// Kept returns a function that calls f until that has succeeded once, and returns what it returned then. What failed for
// want of a descriptor or of memory may succeed later, and a worker lives long: its errors are not kept.
func Kept[T any](f func() (T, error)) func() (T, error) {
	var (
		mu   sync.Mutex
		has  bool
		kept T
	)
	return func() (T, error) {
		mu.Lock()
		defer mu.Unlock()
		if has {
			return kept, nil
		}
		value, err := f()
		if err == nil {
			has, kept = true, value
		}
		return value, err
	}
}
