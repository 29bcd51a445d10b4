package local

import (
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"

	"godwit/cluster/bus"
	"godwit/cluster/bus/bustest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("GODWIT_BUS_CHILD"); dir != "" {
		childMain(dir)
	}
	goleak.VerifyTestMain(m)
}

var quiet = slog.New(slog.DiscardHandler)

// network is a name service with its members.
type network struct {
	dir    string
	server *Server
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	n := &network{dir: t.TempDir()}
	n.serve(t)
	return n
}

func (n *network) serve(t *testing.T) {
	t.Helper()
	s, err := NewServer(n.dir, quiet)
	if err != nil {
		t.Fatal(err)
	}
	n.server = s
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func (n *network) Join(t *testing.T, name string) bus.Bus {
	t.Helper()
	b, err := Join(n.dir, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func TestConformance(t *testing.T) {
	bustest.Run(t, func(t *testing.T) bustest.Network { return newNetwork(t) })
}
