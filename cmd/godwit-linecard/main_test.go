package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"godwit/cluster/bus"
	"godwit/cluster/bus/local"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("os/signal.signal_recv"), goleak.IgnoreTopFunction("os/signal.loop"))
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func TestStartsBindsAndStops(t *testing.T) {
	dir := t.TempDir()
	server, err := local.NewServer(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	member, err := local.Join(dir, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer member.Close()
	sub, err := member.Subscribe(bus.All(bus.TypeLinecard))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var log buffer
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, flags{name: "linecard-3", runDir: dir, stateDir: dir, instance: "test", card: 3}, &log)
	}()
	up, err := sub.Next()
	if err != nil || !up.Up || up.Range != bus.One(bus.TypeLinecard, 3) || up.Name != "linecard-3" {
		t.Errorf("%+v, %v", up, err)
	}
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("run: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("does not stop")
	}
	if down, err := sub.Next(); err != nil || down.Up {
		t.Errorf("%+v, %v", down, err)
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	if !strings.Contains(log.b.String(), "line card started") || !strings.Contains(log.b.String(), "module=linecard-3") {
		t.Errorf("log: %s", log.b.String())
	}
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	if err := run(context.Background(), flags{name: "x", runDir: filepath.Join(dir, "none"), card: 1}, os.Stderr); err == nil {
		t.Error("started without a bus")
	}
	server, err := local.NewServer(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if err := run(context.Background(), flags{name: "x", runDir: dir}, os.Stderr); err == nil || !strings.Contains(err.Error(), "card 0") {
		t.Errorf("card 0: %v", err)
	}
	for _, args := range [][]string{{"--card", "70000"}, {"--card", "x"}, {"--nonsense"}, {"argument"}} {
		c := command()
		c.SetArgs(args)
		if c.ExecuteContext(context.Background()) == nil {
			t.Errorf("arguments %v accepted", args)
		}
	}
}

func TestSeedDiffers(t *testing.T) {
	first := seed("a")
	if first == seed("b") || first != seed("a") {
		t.Error("flow hash seeds: want the same for the same router only")
	}
}
