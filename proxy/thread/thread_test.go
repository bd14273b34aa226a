package thread

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The first thread of a process cannot end, and would be left with what was made of it.
func TestRunTakesAThreadThatEnds(t *testing.T) {
	var mu sync.Mutex
	var all []int
	for range 50 {
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				Run(func() {
					mu.Lock()
					defer mu.Unlock()
					all = append(all, unix.Gettid())
				})
			})
		}
		wg.Wait()
	}
	for _, tid := range all {
		if tid == unix.Getpid() {
			t.Fatal("it runs on the first thread of the process")
		}
		for deadline := time.Now().Add(10 * time.Second); exists(tid); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("thread %d has not ended", tid)
			}
		}
	}
}

func exists(tid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", tid))
	return err == nil
}
