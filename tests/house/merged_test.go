package house

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// No file has what git leaves of a merge that somebody has to finish.
func TestNoMergeIsHalfDone(t *testing.T) {
	const root = "../.."
	list, err := exec.Command("git", "-C", root, "ls-files", "-z").Output()
	if err != nil {
		t.Skip("this is no clone: " + err.Error())
	}
	for name := range bytes.SplitSeq(list, []byte{0}) {
		text, err := os.ReadFile(filepath.Join(root, string(name)))
		if err != nil {
			continue // a folder, or removed
		}
		for line := range bytes.Lines(text) {
			if bytes.HasPrefix(line, []byte("<<<"+"<<<< ")) || bytes.HasPrefix(line, []byte(">>>"+">>>> ")) {
				t.Errorf("%s: %s", name, line)
			}
		}
	}
}
