package integration

import (
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A network may answer for the addresses that synthetic ones come from. Nothing goes there that
// this run has not given out, whatever the program connects or sends with.
func TestNothingGoesToASyntheticAddressThatNobodyKnows(t *testing.T) {
	for _, address := range []string{"198.18.77.1/32", "2001:2::ffff:77:1/128"} {
		if out, err := exec.Command("ip", "addr", "add", address, "dev", "lo", "nodad").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		defer exec.Command("ip", "addr", "del", address, "dev", "lo").Run()
	}
	tcp, err := net.Listen("tcp", "[::]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	_, port, _ := net.SplitHostPort(tcp.Addr().String())
	udp, err := net.ListenPacket("udp", "[::]:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	rule := "[[rule]]\nhost = \"db.example.test\"\nport = "
	for name, rules := range map[string]string{
		"port without a rule": rule + "1\n",
		"port with a rule":    rule + port + "\n",
		"address with a rule": "[[rule]]\nhost = \"198.18.0.0/15\"\naction = \"pass\"\n",
	} {
		t.Run(name, func(t *testing.T) {
			e := withRules(t, "%s", rules).run(t, python, testFile(t, "unknown_synthetic.py"), port)
			if e.status != 0 || e.stdout != "done\n" {
				t.Errorf("status %d, stdout %q", e.status, e.stdout)
			}
			for _, ip := range []string{"198.18.77.1", "2001:2::ffff:77:1"} {
				if want := ip + " is a synthetic address that this run did not give out"; strings.Count(e.stderr, want) < 6 {
					t.Errorf("%q is missing in %q", want, tail(e.stderr))
				}
			}
		})
	}
	// What arrives first is ours.
	for _, to := range []string{"198.18.77.1", "2001:2::ffff:77:1"} {
		at := net.JoinHostPort(to, port)
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		d, err := net.Dial("udp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		d.Write([]byte("ours"))
		tcp.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second))
		got, err := tcp.Accept()
		if err != nil {
			t.Fatal(err)
		}
		got.Close()
		if got.RemoteAddr().(*net.TCPAddr).Port != c.LocalAddr().(*net.TCPAddr).Port {
			t.Error("the program has connected")
		}
		udp.SetDeadline(time.Now().Add(20 * time.Second))
		b := make([]byte, 99)
		n, _, err := udp.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		if string(b[:n]) != "ours" {
			t.Errorf("the program has sent %q", b[:n])
		}
	}
}
