package integration

import (
	"net/http/cgi"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// git runs git without tlswrap, in dir.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	w := wrapped{bare: true, dir: dir, env: gitEnv()}
	return w.run(t, append([]string{"git"}, args...)...).must(t).stdout
}

// gitEnv is an identity, and no settings of the machine's.
func gitEnv() []string {
	return []string{
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.test",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.test",
	}
}

// serveGit serves a repository with one commit, whose message and file name hold the
// site's marker, over git's own HTTP protocol.
func serveGit(t *testing.T, host string) *site {
	t.Helper()
	root, marker := t.TempDir(), newMarker()
	work, bare := filepath.Join(root, "work"), filepath.Join(root, "repo.git")
	git(t, root, "init", "-q", "-b", "main", work)
	if err := os.WriteFile(filepath.Join(work, marker), []byte(strings.Repeat(marker+"\n", 1000)), 0o644); err != nil {
		t.Fatal(err)
	}
	git(t, work, "add", ".")
	git(t, work, "commit", "-q", "-m", marker)
	git(t, work, "branch", marker) // branch names are sent uncompressed
	git(t, root, "clone", "-q", "--bare", work, bare)
	git(t, bare, "config", "http.receivepack", "true")
	exec := strings.TrimSpace(git(t, root, "--exec-path"))
	return serveHandler(t, host, marker, &cgi.Handler{
		Path: filepath.Join(exec, "git-http-backend"),
		Env:  append(gitEnv(), "GIT_PROJECT_ROOT="+root, "GIT_HTTP_EXPORT_ALL=1"),
	})
}

func TestGitClonesAndPushes(t *testing.T) {
	s := serveGit(t, "db.example.test")
	dir := filepath.Join(t.TempDir(), "clone")
	w := s.wrapped()
	w.env = gitEnv()
	w.run(t, "git", "clone", "-q", "http://"+s.hostport()+"/repo.git", dir).must(t)
	if got := git(t, dir, "log", "-1", "--format=%s"); got != s.marker+"\n" {
		t.Errorf("the clone's commit is %q", got)
	}
	git(t, dir, "commit", "-q", "--allow-empty", "-m", "second "+s.marker)
	w.dir = dir
	w.run(t, "git", "push", "-q", "origin", "main").must(t)
	if got := git(t, dir, "rev-parse", "HEAD"); !strings.HasPrefix(w.run(t, "git", "ls-remote", "origin", "main").must(t).stdout, strings.TrimSpace(got)) {
		t.Error("the server does not have what was pushed")
	}
}

func TestGitNamesTheFailure(t *testing.T) {
	s := serveGit(t, "db.example.test")
	wrong := *s
	wrong.host = "wrong.example.test"
	w := wrong.wrapped()
	w.env = gitEnv()
	e := w.run(t, "git", "ls-remote", "http://"+wrong.hostport()+"/repo.git")
	if e.status == 0 || !strings.Contains(e.stderr, "tlswrap: "+wrong.hostport()+": certificate is for") {
		t.Errorf("status %d, stderr: %q", e.status, e.stderr)
	}
}
