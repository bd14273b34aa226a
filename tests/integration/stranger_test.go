package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// as is a command line that runs as another user.
func as(uid int, argv ...string) []string {
	id := fmt.Sprint(uid)
	return append([]string{"setpriv", "--reuid", id, "--regid", id, "--clear-groups"}, argv...)
}

// chown makes folders, each of its own user and with its mode.
func chown(t *testing.T, dir string, uid int, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, uid, uid); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, mode); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Users of this test, whom nobody knows.
const workersUser, strangersUser, programsUser = 54321, 54322, 54323

// A worker is believed where it is root's, the program's own user's, or that of a user to whom
// root has given the folder.
func TestOnlyAWorkerThatSomebodyTrustedHasPutThereIsBelieved(t *testing.T) {
	t.Parallel()
	// A folder of root's, on the way to which nobody else can write: others cannot into t.TempDir's.
	root, err := os.MkdirTemp("/run", "tlswrap-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	chown(t, root, 0, 0o755)
	shared := chown(t, filepath.Join(root, "shared"), 0, 0o777|os.ModeSticky)
	for name, c := range map[string]struct {
		folder  string
		uid     int // the worker's
		mode    os.FileMode
		program int
		link    string // the program goes by this one
		want    string // sentence, or "": it is believed
	}{
		"given by root":     {folder: root + "/given", uid: workersUser, program: programsUser},
		"by a link":         {folder: root + "/linked", uid: workersUser, program: programsUser, link: root + "/link"},
		"own":               {folder: shared + "/own", uid: programsUser, program: programsUser},
		"root's":            {folder: shared + "/roots", uid: 0, program: programsUser},
		"anybody's":         {folder: shared + "/anybodys", uid: workersUser, program: programsUser, want: "others can write to the folder " + shared},
		"anybody's, root":   {folder: shared + "/anybodys-too", uid: workersUser, program: 0, want: "others can write to the folder " + shared},
		"a stranger's link": {folder: root + "/given-too", uid: workersUser, program: programsUser, link: shared + "/link", want: "others can write to the folder " + shared},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			chown(t, c.folder, c.uid, 0o711)
			worker := wrapped{bare: true, dir: "/"}.start(t, as(c.uid, lab.tlswrap, "worker", "--socket", c.folder+"/control",
				"--allow", fmt.Sprint(programsUser), "--allow", "0", "--tls", "db.example.test:1")...)
			eventually(t, "the worker serves", 20*time.Second, func() bool { return strings.Contains(worker.stderr.String(), "serves") })
			at := c.folder
			if c.link != "" {
				if at = c.link; os.Symlink(c.folder, at) != nil {
					t.Fatal("no link")
				}
			}
			at += "/control"
			e := wrapped{bare: true, dir: "/"}.run(t, as(c.program, lab.tlswrap, "--worker", at, "echo", "ran")...)
			if c.want == "" {
				if e.status != 0 || e.stdout != "ran\n" || e.stderr != "" {
					t.Errorf("status %d, stdout %q, stderr %q", e.status, e.stdout, e.stderr)
				}
				return
			}
			want := fmt.Sprintf("tlswrap: %s: the worker there is a stranger's, user %d's: %s\n", at, c.uid, c.want)
			if e.status != 125 || e.stdout != "" || e.stderr != want {
				t.Errorf("status %d, stdout %q, stderr %q, want %q", e.status, e.stdout, e.stderr, want)
			}
		})
	}
}

// In a folder that belongs to somebody else a worker does not listen.
func TestWorkerListensOnlyInAFolderThatNobodyElseCanWriteTo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		uid  int
		mode os.FileMode
		want string
	}{
		"a stranger's": {strangersUser, 0o755, fmt.Sprintf("this folder belongs to user %d, who can put another socket in place of the worker's", strangersUser)},
		"everybody's":  {0, 0o777, "others can write to this folder, and put a socket of theirs in place of the worker's"},
		"a shared one": {0, 0o777 | os.ModeSticky, "others can write to this folder, and put a socket of theirs in place of the worker's"},
	} {
		dir := chown(t, filepath.Join(t.TempDir(), "control"), c.uid, c.mode)
		e := wrapped{bare: true}.run(t, lab.tlswrap, "worker", "--socket", dir+"/socket", "--tls", "db.example.test:1")
		if want := "tlswrap: " + dir + ": " + c.want + "\n"; e.status != 125 || e.stderr != want {
			t.Errorf("%s: status %d, stderr %q, want %q", name, e.status, e.stderr, want)
		}
	}
}
