package guest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"godwit/cmd/lab/topology"
	"godwit/cmd/mkimage/image"
)

const hosts = `
name: guest
nodes:
  - name: up
    bird: |
      router id 10.0.0.2;
      protocol device {}
      protocol static own { ipv4; route 192.0.2.0/24 blackhole; }
      protocol bgp r1 {
        local 10.0.0.2 as 65101;
        neighbor 10.0.0.1 as 65010;
        ipv4 { import all; export where source = RTS_STATIC; };
      }
  - name: cust
`

const config = `
system: {hostname: guest}
cards: [{id: 1}]
vrfs:
  - name: red
    bgp:
      as: 65010
      router-id: 10.0.0.1
      redistribute: [connected]
      neighbors:
        - {address: 10.0.0.2, as: 65101, import: accept, export: local}
interfaces:
  - {name: up, card: 1, device: eth0, vrf: red, addresses: [10.0.0.1/24]}
  - {name: cust, card: 1, device: eth1, vrf: red, addresses: [10.0.1.1/24]}
`

// console is the machine's serial line.
type console struct {
	mu  sync.Mutex
	out bytes.Buffer
	in  io.Writer
}

func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(b)
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.String()
}

func (c *console) tail() string {
	s := c.String()
	return s[max(0, len(s)-3000):]
}

// ask types a line and waits until want is printed behind it.
func (c *console) ask(ctx context.Context, line, want string) error {
	mark := len(c.String())
	if _, err := io.WriteString(c.in, line+"\r"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return topology.Wait(ctx, func() error {
		if s := c.String()[mark:]; !strings.Contains(s, want) {
			return fmt.Errorf("%q was answered by %q, not %q", line, s, want)
		}
		return nil
	})
}

// port makes a TAP in the host's namespace and opens it for the machine.
func port(t *testing.T, h *topology.Host, addr string) *os.File {
	t.Helper()
	f, err := h.TAP(t.Context(), "eth0", addr)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestTheImageBootsPeersAndForwards(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	img := filepath.Join(root, "build", "image")
	if err := image.Build(ctx, image.Options{Bin: filepath.Join(root, "bin"), Trust: filepath.Join(root, "build", "keys", "trust"), Out: img, Log: os.Stderr}); err != nil {
		t.Fatal(err)
	}
	top, err := topology.Parse("guest", []byte(hosts))
	if err != nil {
		t.Fatal(err)
	}
	lab, err := topology.Build(ctx, top, topology.Options{Prefix: fmt.Sprintf("gwq%d", os.Getpid())})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	}()
	up, cust := lab.Node("up"), lab.Node("cust")
	nics := []*os.File{port(t, up, "10.0.0.2/24"), port(t, cust, "10.0.1.2/24")}
	for _, line := range []string{"ip addr add 192.0.2.1/32 dev lo; ip route add 10.0.1.0/24 via 10.0.0.1"} {
		if _, err := up.Exec(ctx, "sh", "-c", line); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := cust.Exec(ctx, "ip", "route", "add", "default", "via", "10.0.1.1"); err != nil {
		t.Fatal(err)
	}
	con, stop := boot(t, img, nics)
	defer stop()
	if err := lab.Start(ctx); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := topology.Wait(ctx, func() error {
		if !strings.Contains(con.String(), "> ") {
			return fmt.Errorf("no prompt on the console")
		}
		return nil
	}); err != nil {
		t.Fatalf("%v\n%s", err, con.tail())
	}
	t.Logf("console after %.1f s", time.Since(begin).Seconds())
	if err := topology.Wait(ctx, func() error {
		_, err := cust.Exec(ctx, "ping", "-n", "-c", "1", "-W", "1", "192.0.2.1")
		return err
	}); err != nil {
		t.Errorf("%v\n%s", err, con.tail())
		_ = con.ask(ctx, "show modules", "router")
		_ = con.ask(ctx, "show bgp", "PEER")
		_ = con.ask(ctx, "show interfaces", "up")
		_ = con.ask(ctx, "sh -c \"busybox tail -30 /run/godwitd.log\"", "level")
		t.Fatal(con.tail())
	}
	t.Logf("first ping along a BGP route after %.1f s", time.Since(begin).Seconds())
	if out, err := cust.Exec(ctx, "ping", "-n", "-q", "-c", "20", "-i", "0.1", "-W", "2", "192.0.2.1"); err != nil || !strings.Contains(out, " 0% packet loss") {
		t.Errorf("%v\n%s", err, out)
	}
	for line, want := range map[string]string{"show bgp": "established", "show interfaces": "eth1", "show route vrf red 192.0.2.1": "10.0.0.2"} {
		if err := con.ask(ctx, line, want); err != nil {
			t.Error(err)
		}
	}
}

// boot starts the machine; stop ends it.
func boot(t *testing.T, img string, nics []*os.File) (*console, func()) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd, err := image.Machine{Dir: img, Config: file, Work: dir, NICs: nics}.Command()
	if err != nil {
		t.Fatal(err)
	}
	con := &console{}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	con.in, cmd.Stdout, cmd.Stderr = in, con, con
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, f := range nics {
		f.Close()
	}
	return con, func() { kill(t, cmd) }
}

func kill(t *testing.T, cmd *exec.Cmd) {
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // killed: an error is expected
}
