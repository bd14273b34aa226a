package integration

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

// ftpSite is an FTP server that has one user, "u". The marker is the password, and stands
// in the files that go over it.
type ftpSite struct {
	*site
	log func() string
}

// flags are for a rule that says starttls = "ftp", and more lines that a test wants.
func (s *ftpSite) wrappedFTP(t *testing.T, more ...string) wrapped {
	return starttlsRule(t, s.site, "ftp", more...)
}

// starttlsRule is a run with a rule for a site that asks for TLS.
func starttlsRule(t *testing.T, s *site, protocol string, more ...string) wrapped {
	t.Helper()
	file := writeRules(t, fmt.Sprintf("[[rule]]\nhost = %q\nport = %d\nstarttls = %q\nca_file = %q\n%s\n",
		s.host, s.port, protocol, lab.rootPEM, strings.Join(more, "\n")))
	return wrapped{flags: []string{"--rules", file}}
}

// startServer runs a server's program until the test ends, and returns when it listens on
// addr.
func startServer(t *testing.T, dir, addr string, argv ...string) *running {
	t.Helper()
	r := wrapped{bare: true, dir: dir}.start(t, argv...)
	eventually(t, argv[0]+" listens", 20*time.Second, func() bool {
		select {
		case <-r.done:
			t.Fatalf("%s ended: %s%s", argv[0], r.stdout, r.stderr)
		default:
		}
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return r
}

// certificateFor writes a certificate of the test root's.
func certificateFor(t *testing.T, dir, host string) (certFile, keyFile string) {
	t.Helper()
	cert, err := lab.root.Issue(testkit.Leaf{Names: []string{host}})
	if err != nil {
		t.Fatal(err)
	}
	if certFile, keyFile, err = cert.WriteFiles(dir, "server"); err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile
}

// openDir makes a folder that every user can get into, which those of t.TempDir are not.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(lab.dir, "server-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// fileIn writes a file to dir and returns its name.
func fileIn(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// watchServer is watchPort for a port that was found by closedPort.
func watchServer(t *testing.T, host, port, marker string) *site {
	t.Helper()
	var n uint16
	if _, err := fmt.Sscan(port, &n); err != nil {
		t.Fatal(err)
	}
	return watchPort(t, host, n, marker)
}

func logOf(file string) func() string {
	return func() string {
		text, _ := os.ReadFile(file)
		return string(text)
	}
}

// startVsftpd starts vsftpd, which demands TLS on every connection, and that data
// connections resume the control connection's session. PAM takes any password.
func startVsftpd(t *testing.T, host, certifiedHost string) *ftpSite {
	t.Helper()
	testkit.NeedFetched(t, filepath.Join(lab.dir, "vsftpd"))
	dir := openDir(t)
	certFile, keyFile := certificateFor(t, dir, certifiedHost)
	pam, root, empty := filepath.Join(dir, "pam"), filepath.Join(dir, "root"), filepath.Join(dir, "empty")
	for _, d := range []string{pam, root, empty} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const daemon = 1 // base-passwd(5): a user whose home exists
	if err := os.Chown(root, daemon, daemon); err != nil {
		t.Fatal(err)
	}
	fileIn(t, pam, "tlswrap-test", "auth required pam_permit.so\naccount required pam_permit.so\n")
	if err := bind(pam, "/etc/pam.d"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount("/etc/pam.d", 0) })
	port := closedPort(t)
	log := filepath.Join(dir, "log")
	conf := fileIn(t, dir, "vsftpd.conf", strings.Join([]string{
		"listen=YES", "listen_address=127.0.0.1", "listen_port=" + port, "background=NO",
		"anonymous_enable=NO", "local_enable=YES", "write_enable=YES",
		"guest_enable=YES", "guest_username=daemon", "virtual_use_local_privs=YES",
		"pam_service_name=tlswrap-test", "local_root=" + root, "chroot_local_user=YES",
		"allow_writeable_chroot=YES", "secure_chroot_dir=" + empty,
		"ssl_enable=YES", "force_local_logins_ssl=YES", "force_local_data_ssl=YES", "require_ssl_reuse=YES",
		"strict_ssl_read_eof=YES", "ssl_ciphers=HIGH", "rsa_cert_file=" + certFile, "rsa_private_key_file=" + keyFile,
		"seccomp_sandbox=NO", "isolate_network=NO", "log_ftp_protocol=YES", "debug_ssl=YES", "vsftpd_log_file=" + log,
	}, "\n")+"\n")
	startServer(t, dir, "127.0.0.1:"+port, filepath.Join(lab.dir, "vsftpd"), conf)
	return &ftpSite{watchServer(t, host, port, newMarker()), logOf(log)}
}

// startProftpd starts ProFTPD, which demands the same, and the right password.
func startProftpd(t *testing.T, host string, more ...string) *ftpSite {
	t.Helper()
	testkit.Need(t, "openssl", "/usr/sbin/proftpd")
	dir := openDir(t)
	certFile, keyFile := certificateFor(t, dir, host)
	root, marker := filepath.Join(dir, "root"), newMarker()
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	const user = 1000
	if err := os.Chown(root, user, user); err != nil {
		t.Fatal(err)
	}
	hash, err := exec.Command("openssl", "passwd", "-6", marker).Output()
	if err != nil {
		t.Fatal(err)
	}
	users := fileIn(t, dir, "passwd", fmt.Sprintf("u:%s:%d:%d::%s:/bin/sh\n", strings.TrimSpace(string(hash)), user, user, root))
	ip, _, err := net.SplitHostPort(listenAddr(t, host))
	if err != nil {
		t.Fatal(err)
	}
	port := closedPort(t)
	log := filepath.Join(dir, "tls.log")
	conf := fileIn(t, dir, "proftpd.conf", strings.Join(append([]string{
		"ServerType standalone", "DefaultAddress " + ip, "SocketBindTight on", "Port " + port, "UseIPv6 on",
		"ModulePath /usr/lib/proftpd", "LoadModule mod_tls.c", "DelayEngine off", "WtmpLog off", "TransferLog none",
		"PidFile " + dir + "/pid", "ScoreboardFile " + dir + "/score", "SystemLog " + dir + "/log",
		"User nobody", "Group nogroup", "AuthUserFile " + users, "AuthOrder mod_auth_file.c", "RequireValidShell off",
		"AllowOverwrite on", "TLSEngine on", "TLSRequired on", "TLSLog " + log,
		"TLSECCertificateFile " + certFile, "TLSECCertificateKeyFile " + keyFile,
	}, more...), "\n")+"\n")
	startServer(t, dir, net.JoinHostPort(ip, port), "/usr/sbin/proftpd", "-n", "-q", "-c", conf)
	return &ftpSite{watchServer(t, host, port, marker), logOf(log)}
}

// secretFile makes a file of some megabytes that has the marker in every line.
func secretFile(t *testing.T, dir, marker string) (path string, content []byte) {
	t.Helper()
	var b bytes.Buffer
	noise := make([]byte, 48)
	for b.Len() < 3<<20 {
		rand.Read(noise)
		fmt.Fprintf(&b, "%s %s\r\n", marker, base64.StdEncoding.EncodeToString(noise))
	}
	path = filepath.Join(dir, "up.bin")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path, b.Bytes()
}

// ftpJobs are whole jobs: log in, list, send up.bin, list, fetch it as down.bin, log out.
var ftpJobs = map[string]func(s *ftpSite) (stdin string, argv []string){
	"curl": func(s *ftpSite) (string, []string) {
		url := "ftp://" + s.hostport() + "/"
		user := "u:" + s.marker
		return "", []string{"curl", "-sS", "-u", user, "-T", "up.bin", url, "--next",
			"-sS", "-u", user, url, "--next", "-sS", "-u", user, "-o", "down.bin", url + "up.bin"}
	},
	"curl without EPSV": func(s *ftpSite) (string, []string) {
		url := "ftp://" + s.hostport() + "/"
		user := "u:" + s.marker
		return "", []string{"curl", "-sS", "--disable-epsv", "--no-ftp-skip-pasv-ip", "-u", user, "-T", "up.bin", url, "--next",
			"-sS", "--disable-epsv", "--no-ftp-skip-pasv-ip", "-u", user, "-o", "down.bin", url + "up.bin", "--next", "-sS", "-u", user, url}
	},
	"lftp": func(s *ftpSite) (string, []string) {
		return "", []string{"lftp", "-c", "set ftp:ssl-allow no; set net:max-retries 1; open -u u," + s.marker + " ftp://" + s.hostport() +
			"; put up.bin; ls; get up.bin -o down.bin"}
	},
	"lftp that would like TLS": func(s *ftpSite) (string, []string) {
		return "", []string{"lftp", "-c", "set net:max-retries 1; open -u u," + s.marker + " ftp://" + s.hostport() +
			"; put up.bin; ls; get up.bin -o down.bin"}
	},
	"ftplib": func(s *ftpSite) (string, []string) {
		return fmt.Sprintf(`
import ftplib, sys
f = ftplib.FTP()
f.connect(%q, %d)
f.login("u", %q)
with open("up.bin", "rb") as up: f.storbinary("STOR up.bin", up)
f.storbinary("STOR empty", open("/dev/null", "rb"))
f.retrlines("LIST")
assert "empty" in f.nlst()
with open("down.bin", "wb") as down: f.retrbinary("RETR up.bin", down.write)
f.quit()
`, s.host, s.port, s.marker), []string{"/usr/bin/python3", "-"}
	},
	"tnftp": func(s *ftpSite) (string, []string) {
		return "user u " + s.marker + "\nbinary\nput up.bin\nls\nget up.bin down.bin\nquit\n",
			[]string{"tnftp", "-n", "-v", s.host, s.portString()}
	},
	"tnftp without EPSV": func(s *ftpSite) (string, []string) {
		return "epsv\nopen " + s.host + " " + s.portString() + "\nuser u " + s.marker + "\nbinary\nput up.bin\nls\nget up.bin down.bin\nquit\n",
			[]string{"tnftp", "-n", "-v"}
	},
}

func TestFTPClientsSendAndFetchFiles(t *testing.T) {
	for name, start := range map[string]func() *ftpSite{
		"vsftpd":  func() *ftpSite { return startVsftpd(t, "db.example.test", "db.example.test") },
		"proftpd": func() *ftpSite { return startProftpd(t, "db.example.test") },
		"proftpd, TLS 1.2": func() *ftpSite {
			return startProftpd(t, "db.example.test", "TLSProtocol TLSv1.2", "TLSSessionTickets on")
		},
		"proftpd, IPv6":       func() *ftpSite { return startProftpd(t, "six.example.test") },
		"proftpd, real names": func() *ftpSite { return startProftpd(t, "db.example.test") },
	} {
		s := start()
		var more []string
		if strings.Contains(name, "real") {
			more = append(more, `addresses = "real"`)
		}
		for client, job := range ftpJobs {
			if s.host == "six.example.test" && strings.Contains(client, "without EPSV") {
				continue // PASV has no IPv6 addresses
			}
			t.Run(name+"/"+client, func(t *testing.T) {
				dir := t.TempDir()
				_, content := secretFile(t, dir, s.marker)
				w := s.wrappedFTP(t, more...)
				stdin, argv := job(s)
				w.dir, w.stdin = dir, strings.NewReader(stdin)
				e := w.run(t, argv...).must(t)
				if down, err := os.ReadFile(filepath.Join(dir, "down.bin")); err != nil || !bytes.Equal(down, content) {
					t.Errorf("the file that came back has %d bytes instead of %d (%v)\nstdout: %s\nstderr: %s\nserver: %s",
						len(down), len(content), err, tail(e.stdout), tail(e.stderr), tail(s.log()))
				}
				if !strings.Contains(e.stdout, "up.bin") {
					t.Errorf("no listing: %s", tail(e.stdout))
				}
			})
		}
	}
}

func TestFTPClientIsAnsweredAsByAServerWithoutTLS(t *testing.T) {
	s := startVsftpd(t, "db.example.test", "db.example.test")
	w := s.wrappedFTP(t)
	w.stdin = strings.NewReader(fmt.Sprintf(`
import ftplib
f = ftplib.FTP()
print(f.connect(%q, %d))
for c in "AUTH TLS", "PBSZ 0", "PROT C", "CCC", "REIN":
    try: print("BAD", f.sendcmd(c))
    except ftplib.error_perm as e: print(e)
f.login("u", %q)
print(f.sendcmd("FEAT"))
f.sock.sendall(b"AUTH TLS\r\nNOOP\r\nPORT 127,0,0,1,9,9\r\nEPRT |1|127.0.0.1|2313|\r\nPWD\r\n")
for i in range(5): print(f.getmultiline())
print(f.quit())
`, s.host, s.port, s.marker))
	e := w.run(t, "/usr/bin/python3", "-")
	want := "220 db.example.test FTP\n" + strings.Repeat("502 Command not implemented.\n", 5) +
		"211-Features:\n EPSV\n MDTM\n PASV\n REST STREAM\n SIZE\n TVFS\n211 End\n" +
		"502 Command not implemented.\n200 NOOP ok.\n" + strings.Repeat("502 tlswrap cannot protect active mode: use passive mode.\n", 2) +
		"257 \"/\" is the current directory\n221 Goodbye.\n"
	if e.status != 0 || e.stdout != want {
		t.Errorf("status %d, the client read %q, want %q\nstderr: %s", e.status, e.stdout, want, e.stderr)
	}
	if !strings.Contains(e.stderr, "active mode, which would come without TLS: refused") {
		t.Errorf("nobody said why: %s", e.stderr)
	}
}

func TestFTPServerWithAWrongCertificateIsRefused(t *testing.T) {
	s := startVsftpd(t, "db.example.test", "other.example.test")
	e := s.wrappedFTP(t).run(t, "curl", "-sS", "-u", "u:"+s.marker, "ftp://"+s.hostport()+"/")
	if e.status == 0 || !strings.Contains(e.stderr, "certificate is for other.example.test, not db.example.test") {
		t.Errorf("status %d, stderr: %s", e.status, e.stderr)
	}
}

func TestFTPServerWithoutTLSIsRefused(t *testing.T) {
	const drip = 0 // a server that says one byte after the other, for ever
	for name, test := range map[string]struct{ greeting, auth, want, more string }{
		"no AUTH":          {"220 hi\r\n", "500 AUTH what?\r\n", `it said "500 AUTH what?"`, ""},
		"said too much":    {"220-hi\r\n 220 is not the end\r\n220 there\r\n", "234 go\r\n230 welcome\r\n", `the server said more than it may before TLS: "230 welcome"`, ""},
		"no greeting":      {"", "", "the server closed the connection instead of sending a greeting", ""},
		"another protocol": {"* OK IMAP4\r\n", "", `the server did not send a greeting: it said "* OK IMAP4"`, ""},
		"too busy":         {"421 later\r\n", "", `it said "421 later"`, ""},
		"no line end":      {strings.Repeat("2", 10<<20), "", "the server sent a line of more than 8192 bytes instead of a greeting", ""},
		"slow":             {string(rune(drip)), "", `the server did not send a greeting in time, after "222`, `timeout = "1s"`},
	} {
		t.Run(name, func(t *testing.T) {
			marker := newMarker()
			server, err := testkit.Serve(listenAddr(t, "db.example.test"), nil, func(c net.Conn) {
				for test.greeting[:min(1, len(test.greeting))] == string(rune(drip)) {
					if _, err := io.WriteString(c, "2"); err != nil {
						return
					}
					time.Sleep(50 * time.Millisecond)
				}
				io.WriteString(c, test.greeting)
				if test.auth != "" {
					bufio.NewReader(c).ReadString('\n')
					io.WriteString(c, test.auth)
					testkit.Silent(c)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(server.Close)
			watch := lab.sniffer.Watch([]byte(marker), server.Port())
			s := &ftpSite{site: &site{host: "db.example.test", port: server.Port(), marker: marker}}
			e := s.wrappedFTP(t, test.more).run(t, "curl", "-sS", "-u", "u:"+marker, "ftp://"+s.hostport()+"/")
			if e.status == 0 || !strings.Contains(e.stderr, test.want) {
				t.Errorf("status %d, stderr: %s", e.status, e.stderr)
			}
			if report, err := watch.Stop(); err != nil || len(report.Leaks) > 0 {
				t.Errorf("%v %v", err, report.Leaks)
			}
		})
	}
}

// fakeFTP serves one control connection after the other, with TLS as a rule wants it, and
// hands every data connection to data once a transfer command has come.
func fakeFTP(t *testing.T, pasv func(port int) string, data func(c net.Conn)) *ftpSite {
	t.Helper()
	const host = "db.example.test"
	config := serverConfig(t, testkit.Leaf{Names: []string{host}})
	marker := newMarker()
	server, err := testkit.Serve(listenAddr(t, host), nil, func(c net.Conn) {
		io.WriteString(c, "220 hi\r\n")
		bufio.NewReader(c).ReadString('\n')
		io.WriteString(c, "234 go\r\n")
		secure := tls.Server(c, config)
		commands := bufio.NewScanner(secure)
		var l net.Listener
		for commands.Scan() {
			reply := "200 ok"
			switch verb, _, _ := strings.Cut(commands.Text(), " "); verb {
			case "PASV":
				var err error
				if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
					return
				}
				defer l.Close()
				reply = pasv(l.Addr().(*net.TCPAddr).Port)
			case "RETR", "STOR":
				io.WriteString(secure, "150 go\r\n")
				d, err := l.Accept()
				if err != nil {
					return
				}
				data(d)
				d.Close()
				reply = "226 done"
			case "QUIT":
				io.WriteString(secure, "221 bye\r\n")
				return
			}
			io.WriteString(secure, reply+"\r\n")
		}
	})
	return &ftpSite{site: watched(t, host, marker, server, err)}
}

// pasv is a server's answer to PASV, whose address is of no use.
func pasv(port int) string {
	return fmt.Sprintf("227 Entering Passive Mode (10,1,2,3,%d,%d)", port>>8, port&0xff)
}

// ftplibJob transfers over a client that believes a server's passive address.
func (s *ftpSite) ftplibJob(job string) string {
	return fmt.Sprintf(`
import ftplib, io
f = ftplib.FTP()
f.trust_server_pasv_ipv4_address = True
f.connect(%q, %d)
f.login("u", %q)
try:
    %s
except (OSError, EOFError) as e: print("failed:", e)
`, s.host, s.port, s.marker, job)
}

func TestFTPDataConnectionIsVerified(t *testing.T) {
	good := func() *tls.Config { return serverConfig(t, testkit.Leaf{Names: []string{"db.example.test"}}) }
	bad := func() *tls.Config { return serverConfig(t, testkit.Leaf{Names: []string{"other.example.test"}}) }
	secured := func(config *tls.Config, do func(c *tls.Conn)) func(net.Conn) {
		return func(c net.Conn) {
			s := tls.Server(c, config)
			do(s)
			s.Close()
		}
	}
	const (
		store = `f.storbinary("STOR x", io.BytesIO(MARKER * 100)); print("stored")`
		fetch = `b = io.BytesIO(); f.retrbinary("RETR x", b.write); print("fetched", len(b.getvalue()))`
	)
	for name, test := range map[string]struct {
		job    string
		data   func(net.Conn)
		stdout string
		stderr string
		more   string
	}{
		"good store": {store, secured(good(), func(c *tls.Conn) { io.Copy(io.Discard, c) }), "stored", "", ""},
		"good fetch": {fetch, secured(good(), func(c *tls.Conn) { io.WriteString(c, "12345") }), "fetched 5", "", ""},
		"fetch, nothing": {fetch, testkit.Silent, "failed: [Errno 104]",
			"the server accepted the connection but did not answer the TLS handshake within 2s", `timeout = "2s"`},
		"store, wrong certificate": {store, secured(bad(), func(c *tls.Conn) { io.Copy(io.Discard, c) }),
			"", "certificate is for other.example.test, not db.example.test", ""},
		"fetch, wrong certificate": {fetch, secured(bad(), func(c *tls.Conn) { io.WriteString(c, "12345") }),
			"failed: [Errno 104]", "certificate is for other.example.test, not db.example.test", ""},
		"fetch, plaintext": {fetch, func(c net.Conn) { io.WriteString(c, "a file in plaintext") },
			"failed: [Errno 104]", `the server does not speak TLS on this port: it said "a file in plaintext"`, ""},
		"fetch, cut off": {fetch, func(c net.Conn) {
			s := tls.Server(c, good())
			io.WriteString(s, "12345")
		}, "failed: [Errno 104]", "the server ended the connection without close_notify", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := fakeFTP(t, pasv, test.data)
			w := s.wrappedFTP(t, test.more)
			w.stdin = strings.NewReader(s.ftplibJob(strings.ReplaceAll(test.job, "MARKER", fmt.Sprintf("b%q", s.marker))))
			e := w.run(t, "/usr/bin/python3", "-")
			if !strings.HasPrefix(e.stdout, test.stdout) {
				t.Errorf("stdout: %s, want %s", e.stdout, test.stdout)
			}
			if !strings.Contains(e.stderr, test.stderr) || (test.stderr == "") != (e.stderr == "") {
				t.Errorf("stderr: %s, want %s", e.stderr, test.stderr)
			}
		})
	}
}

// What a server refuses to transfer, and what a program does not want to the end, leaves
// the control connection as it was, and is nobody's failure.
func TestFTPTransfersThatDoNotHappen(t *testing.T) {
	for name, s := range map[string]*ftpSite{
		"vsftpd":  startVsftpd(t, "db.example.test", "db.example.test"),
		"proftpd": startProftpd(t, "db.example.test"),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			secretFile(t, dir, s.marker)
			w := s.wrappedFTP(t)
			w.dir, w.stdin = dir, strings.NewReader(fmt.Sprintf(`
import ftplib
f = ftplib.FTP()
f.connect(%q, %d)
f.login("u", %q)
try: f.retrbinary("RETR missing", print)
except ftplib.error_perm as e: print(str(e)[:3])
with open("up.bin", "rb") as up: f.storbinary("STOR up.bin", up)
f.voidcmd("TYPE I")
data = f.transfercmd("RETR up.bin")
print(len(data.recv(10)))
data.close()
print(f.getmultiline()[0] in "24") # 226 where all of it was in buffers already
f.makepasv()
print(f.size("up.bin") > 0)
f.quit()
`, s.host, s.port, s.marker))
			if e := w.run(t, "/usr/bin/python3", "-").must(t); e.stdout != "550\n10\nTrue\nTrue\n" {
				t.Errorf("stdout: %s", e.stdout)
			}
		})
	}
}

// serveProxy starts an HTTP proxy that knows CONNECT, and notes where it was asked to
// connect to.
func serveProxy(t *testing.T) (addr string, asked *lockedBuffer) {
	t.Helper()
	asked = new(lockedBuffer)
	server, err := testkit.Serve("127.0.0.1:0", nil, func(c net.Conn) {
		r := bufio.NewReader(c)
		request, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		fmt.Fprintln(asked, request.Host)
		up, err := net.Dial("tcp", request.Host)
		if err != nil {
			io.WriteString(c, "HTTP/1.1 502 No\r\n\r\n")
			return
		}
		defer up.Close()
		io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		down := make(chan struct{})
		go func() {
			defer close(down)
			io.Copy(c, up)
			c.(*net.TCPConn).CloseWrite()
		}()
		io.Copy(up, r)
		up.(*net.TCPConn).CloseWrite()
		<-down
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return fmt.Sprintf("127.0.0.1:%d", server.Port()), asked
}

func TestFTPDataConnectionsGoTheWayOfTheControlConnection(t *testing.T) {
	s := startVsftpd(t, "db.example.test", "db.example.test")
	run := func(t *testing.T, more string) {
		rules := writeRules(t, fmt.Sprintf(`
[[rule]]
host = "other.example.test"
port = 21
starttls = "ftp"
server_name = %q
upstream = %q
ca_file = %q
%s
`, s.host, s.hostport(), lab.rootPEM, more))
		dir := t.TempDir()
		_, content := secretFile(t, dir, s.marker)
		w := wrapped{flags: []string{"--rules", rules}, dir: dir}
		url, user := "ftp://other.example.test/up.bin", "u:"+s.marker
		w.run(t, "curl", "-sS", "-u", user, "-T", "up.bin", url, "--next", "-sS", "-u", user, "-o", "down.bin", url).must(t)
		if down, err := os.ReadFile(filepath.Join(dir, "down.bin")); err != nil || !bytes.Equal(down, content) {
			t.Errorf("the file that came back has %d bytes instead of %d (%v)", len(down), len(content), err)
		}
	}
	t.Run("upstream", func(t *testing.T) { run(t, "") })
	t.Run("proxy", func(t *testing.T) {
		proxy, asked := serveProxy(t)
		run(t, fmt.Sprintf("via = %q", "http://"+proxy))
		if got := strings.Count(asked.String(), "db.example.test:"); got != 3 || strings.Count(asked.String(), s.hostport()) != 1 {
			t.Errorf("the proxy was asked for %q", asked)
		}
	})
}

// A program that maps which ports no rule is about must not take the data port for one.
func TestFTPDataPortIsNotPassedUnasked(t *testing.T) {
	plain := serveWithout(t)
	s := startProftpd(t, "db.example.test")
	w := s.wrappedFTP(t, `addresses = "real"`)
	w.stdin = strings.NewReader(fmt.Sprintf(`
import ftplib, io, socket
for i in range(2): socket.create_connection(("127.0.0.1", %d)).close()
f = ftplib.FTP()
f.connect(%q, %d)
f.login("u", %q)
f.storbinary("STOR x", io.BytesIO(%q.encode() * 1000))
b = io.BytesIO()
f.retrbinary("RETR x", b.write)
print(len(b.getvalue()))
f.quit()
`, plain, s.host, s.port, s.marker, s.marker))
	e := w.run(t, "/usr/bin/python3", "-").must(t)
	if want := fmt.Sprintf("%d\n", 1000*len(s.marker)); e.stdout != want {
		t.Errorf("stdout %q, want %q", e.stdout, want)
	}
}

// serveWithout starts a server without TLS that no rule covers, and returns its port.
func serveWithout(t *testing.T) uint16 {
	t.Helper()
	server, err := testkit.Serve("127.0.0.1:0", nil, testkit.Silent)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server.Port()
}

// A program that reads nothing is ended all the same when what it sends cannot go on.
func TestFTPProgramThatDoesNotReadIsEnded(t *testing.T) {
	s := startProftpd(t, "db.example.test")
	e := s.wrappedFTP(t, "").run(t, python, "-c", `import socket, sys
c = socket.create_connection((sys.argv[1], int(sys.argv[2])))
c.settimeout(30)
try:
    while True: c.sendall(b"NOOP\r\n" * 1000)
except (ConnectionResetError, BrokenPipeError): print("ended")
`, s.host, s.portString())
	if e.stdout != "ended\n" || !strings.Contains(e.stderr, "the program sent 1000 commands ahead") {
		t.Errorf("%+v", e)
	}
}
