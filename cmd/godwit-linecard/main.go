// Package main is godwit-linecard, the line card: it owns ports and forwards
// packets. The supervisor starts it.
package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"

	"godwit/cluster/bus"
	"godwit/cluster/bus/local"
	"godwit/cluster/fdstore"
	"godwit/cluster/health"
	"godwit/cmd/internal/program"
	"godwit/dataplane/linecard"
	"godwit/event"
	"godwit/fib"
)

// The garbage collector works when garbage has doubled the small heap of
// routes and neighbours; GOGC and GOMEMLIMIT override. Lookup tables and packet
// buffers are outside of the heap. A line card wants more Ps than cores, so
// that timers and the event loop run while all workers are busy.
const (
	gcPercent = 100
	extraPs   = 2
)

type flags struct {
	name, runDir, stateDir, instance string
	card                             uint16
	cluster                          program.Cluster
}

func main() {
	if err := command().Execute(); err != nil {
		fmt.Fprintf(os.Stderr, "godwit-linecard: %v\n", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var f flags
	c := &cobra.Command{
		Use:   "godwit-linecard",
		Short: "Run one line card of a Godwit router",
		Long: `godwit-linecard owns ports and forwards packets. The supervisor starts it.

Signals: SIGTERM gives the ports back. SIGUSR1 ends the program for an upgrade: its express
path goes on until the next process takes it over.`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       program.Version(),
		RunE:          func(c *cobra.Command, _ []string) error { return run(c.Context(), f, os.Stderr) },
	}
	c.Flags().StringVar(&f.name, "name", "linecard", "name of this module")
	c.Flags().StringVar(&f.runDir, "run-dir", "/run/godwit", "sockets and rings")
	c.Flags().StringVar(&f.stateDir, "state-dir", "/var/lib/godwit", "what survives a restart (a line card keeps nothing)")
	c.Flags().StringVar(&f.instance, "instance", "godwit", "name of the router")
	f.cluster.Flags(c.Flags())
	c.Flags().Uint16Var(&f.card, "card", 0, "number of the card, from 1")
	return c
}

func run(ctx context.Context, f flags, stderr io.Writer) (err error) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.NumCPU() + extraPs)
	}
	loop := event.New(f.name, event.WithUrgency())
	defer loop.Stop()
	program.StopOnSignals(loop)
	log := program.Logger(stderr, nil).With("module", f.name)

	if err := program.Confine(log); err != nil {
		return err
	}
	b, err := join(f, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	live, err := health.Attach(loop, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, live.Close()) }()
	store, err := fdstore.Open()
	if errors.Is(err, fdstore.ErrNone) {
		store = nil // started by a person: nothing outlives this process
	} else if err != nil {
		return err
	} else {
		defer func() { err = errors.Join(err, store.Close()) }()
	}
	var leave atomic.Bool
	loop.Signal(loop.Handler("upgrade", event.Critical), func(os.Signal) {
		leave.Store(true)
		loop.Stop()
	}, syscall.SIGUSR1)
	agent, err := linecard.New(linecard.Options{
		Store: store,
		Card:  fib.CardID(f.card), FabricDir: filepath.Join(f.runDir, "fabric"), HashSeed: seed(f.instance),
		Bus: b, Loop: loop, Log: log,
		Info: program.Info(f.name, "linecard"),
	})
	if err != nil {
		return err
	}
	log.Info("line card started", "card", f.card)
	err = loop.Run(ctx)
	if leave.Load() && store != nil {
		log.Info("line card leaves its ports to its next process")
		return err
	}
	return errors.Join(err, agent.Close())
}

// join joins the bus of this machine, or on a node for line cards the one
// between nodes.
func join(f flags, log *slog.Logger) (bus.Bus, error) {
	if f.cluster.Node != 0 {
		return f.cluster.Join(log)
	}
	return local.Join(f.runDir, f.name)
}

// seed makes flow hashes differ from router to router.
func seed(instance string) uint64 {
	host, _ := os.Hostname()
	h := fnv.New64a()
	fmt.Fprintf(h, "%s/%s", host, instance)
	return h.Sum64()
}
