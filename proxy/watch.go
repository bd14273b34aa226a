package proxy

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long files must be quiet before they are read again: editors write them
// in pieces, and certificate tools more than one.
const settle = 200 * time.Millisecond

// Watch reloads the rules on a signal, and when one of the files that they come from
// changes, until ctx is done. It watches their folders, so that a file which is
// replaced by another is seen too.
func (w *Worker) Watch(ctx context.Context, hup <-chan os.Signal) {
	var events <-chan fsnotify.Event
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		w.log.Warn("files are not watched", "error", err.Error())
	} else {
		defer watcher.Close()
		events = watcher.Events
	}
	watch := func() {
		if watcher == nil {
			return
		}
		for _, f := range w.Files() {
			if err := watcher.Add(filepath.Dir(f)); err != nil {
				w.log.Warn("file is not watched", "file", f, "error", err.Error())
			}
		}
	}
	watch()
	quiet := time.NewTimer(0)
	quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			for _, f := range w.Files() {
				if e.Name == f || e.Has(fsnotify.Create|fsnotify.Remove|fsnotify.Rename) && filepath.Dir(e.Name) == filepath.Dir(f) {
					quiet.Reset(settle)
				}
			}
			continue
		case <-hup:
			quiet.Reset(0)
			continue
		case <-quiet.C:
		}
		if w.changing() {
			quiet.Reset(settle)
			continue
		}
		w.reload()
		watch()
	}
}

// changing reports whether a file was written to a moment ago, and may not be whole.
func (w *Worker) changing() bool {
	for _, f := range w.Files() {
		if fi, err := os.Stat(f); err == nil {
			if age := time.Since(fi.ModTime()); age >= 0 && age < settle {
				return true
			}
		}
	}
	return false
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
	for _, s := range w.sessions {
		if !s.voice.quiet {
			s.voice.say("the changed rules are not used, the old ones stay: " + err.Error())
		}
	}
}
