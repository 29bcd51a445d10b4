package kernel

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func testHost(t *testing.T) *Host {
	t.Helper()
	h := New(fmt.Sprintf("gwt-kernel-%d-%s", os.Getpid(), strings.ToLower(t.Name()[4:8])))
	t.Cleanup(func() {
		if err := h.Clean(); err != nil {
			t.Error(err)
		}
		if left, _ := h.VRFs(); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	return h
}

func run(t *testing.T, netns string, args ...string) string {
	t.Helper()
	out, err := exec.Command("nsenter", append([]string{"--net=" + netns}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

func prefixes(ss ...string) []netip.Prefix {
	var ps []netip.Prefix
	for _, s := range ss {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

func TestVRFHasAHostStackThatRoutesToItsTUN(t *testing.T) {
	h := testHost(t)
	path, err := h.EnsureVRF("red")
	if err != nil {
		t.Fatal(err)
	}
	again, err := h.EnsureVRF("red") // adopting changes nothing
	if err != nil || again != path {
		t.Fatalf("%s, %v", again, err)
	}
	for _, dst := range []string{"203.0.113.9", "2001:db8::9"} {
		if out := run(t, path, "ip", "route", "get", dst, "from", map[bool]string{true: "::", false: "0.0.0.0"}[strings.Contains(dst, ":")]); !strings.Contains(out, "dev "+TUN) {
			t.Errorf("route to %s: %s", dst, out)
		}
	}
	if vrfs, _ := h.VRFs(); !slices.Equal(vrfs, []string{"red"}) {
		t.Errorf("VRFs: %v", vrfs)
	}
}

func TestTUNTakesAQueueOfEveryLineCard(t *testing.T) {
	h := testHost(t)
	path, err := h.EnsureVRF("red")
	if err != nil {
		t.Fatal(err)
	}
	err = InNetNS(path, func() error {
		for card := range 2 {
			fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			req, _ := unix.NewIfreq(TUN)
			req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_MULTI_QUEUE)
			if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
				return fmt.Errorf("queue %d: %w", card, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if out := run(t, path, "ip", "link", "show", TUN); !strings.Contains(out, TUN) {
		t.Error("TUN went away with its last user")
	}
}

func TestInterfaceIsBroughtToTheWantedState(t *testing.T) {
	h := testHost(t)
	path, err := h.EnsureVRF("blue")
	if err != nil {
		t.Fatal(err)
	}
	mac, _ := net.ParseMAC("02:00:00:00:00:07")
	want := Interface{Name: "cust", MAC: mac, MTU: 1400, Up: true, Addresses: append(prefixes("192.0.2.1/24", "2001:db8::1/64"), LinkLocal(mac))}
	for range 2 {
		if err := h.EnsureInterface("blue", want); err != nil {
			t.Fatal(err)
		}
	}
	out := run(t, path, "ip", "addr", "show", "cust")
	for _, s := range []string{"mtu 1400", "02:00:00:00:00:07", "192.0.2.1/24", "2001:db8::1/64", "fe80::ff:fe00:7/64", "UP"} {
		if !strings.Contains(out, s) {
			t.Errorf("no %q in\n%s", s, out)
		}
	}
	want.Addresses, want.Up = prefixes("192.0.2.2/24"), false
	if err := h.EnsureInterface("blue", want); err != nil {
		t.Fatal(err)
	}
	out = run(t, path, "ip", "addr", "show", "cust")
	if strings.Contains(out, "192.0.2.1/") || strings.Contains(out, "2001:db8") || !strings.Contains(out, "192.0.2.2/24") {
		t.Errorf("addresses:\n%s", out)
	}
	if names, err := h.Interfaces("blue"); err != nil || !slices.Equal(names, []string{"cust"}) {
		t.Errorf("%v, %v", names, err)
	}
	for range 2 {
		if err := h.RemoveInterface("blue", "cust"); err != nil {
			t.Fatal(err)
		}
	}
	if names, _ := h.Interfaces("blue"); len(names) != 0 {
		t.Errorf("left %v", names)
	}
}

func TestSameAddressesInTwoVRFs(t *testing.T) {
	h := testHost(t)
	for _, vrf := range []string{"red", "blue"} {
		if _, err := h.EnsureVRF(vrf); err != nil {
			t.Fatal(err)
		}
		if err := h.EnsureInterface(vrf, Interface{Name: "cust", Addresses: prefixes("192.0.2.1/24"), Up: true}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestErrorsNameTheVRF(t *testing.T) {
	h := testHost(t)
	err := h.EnsureInterface("nowhere", Interface{Name: "x"})
	if err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("%v", err)
	}
	if err := h.RemoveVRF("nowhere"); err != nil {
		t.Errorf("removing what is not there: %v", err)
	}
	if err := InNetNS(h.Path("nowhere"), func() error { return nil }); err == nil {
		t.Error("entered a namespace that is not there")
	}
}

func TestStaleMountPointIsReplaced(t *testing.T) {
	h := testHost(t)
	if err := os.MkdirAll(NetNSDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.Path("red"), nil, 0o444); err != nil {
		t.Fatal(err)
	}
	if _, err := h.EnsureVRF("red"); err != nil {
		t.Fatal(err)
	}
}

func TestLinkLocal(t *testing.T) {
	mac, _ := net.ParseMAC("00:25:96:12:34:56")
	if got := LinkLocal(mac).String(); got != "fe80::225:96ff:fe12:3456/64" {
		t.Error(got)
	}
	if LinkLocal(nil).IsValid() {
		t.Error("made of nothing")
	}
}
