package proxy

import (
	"context"
	"maps"
	"os"
	"time"

	"tlswrap/proxy/folders"
	"tlswrap/proxy/inotify"
)

// Watch reloads the rules on a signal, and when one of the files that they come from
// changes, until ctx is done.
func (w *Worker) Watch(ctx context.Context, hup <-chan os.Signal) {
	changed := make(chan struct{}, 1)
	tell := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	w.inotify.WhenLost(tell)
	watch := func() {
		for _, f := range w.Files() {
			for _, dir := range folders.Of(f) {
				if _, err := w.inotify.Add(dir, inotify.Watch{Mask: folders.Events, Told: tell}); err != nil {
					w.log.Warn("file is not watched", "file", f, "error", err.Error())
				}
			}
		}
	}
	watch()
	known := folders.Versions(w.Files())
	var look <-chan time.Time // nil while there is nothing to look at
	if folders.Changing(known) {
		known, look = nil, time.After(folders.Settle) // perhaps after it was read
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			if look == nil {
				look = time.After(folders.Settle)
			}
			continue
		case <-hup:
		case <-look:
			look = nil
			now := folders.Versions(w.Files())
			if maps.Equal(now, known) {
				continue
			}
			if folders.Changing(now) {
				look = time.After(folders.Settle)
				continue
			}
		}
		known = folders.Versions(w.Files())
		w.reload()
		watch()
		look = time.After(folders.Settle) // the new rules may have other files
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
		if !s.Voice.Quiet && s.Runs() { // the others' files may be taken away
			s.Voice.Say("the changed rules are not used, the old ones stay: " + err.Error())
		}
	}
}
