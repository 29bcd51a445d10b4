package converge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"godwit/cmd/lab/topology"
	"godwit/controlplane/mgmt"
)

// leaking is added to the router's configuration to leak its table.
const leaking = `  - name: second
    import: ["65001:1"]
`

// Leaked is one run of Leak.
type Leaked struct {
	Download float64 // seconds from the session's establishment until the line cards have the table
	Leak     float64 // seconds from the request that leaks it until they have it in the second VRF
	Memory   int64   // bytes resident at most of the routing engine, behind both
}

// Leak measures how long a table takes to the line cards, and then how long
// until they have it in a second VRF too, once that imports it.
func Leak(ctx context.Context, o Options, t Table) (r Leaked, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	dir, err := os.MkdirTemp("", "godwit-leak-")
	if err != nil {
		return Leaked{}, fmt.Errorf("make folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	conf := filepath.Join(dir, "router.yaml")
	first := strings.Replace(router, "  - name: default\n", "  - name: second\n  - name: default\n    export: [\"65001:1\"]\n", 1)
	if err := os.WriteFile(conf, []byte(first), 0o600); err != nil {
		return Leaked{}, fmt.Errorf("write configuration: %w", err)
	}
	b, err := build(ctx, o, t, topology.Node{Godwit: conf})
	if err != nil {
		return Leaked{}, err
	}
	defer func() { err = errors.Join(err, b.lab.Close()) }()
	if err := b.lab.StartGodwit(ctx, "under"); err != nil {
		return Leaked{}, err
	}
	c := mgmt.NewClient(filepath.Join(b.under.RunDir(), "mgmt.sock"))
	defer c.Close()
	if err := b.modules(ctx, c); err != nil {
		return Leaked{}, fmt.Errorf("%w; godwitd says: %s", err, b.under.Proc("godwitd").Output())
	}
	own, err := b.measure(ctx, func() (bool, error) { return acknowledged(ctx, c, t.N4, t.N6) })
	if err != nil {
		return Leaked{}, fmt.Errorf("download: %w", err)
	}
	start := time.Now()
	second := strings.Replace(first, "  - name: second\n", leaking, 1)
	if _, err := c.Apply(ctx, "leak.yaml", []byte(second)); err != nil {
		return Leaked{}, fmt.Errorf("leak: %w", err)
	}
	if err := topology.Poll(ctx, 20*time.Millisecond, "the leaked table", func() (bool, error) { return acknowledged(ctx, c, 2*t.N4, 2*t.N6) }); err != nil {
		return Leaked{}, err
	}
	r = Leaked{Download: own.Seconds, Leak: time.Since(start).Seconds()}
	_, r.Memory, err = usage(b.procs["router"])
	return r, err
}

// acknowledged tells whether every line card has as many IPv4 and IPv6 routes, of
// all VRFs.
func acknowledged(ctx context.Context, c *mgmt.Client, n4, n6 int) (bool, error) {
	s, err := c.FIBSummary(ctx)
	if err != nil || len(s.Cards) != lineCards {
		return false, err
	}
	for _, card := range s.Cards {
		have4, have6 := 0, 0
		for _, v := range card.VRFs {
			have4 += v.Routes4
			have6 += v.Routes6
		}
		if !card.Converged || have4 < n4 || have6 < n6 {
			return false, nil
		}
	}
	return true, nil
}
