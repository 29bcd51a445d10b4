// Package main is godwit-router, the routing engine: configuration, RIB, host
// stacks and the management API. The supervisor starts it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	"godwit/cluster/bus"
	"godwit/cluster/bus/local"
	"godwit/cluster/health"
	"godwit/cmd/internal/program"
	"godwit/controlplane/kernel"
	"godwit/controlplane/router"
	"godwit/event"
)

// extraPs are Ps above the cores, so that timers of the event loop run while
// the garbage collector and requests keep the cores busy.
const extraPs = 2

type flags struct {
	name, runDir, stateDir, instance, config, record string
	cluster                                          program.Cluster
}

func main() {
	if err := command().Execute(); err != nil {
		fmt.Fprintf(os.Stderr, "godwit-router: %v\n", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var f flags
	c := &cobra.Command{
		Use:   "godwit-router",
		Short: "Run the routing engine of a Godwit router",
		Long: `godwit-router holds the configuration and the routes, sets up the host stacks and
tells line cards and BGP speakers what to do. The supervisor starts it.

SIGTERM ends it and takes down namespaces and host interfaces. If it dies
otherwise they stay, forwarding goes on, and the next routing engine takes over.`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       program.Version(),
		RunE:          func(c *cobra.Command, _ []string) error { return run(c.Context(), f, os.Stderr) },
	}
	c.Flags().StringVar(&f.name, "name", "router", "name of this module")
	c.Flags().StringVar(&f.runDir, "run-dir", "/run/godwit", "sockets and rings")
	c.Flags().StringVar(&f.stateDir, "state-dir", "/var/lib/godwit", "what survives a restart: the configuration in force")
	c.Flags().StringVar(&f.instance, "instance", "godwit", "name of the router: prefix of its namespaces")
	f.cluster.Flags(c.Flags())
	c.Flags().StringVar(&f.config, "config", "", "configuration to start with; after a restart under the same supervisor, and by default, the one that was in force")
	c.Flags().StringVar(&f.record, "record", "", "write all that the RIB takes in to this file, for replay")
	c.AddCommand(replayCommand())
	return c
}

func run(ctx context.Context, f flags, stderr io.Writer) (err error) {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.NumCPU() + extraPs)
	}
	loop := event.New(f.name, event.WithUrgency())
	defer loop.Stop()
	asked := program.StopOnSignals(loop)
	// For an upgrade: the host stack stays for the next process.
	loop.Signal(loop.Handler("upgrade", event.Critical), func(os.Signal) { loop.Stop() }, syscall.SIGUSR1)
	log := program.Logger(stderr, nil).With("module", f.name)

	if err := program.Confine(log); err != nil {
		return err
	}
	b, err := local.Join(f.runDir, f.name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	var between bus.Bus
	if f.cluster.Node != 0 {
		if between, err = f.cluster.Join(log); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, between.Close()) }()
	}
	live, err := health.Attach(loop, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, live.Close()) }()
	var record io.Writer
	if f.record != "" {
		file, err := os.OpenFile(f.record, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
		if err != nil {
			return fmt.Errorf("record: %w", err)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		record = file
	}
	host := kernel.New(f.instance)
	r := router.New(router.Options{
		Instance: f.instance, RunDir: f.runDir, StateDir: f.stateDir, Config: f.config, Parent: os.Getppid(),
		Loop: loop, Bus: b, Cluster: between, Node: uint32(f.cluster.Node), Host: host, Leftovers: host, Log: log,
		Info: program.Info(f.name, "router"), Record: record,
	})
	if err := r.Start(); err != nil {
		return errors.Join(err, r.Close(false))
	}
	log.Info("routing engine started")
	err = loop.Run(ctx)
	clean := asked() || ctx.Err() != nil // asked to stop; not a failure
	if clean {
		err = nil
	}
	return errors.Join(err, r.Close(clean))
}
