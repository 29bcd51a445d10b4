// Package topology builds networks of namespaces and veth pairs from files and
// runs real daemons in them: Godwit itself, BIRD, FRR, OpenBGPD, ExaBGP, GoBGP.
//
// A lab leaves nothing behind: Close kills what it started, waits for it, and
// removes its namespaces and its directory.
package topology

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	yaml "go.yaml.in/yaml/v4"
)

// Topology is a network as a file describes it.
type Topology struct {
	Name  string `yaml:"name"`
	Nodes []Node `yaml:"nodes"`
	Links []Link `yaml:"links"`

	dir string // of the file: other files are relative to it
}

// Node is one host: a namespace, and at most one daemon of each kind.
type Node struct {
	Name     string              `yaml:"name"`
	Devices  map[string][]string `yaml:"devices"`  // device → addresses
	Routes   []string            `yaml:"routes"`   // arguments of "ip route add"
	Godwit   string              `yaml:"godwit"`   // configuration file
	Bird     string              `yaml:"bird"`     // configuration; {{feed}} includes the feed
	FRR      string              `yaml:"frr"`      // bgpd's configuration; {{feed}} includes the feed
	BFDD     string              `yaml:"bfdd"`     // configuration of FRR's bfdd
	OpenBGPD string              `yaml:"openbgpd"` // configuration
	ExaBGP   string              `yaml:"exabgp"`   // configuration
	GoBGPD   string              `yaml:"gobgpd"`   // configuration (TOML)
	Feed     *Feed               `yaml:"feed"`     // routes that the daemon announces
}

// Feed is a piece of the real Internet table.
type Feed struct {
	Count4 int    `yaml:"count4"` // IPv4 prefixes
	Count6 int    `yaml:"count6"` // IPv6 prefixes
	Skip   int    `yaml:"skip"`   // begin behind the first so many
	AS     uint32 `yaml:"as"`     // first AS of the paths made up behind the peer
}

// Link is a veth pair between two devices, written node:device.
type Link struct {
	A      string `yaml:"a"`
	B      string `yaml:"b"`
	MTU    int    `yaml:"mtu"`
	Queues int    `yaml:"queues"`
}

var nameRE = regexp.MustCompile(`^[a-z][a-z0-9-]{0,20}$`)

// Load reads a topology file.
func Load(path string) (*Topology, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read topology: %w", err)
	}
	t, err := Parse(path, data)
	if err != nil {
		return nil, err
	}
	t.dir = filepath.Dir(path)
	return t, nil
}

// Parse parses a topology strictly; name is what errors call the file.
func Parse(name string, data []byte) (*Topology, error) {
	t := &Topology{}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(t); err != nil {
		return nil, fmt.Errorf("parse topology %s: %w", name, err)
	}
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("topology %s: %w", name, err)
	}
	return t, nil
}

func (t *Topology) check() error {
	if !nameRE.MatchString(t.Name) {
		return fmt.Errorf("bad name %q", t.Name)
	}
	ends := map[string]bool{}
	nodes := map[string]bool{}
	for _, n := range t.Nodes {
		if !nameRE.MatchString(n.Name) || nodes[n.Name] {
			return fmt.Errorf("bad or repeated node name %q", n.Name)
		}
		nodes[n.Name] = true
		for dev, addrs := range n.Devices {
			for _, a := range addrs {
				if _, err := netip.ParsePrefix(a); err != nil {
					return fmt.Errorf("node %s device %s: %w", n.Name, dev, err)
				}
			}
		}
	}
	for _, l := range t.Links {
		for _, end := range []string{l.A, l.B} {
			node, dev, ok := strings.Cut(end, ":")
			if !ok || !nodes[node] || dev == "" || len(dev) > 15 {
				return fmt.Errorf("link end %q is not node:device of a known node", end)
			}
			if ends[end] {
				return fmt.Errorf("device %q is on two links", end)
			}
			ends[end] = true
		}
	}
	return nil
}

func (t *Topology) path(file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(t.dir, file)
}
