package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"godwit/cluster/bus/tipc"
	"godwit/cluster/supervisor"
	"godwit/cmd/internal/program"
	"godwit/controlplane/config"
)

// clusterOf reads what makes this machine a node from the configuration that
// the routing engine starts with; nil if there is nothing. A faulty one is the
// routing engine's to report, which goes on trying.
func clusterOf(cfg *supervisor.Config) (*supervisor.Cluster, error) {
	file := cfg.ConfigFile
	if file == "" {
		file = filepath.Join(cfg.StateDir, "running.yaml")
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && !bytes.Contains(text, []byte("cluster"))) {
		return nil, nil // most routers, however long their configuration is
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	c, err := config.Load(file)
	if err != nil {
		cfg.Log.Error("the configuration is faulty: no cluster is joined", "error", err)
		return nil, nil
	}
	if c.System.Cluster == nil {
		return nil, nil
	}
	return node(cfg, c)
}

// node makes the node of a configuration with a cluster.
func node(cfg *supervisor.Config, c *config.Config) (*supervisor.Cluster, error) {
	k := c.System.Cluster
	t := supervisor.TIPC{Node: tipc.Node{ID: uint32(k.Node), Network: uint32(k.Network), Tolerance: k.LinkTolerance}}
	for _, b := range k.Bearers {
		t.Node.Bearers = append(t.Node.Bearers, tipc.Bearer{Device: b.Device, Local: b.Local, Remote: b.Remote})
	}
	out := &supervisor.Cluster{Node: uint32(k.Node)}
	if k.KeyFile != "" {
		key, err := tipc.ReadKey(k.KeyFile)
		if err != nil {
			return nil, err
		}
		t.Node.Key, out.Secret = key, tipc.Secret(key)
		t.Options = append(t.Options, tipc.Admit(out.Secret, program.Refused(cfg.Log)))
	}
	if k.Role == config.RoleLinecard {
		for _, card := range c.Cards {
			out.Cards = append(out.Cards, card.ID)
		}
	}
	out.Transport = t
	return out, nil
}
