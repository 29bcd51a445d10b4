package vm

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	echoed = regexp.MustCompile(`GUEST echoed (\d+) worst gap (\d+) ms`)
	gone   = regexp.MustCompile(`GUEST gone code=(\d+) behind \d+ echoes after (\d+) ms`)
)

const (
	tolerance = 1500 * time.Millisecond // of busguest's links
	// slack is what emulation on a busy machine adds.
	slack = 2 * time.Second
)

// echoes waits for n more rounds of 500 echoes behind mark.
func echoes(t *testing.T, c *console, mark, n int, limit time.Duration) {
	t.Helper()
	c.wait(t, strconv.Itoa(n)+" rounds of echoes", limit, func(s string) bool {
		return len(echoed.FindAllString(s[mark:], -1)) >= n
	})
}

func sane(t *testing.T, consoles ...*console) {
	t.Helper()
	for _, c := range consoles {
		if s := c.String(); strings.Contains(s, "GUEST BAD") || strings.Contains(s, "GUEST failed") {
			t.Fatalf("the guest complains:\n%s", s[max(0, len(s)-3000):])
		}
	}
}

// busguest makes one image for all nodes: the kernel's command line says who it
// is, and what key it has.
func busguest(t *testing.T) string {
	return build(t, `
echo "guest: up"
for w in $(cat /proc/cmdline); do case $w in role=*) role=${w#role=};; node=*) node=${w#node=};; key=*) export KEY=${w#key=};; esac; done
second=eth1
if [ "$KEY" ]; then # the second bearer is UDP
  ip addr add 10.9.9.$node/24 dev eth1; ip link set eth1 up
  second="10.9.9.$node>10.9.9.$((3-node))"
fi
/prog $role $node eth0 "$second" 2>&1
echo "guest: ended with $?"
sleep 1000
`, programs{"prog": {"build", "./testdata/busguest"}})
}

// TestKeys: nodes with the same key join over encrypted links, of which one is
// UDP; one without a key, or with another, does not.
func TestKeys(t *testing.T) {
	wires := [2]*wire{newWire(t, 2), newWire(t, 2)}
	dir := busguest(t)
	const key = " key=0123456789abcdef0123456789abcdefsalt" // AES-256
	server := boot(t, dir, "role=server node=2"+key, wires[0].ends[0], wires[1].ends[0])
	client := boot(t, dir, "role=stranger node=1"+key+" ", wires[0].ends[1], wires[1].ends[1])
	echoes(t, client, 0, 2, 120*time.Second)
	sane(t, server, client)
	for _, what := range []string{"none", "wrong"} {
		if !strings.Contains(client.String(), "GUEST key="+what+" joined=false nodes=[1]") {
			t.Errorf("with key %q: %s", what, strings.Join(regexp.MustCompile(`GUEST key=.*`).FindAllString(client.String(), -1), "; "))
		}
	}
	both := regexp.MustCompile(`GUEST links: .*1:eth0-2:eth0 2 true.*1:10\.9\.9\.1-2:10\.9\.9\.2 2 true`)
	client.wait(t, "link over Ethernet and one over UDP", 90*time.Second, both.MatchString)
	for i, w := range wires {
		if n := w.plain.Load(); n > 0 {
			t.Errorf("wire %d carried the words of a message in the clear %d times", i, n)
		}
		if w.frames.Load() == 0 {
			t.Errorf("wire %d carried nothing", i)
		}
	}
}

// TestBearersAndNodes: three nodes see each other's names; one is killed. Of the two with
// two bearers, one is cut: nothing is
// lost and all is in order; both: connections end within the tolerance, with
// the reason; joined again: the service is back.
func TestBearersAndNodes(t *testing.T) {
	wires := [2]*wire{newWire(t, 3), newWire(t, 3)}
	dir := busguest(t)
	server := boot(t, dir, "role=server node=2", wires[0].ends[0], wires[1].ends[0])
	client := boot(t, dir, "role=client node=1 ", wires[0].ends[1], wires[1].ends[1])
	witness := boot(t, dir, "role=witness node=3  ", wires[0].ends[2], wires[1].ends[2])
	echoes(t, client, 0, 2, 90*time.Second)
	for _, c := range []*console{server, client, witness} {
		c.wait(t, "names of all nodes", 60*time.Second, func(s string) bool {
			return strings.Contains(s, "GUEST name 1 up=true") && strings.Contains(s, "GUEST name 2 up=true") && strings.Contains(s, "GUEST name 3 up=true")
		})
	}
	// One of three is killed: the others see it, and go on.
	witness.kill()
	mark := len(client.String())
	for _, c := range []*console{server, client} {
		c.wait(t, "end of the third node", tolerance+slack+30*time.Second, func(s string) bool { return strings.Contains(s, "GUEST name 3 up=false") })
	}
	echoes(t, client, mark, 2, 90*time.Second)
	if s := client.String(); gone.MatchString(s) || strings.Contains(s, "GUEST name 2 up=false") {
		t.Fatalf("the end of a third node ended the connection of the others:\n%s", s)
	}
	if s := client.String(); !strings.Contains(s, "GUEST event up=true node=2") {
		t.Errorf("no event of node 2:\n%s", s)
	}
	// The kernel's tolerance of 1 s keeps 1.5 s: see tipc.Setup.
	both := regexp.MustCompile(`GUEST links: .* true true 1s .* true true 1s `)
	client.wait(t, "two links that are up and active, with the kernel's tolerance of 1 s", 90*time.Second, both.MatchString)
	if wires[0].plain.Load()+wires[1].plain.Load() == 0 {
		t.Error("without a key no message was found on the wires: TestKeys would find none either")
	}

	mark = len(client.String())
	wires[0].cut.Store(true)
	echoes(t, client, mark, 8, 90*time.Second) // past the tolerance of the link that is cut
	sane(t, server, client)
	if s := client.String()[mark:]; gone.MatchString(s) {
		t.Fatalf("one of two bearers ended the connection:\n%s", s)
	}
	worst := 0
	for _, m := range echoed.FindAllStringSubmatch(client.String()[mark:], -1) {
		gap, _ := strconv.Atoi(m[2])
		worst = max(worst, gap)
	}
	t.Logf("one bearer cut: nothing lost, longest gap %d ms", worst)

	mark = len(client.String())
	wires[1].cut.Store(true)
	client.wait(t, "end of the connection", tolerance+slack+30*time.Second, func(s string) bool { return gone.MatchString(s[mark:]) })
	m := gone.FindStringSubmatch(client.String()[mark:])
	if ms, _ := strconv.Atoi(m[2]); m[1] != "3" || time.Duration(ms)*time.Millisecond > tolerance+slack {
		t.Errorf("both bearers cut: code %s after %s ms, tolerance %v", m[1], m[2], tolerance)
	}
	t.Logf("both bearers cut: reason %s (no node) after %s ms, tolerance %v", m[1], m[2], tolerance)

	mark = len(client.String())
	for _, w := range wires {
		w.cut.Store(false)
	}
	echoes(t, client, mark, 2, 90*time.Second)
	if s := client.String()[mark:]; !strings.Contains(s, "GUEST event up=true node=2") {
		t.Errorf("the node came back without an event:\n%s", s)
	}
	sane(t, server, client)
}
