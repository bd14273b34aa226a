package integration

import "testing"

// openWorkersMemory runs tlswrap some times as argv says, and looks for its worker as soon as
// that starts: it opens the worker's memory, and reads it later.
const openWorkersMemory = `import os, subprocess, sys, time
looked = 0
for n in range(8):
    p = subprocess.Popen(sys.argv[1:], stderr=subprocess.DEVNULL)
    end, held, seen = time.time() + .5, {}, set()
    while time.time() < end:
        for q in range(p.pid + 1, p.pid + 40):
            try:
                with open(f"/proc/{q}/cmdline", "rb") as f:
                    if not f.read().startswith(b"goressl\0"): continue
                seen.add(q)
                if q not in held:
                    held[q] = os.open(f"/proc/{q}/maps", os.O_RDONLY), os.open(f"/proc/{q}/mem", os.O_RDONLY)
            except OSError: pass
    looked += len(seen)
    for q, (maps, mem) in held.items():
        try: text = os.read(maps, 65536).decode()
        except OSError: continue
        for line in text.splitlines():
            if "rw-p" not in line: continue
            try: print("worker", q, "read", len(os.pread(mem, 4096, int(line.split("-")[0], 16))))
            except (OSError, OverflowError): pass
    p.kill(); p.wait()
print("looked" if looked else "saw no worker")`

func TestNobodyOpensAWorkersMemoryWhileItStarts(t *testing.T) {
	// Root may open all; as another user nothing but the permission stands in the way.
	e := wrapped{bare: true}.run(t, "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", python, "-c", openWorkersMemory,
		lab.tlswrap, "--tls", "memory.example.test:1", "sleep", "20")
	if e.stdout != "looked\n" {
		t.Errorf("got %.500q, stderr: %s", e.stdout, e.stderr)
	}
}

func TestAnUndumpableWorkerOfAnotherUserHasItsName(t *testing.T) {
	e := wrapped{bare: true}.run(t, "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups",
		lab.tlswrap, "--tls", "name.example.test:1", "sh", "-c",
		`for p in $(pgrep -f -- '^goressl.*name.example.test:1'); do cat /proc/$p/comm; stat -c %U /proc/$p/mem; done`).must(t)
	if e.stdout != "goressl\nroot\n" {
		t.Errorf("got %q, want the worker's name, and its memory root's", e.stdout)
	}
}
