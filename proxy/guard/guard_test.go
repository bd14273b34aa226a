package guard

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"tlswrap/proxy/verdict"
)

// Whatever is guarded, a panic in it comes no further, is in the log with its stack, and ends what was
// served.
func TestAPanicComesNoFurther(t *testing.T) {
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	ended := false
	for name, do := range map[string]func(){
		"run":   func() { Run(log, "run", func() { ended = true }, func() { panic("in run") }) },
		"timer": Func(log, "timer", func() { panic("in timer") }),
		"step": func() {
			if f := Step(log, "step", func() *verdict.Failure { panic("in step") }); f == nil || !strings.Contains(f.Reason, "internal error") {
				t.Errorf("a step that panics ends with %v", f)
			}
		},
	} {
		said.Reset()
		do()
		if text := said.String(); !strings.Contains(text, "in "+name) || !strings.Contains(text, "guard_test.go") {
			t.Errorf("%s: the log has %q", name, text)
		}
	}
	if !ended {
		t.Error("what was served has not ended")
	}
}
