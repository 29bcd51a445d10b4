// Package main is godwit-bgp, the BGP speaker of one VRF. The supervisor starts
// it in the VRF's network namespace; the routing engine tells it what to do over
// the bus.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"godwit/cluster/bus/local"
	"godwit/cluster/health"
	"godwit/cmd/internal/program"
	"godwit/controlplane/bgp"
	"godwit/event"
	"godwit/fib"
)

func main() {
	if err := command().Execute(); err != nil {
		fmt.Fprintf(os.Stderr, "godwit-bgp: %v\n", err)
		os.Exit(1)
	}
}

// options are the flags that the supervisor sets.
type options struct {
	name, runDir, stateDir, instance, vrf string
	vrfID                                 uint32
}

func command() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "godwit-bgp",
		Short: "Speak BGP in one VRF",
		Long: `godwit-bgp speaks BGP in the network namespace it is started in. The supervisor
starts it; the routing engine configures it over the bus.

Signals: SIGTERM ends the sessions with a NOTIFICATION, so that neighbours drop our
routes at once. SIGUSR1 ends the program without one, for an upgrade: neighbours keep
our routes and wait for the next speaker (graceful restart, RFC 4724).`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       program.Version(),
		RunE:          func(*cobra.Command, []string) error { return run(o) },
	}
	f := c.Flags()
	f.StringVar(&o.name, "name", "", "module name")
	f.StringVar(&o.runDir, "run-dir", "/run/godwit", "sockets")
	f.StringVar(&o.stateDir, "state-dir", "/var/lib/godwit", "what survives a restart (nothing here)")
	f.StringVar(&o.instance, "instance", "godwit", "name of this router")
	f.StringVar(&o.vrf, "vrf", "", "name of the VRF")
	f.Uint32Var(&o.vrfID, "vrf-id", 0, "number of the VRF")
	if err := errors.Join(c.MarkFlagRequired("vrf"), c.MarkFlagRequired("vrf-id")); err != nil {
		panic(err) // a flag's name is misspelt above
	}
	return c
}

func run(o options) error {
	if o.name == "" {
		o.name = "bgp-" + o.vrf
	}
	level := new(slog.LevelVar)
	log := program.Logger(os.Stderr, level).With("module", o.name)

	if err := program.Confine(log); err != nil {
		return err
	}
	loop := event.New("bgp", event.WithUrgency())
	defer loop.Stop()
	var s *bgp.Speaker // there when the loop runs
	loop.Signal(loop.Handler("signals", event.Critical), func(sig os.Signal) { s.Signal(sig, loop.Stop) },
		syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1)

	b, err := local.Join(o.runDir, o.name)
	if err != nil {
		return err
	}
	defer b.Close()
	live, err := health.Attach(loop, log)
	if err != nil {
		return err
	}
	defer live.Close()
	s = bgp.NewSpeaker(loop, bgp.Options{
		VRF: o.vrf, RunDir: o.runDir, Log: log, Level: level, Tuner: bgp.NewTuner(),
		Module: program.Info(o.name, "bgp"),
	})
	service, err := s.Serve(b, fib.VRF(o.vrfID))
	if err != nil {
		return err
	}
	defer service.Close()
	return loop.Run(context.Background())
}
