package local

import (
	"os"
	"path/filepath"
	"testing"

	"godwit/cluster/bus"
)

// asked counts what the member has asked the name service so far.
func (m *Member) asked() uint32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seq
}

// A multicast asks the name service when the table has changed, not each time; what was
// bound before it is always reached.
func TestMulticastAsksOnceForEachChange(t *testing.T) {
	for _, shared := range []bool{true, false} {
		n := newNetwork(t)
		if !shared {
			if err := os.Remove(versionPath(n.dir)); err != nil {
				t.Fatal(err)
			}
		}
		a, b := n.Join(t, "a").(*Member), n.Join(t, "b").(*Member)
		from, err := a.Socket()
		if err != nil {
			t.Fatal(err)
		}
		var to []bus.Socket
		for i := range 20 {
			s, err := b.Socket()
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Bind(bus.One(500, uint32(i))); err != nil {
				t.Fatal(err)
			}
			to = append(to, s)
			before := a.asked()
			for range 10 {
				if err := from.Multicast(bus.All(500), []byte{byte(i)}); err != nil {
					t.Fatal(err)
				}
			}
			want := uint32(1)
			if !shared {
				want = 10
			}
			if got := a.asked() - before; got != want {
				t.Errorf("asked %d times for 10 multicasts, want %d", got, want)
			}
			for _, s := range to {
				for range 10 {
					if d, err := s.Recv(); err != nil || d.Data[0] != byte(i) {
						t.Fatalf("%+v %v", d, err)
					}
				}
			}
		}
	}
}

// The name service comes back: its count begins anew, in a file of its own.
func TestVersionOfANewNameService(t *testing.T) {
	n := newNetwork(t)
	a, b := n.Join(t, "a").(*Member), n.Join(t, "b").(*Member)
	from, err := a.Socket()
	if err != nil {
		t.Fatal(err)
	}
	bind := func(i uint32) bus.Socket {
		s, err := b.Socket()
		if err == nil {
			err = s.Bind(bus.One(500, i))
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	one := bind(1)
	if err := from.Multicast(bus.All(500), []byte{1}); err != nil {
		t.Fatal(err)
	}
	if err := n.server.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(versionPath(n.dir)); !os.IsNotExist(err) {
		t.Errorf("left behind: %v", err)
	}
	if err := from.Multicast(bus.All(500), []byte{2}); err != nil { // by what is known
		t.Fatal(err)
	}
	n.serve(t)
	both := func(m *Member) bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.service != nil
	}
	eventually(t, "return of the members", func() bool { return both(a) && both(b) })
	two := bind(2)
	if err := from.Multicast(bus.All(500), []byte{3}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []byte{1, 2, 3} {
		if d, err := one.Recv(); err != nil || d.Data[0] != want {
			t.Fatalf("%+v %v, want %d", d, err, want)
		}
	}
	if d, err := two.Recv(); err != nil || d.Data[0] != 3 {
		t.Fatalf("%+v %v", d, err)
	}
}

func TestNoVersionNoHarm(t *testing.T) {
	dir := t.TempDir()
	if openVersion(dir) != nil {
		t.Error("a version without a file")
	}
	if _, err := newVersion(dir); err == nil {
		t.Error("made without a folder")
	}
	if err := os.Mkdir(memberDir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(versionPath(dir), []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if openVersion(dir) != nil {
		t.Error("a version in a file that is too short to be mapped")
	}
	if err := os.WriteFile(versionPath(dir)+".new", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	v, err := newVersion(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := openVersion(dir)
	v.count().Add(7)
	if got := r.count().Load(); got != 7 {
		t.Errorf("read %d", got)
	}
	r.close()
	v.close()
	if left, _ := filepath.Glob(filepath.Join(memberDir(dir), "*.new")); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}
