package netdev

import (
	"errors"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"godwit/dataplane/netdev/netlab"
)

// TestFeaturesOfAVeth: it takes redirected frames while its peer has GRO.
func TestFeaturesOfAVeth(t *testing.T) {
	l, err := netlab.New("gwt-features", "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := l.Veth("a", "e0", "b", "e0", 1); err != nil {
		t.Fatal(err)
	}
	for _, gro := range []string{"on", "off", "on"} {
		if err := l.Exec("b", "ethtool", "-K", "e0", "gro", gro); err != nil {
			t.Fatal(err)
		}
		err := l.Do("a", func() error {
			nic, err := net.InterfaceByName("e0")
			if err != nil {
				return err
			}
			f, err := Features(nic.Index)
			if err != nil {
				return err
			}
			if f&(XDPBasic|XDPRedirect) != XDPBasic|XDPRedirect || f&XDPTransmit != 0 != (gro == "on") {
				t.Errorf("peer's gro %s: features %#x", gro, uint64(f))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Features(1 << 30); !errors.Is(err, unix.ENODEV) {
		t.Errorf("no such device: %v", err)
	}
}

// FuzzGenl: no answer makes the decoder panic.
func FuzzGenl(f *testing.F) {
	f.Add([]byte("\x20\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x01\x00\x00\x06\x00\x01\x00\x15\x00\x00\x00"))
	f.Add([]byte("\x24\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xed\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		body, err := genlBody(b)
		if err != nil {
			return
		}
		for kind := range uint16(4) {
			if v := genlAttr(body, kind); len(v) > len(body) {
				t.Error("attribute larger than the answer")
			}
		}
	})
}
