package program

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"godwit/cluster/bus"
	"godwit/cluster/bus/tipc"
)

// Cluster is what the supervisor tells a module that joins the bus between nodes.
type Cluster struct {
	Node   uint16 // 0: the module does not join it
	Secret string // file
}

// Flags adds the flags.
func (c *Cluster) Flags(f *pflag.FlagSet) {
	f.Uint16Var(&c.Node, "cluster-node", 0, "join the bus between nodes, as a process of this one; 0: do not")
	f.StringVar(&c.Secret, "cluster-secret", "", "file with what members of that bus show each other")
}

// Join joins the bus between nodes.
func (c *Cluster) Join(log *slog.Logger) (bus.Bus, error) {
	if c.Secret == "" {
		return joined(tipc.Join())
	}
	text, err := os.ReadFile(c.Secret)
	if err != nil {
		return nil, fmt.Errorf("join cluster: %w", err)
	}
	secret, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(secret) == 0 {
		return nil, fmt.Errorf("join cluster: %s holds no secret", c.Secret)
	}
	return joined(tipc.Join(tipc.Admit(secret, Refused(log))))
}

func joined(m *tipc.Member, err error) (bus.Bus, error) {
	if err != nil {
		return nil, err // not a nil *tipc.Member
	}
	return m, nil
}

// quiet is how long after a refusal further ones are counted, not logged.
const quiet = time.Second

// Refused logs who was not let onto the bus between nodes: not every one, since
// whoever may open sockets on a node could fill the log.
func Refused(log *slog.Logger) func(bus.Address, error) {
	var mu sync.Mutex
	var last time.Time
	missed := 0
	return func(peer bus.Address, err error) {
		mu.Lock()
		defer mu.Unlock()
		if !last.IsZero() && time.Since(last) < quiet {
			missed++
			return
		}
		log.Warn("connection from the cluster refused", "peer", peer.String(), "error", err, "not_logged", missed)
		last, missed = time.Now(), 0
	}
}
