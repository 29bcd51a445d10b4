package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"godwit/cluster/supervisor"
)

func configured(t *testing.T, text string) supervisor.Config {
	t.Helper()
	dir := t.TempDir()
	cfg := supervisor.Config{StateDir: dir, Log: slog.New(slog.DiscardHandler)}
	if text != "" {
		if err := os.WriteFile(filepath.Join(dir, "running.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cfg
}

func TestNoClusterUnlessConfigured(t *testing.T) {
	for _, text := range []string{"", "system: {hostname: a}", "# no cluster here\nsystem: {hostname: a}", "system: {cluster: [}"} {
		cfg := configured(t, text)
		if c, err := clusterOf(&cfg); c != nil || err != nil {
			t.Errorf("%q: %+v, %v", text, c, err)
		}
	}
	cfg := configured(t, "")
	cfg.ConfigFile = "/nowhere/cluster.yaml"
	if c, err := clusterOf(&cfg); c != nil || err != nil { // the routing engine says so
		t.Errorf("%+v, %v", c, err)
	}
}

func TestNodeOfAConfiguration(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	text := "system: {cluster: {node: 2, role: linecard, bearers: [eth8, {local: 192.0.2.1}], link-tolerance: 1s, key-file: " + key + "}}\ncards: [{id: 2}, {id: 5}]\n"
	cfg := configured(t, text)
	if _, err := clusterOf(&cfg); err == nil || !strings.Contains(err.Error(), "cluster key") {
		t.Errorf("without the key: %v", err)
	}
	secret := strings.Repeat("0a", 20)
	if err := os.WriteFile(key, []byte(secret), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := clusterOf(&cfg); err == nil || !strings.Contains(err.Error(), "chmod 600") || strings.Contains(err.Error(), secret) {
		t.Errorf("a key that others may read: %v", err)
	}
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := clusterOf(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	n := c.Transport.(supervisor.TIPC).Node
	if c.Node != 2 || len(c.Cards) != 2 || c.Cards[1] != 5 || len(c.Secret) != 32 || n.ID != 2 || n.Network != 4711 || len(n.Bearers) != 2 || n.Bearers[0].String() != "eth:eth8" ||
		n.Bearers[1].String() != "udp:192.0.2.1" || n.Tolerance.Seconds() != 1 || len(n.Key) != 20 {
		t.Errorf("%+v, %+v", c, n)
	}
	engine := configured(t, "system: {cluster: {node: 1, bearers: [eth8]}}\ncards: [{id: 1}]\n")
	if c, err := clusterOf(&engine); err != nil || c == nil || len(c.Cards) != 0 || len(c.Secret) != 0 {
		t.Errorf("the routing engine's node: %+v, %v", c, err)
	}
}
