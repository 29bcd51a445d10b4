package main

import (
	"context"
	"fmt"

	churning "godwit/cmd/bench/churn"
	"godwit/controlplane/bgp/bgptest"
)

// benchRestart measures what is lost when line card, routing engine and speaker are killed with SIGKILL and
// started again, at half of the most, on the express path and by the workers.
func benchRestart(r *report) error {
	where, err := picOptions(r)
	if err != nil {
		return err
	}
	table, _, err := bgptest.Prefixes(r.routes, 0)
	if err != nil {
		return err
	}
	names := map[string]string{"linecard-1": "restart.linecard", "router": "restart.router", "bgp-default": "restart.bgp", churning.Nobody: "restart.nobody"}
	var found [2][]churning.Restart
	for i, express := range []bool{true, false} {
		r.progress("express path: %v", express)
		o := churning.Options{Bin: where.Bin, Trust: where.Trust, Prefixes: table, Flapping: 1, Express: express, Progress: r.progress}
		if _, found[i], err = churning.Restarts(context.Background(), o); err != nil {
			return fmt.Errorf("express path %v: %w", express, err)
		}
	}
	for i, on := range found[0] {
		off := found[1][i]
		name := names[on.Module]
		if err := r.beside(name, "packets lost", "less", float64(on.Inside()), "workers (AF_XDP)", float64(off.Inside())); err != nil {
			return err
		}
		if err := r.beside(name+".lab", "packets lost in full rings of the lab", "less", float64(on.Lab), "workers (AF_XDP)", float64(off.Lab)); err != nil {
			return err
		}
		if err := r.beside(name+".outage", "ms worth of packets", "less", millis(on.Outage()), "workers (AF_XDP)", millis(off.Outage())); err != nil {
			return err
		}
		if err := r.beside(name+".rate", "packets/s", "more", on.Rate, "workers (AF_XDP)", off.Rate); err != nil {
			return err
		}
	}
	return nil
}
