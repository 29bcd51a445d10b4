package router

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// lines is a log that tests read.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Reset()
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

// absent is a router whose card has eth1 on the express path, and eth2 not.
func absent(t *testing.T) (g *rig, log *lines, kill func()) {
	g, log = newRig(t), &lines{}
	g.option = func(o *Options) { o.Log = slog.New(slog.NewTextHandler(io.MultiWriter(log), nil)) }
	g.supervisor(&supervisorTwin{})
	c := newCardTwin(1)
	kill = g.card(c)
	g.speaker(&speakerTwin{vrf: 7, routes: announce(1000, "10.0.0.2")})
	g.start(strings.Replace(twoVRFs, "  - id: 1\n", "  - id: 1\n    ports: [{device: eth1, express: true}]\n", 1))
	g.count(c, 7, 1003)
	g.count(c, 8, 2)
	return g, log, kill
}

// TestRoutesStayWhileAnExpressCardIsAway: what goes on without the card counts as up until it is back, and the
// card gets these ports at once, and the word that its tables are complete.
func TestRoutesStayWhileAnExpressCardIsAway(t *testing.T) {
	g, log, kill := absent(t)
	for range 2 {
		log.reset()
		kill()
		g.eventually("the loss", func() error {
			if log.count("name=up-blue up=false") != 1 {
				return fmt.Errorf("up-blue is up")
			}
			return nil
		})
		c := newCardTwin(1)
		kill = g.card(c)
		g.count(c, 7, 1003)
		g.count(c, 8, 2)
		g.eventually("all ports", func() error {
			c.mu.Lock()
			defer c.mu.Unlock()
			if len(c.held) == 0 || c.held[0] != 1 || !c.complete || len(c.cfg.Ports) != 2 {
				return fmt.Errorf("held %v, complete %v, %d ports", c.held, c.complete, len(c.cfg.Ports))
			}
			return nil
		})
		g.eventually("the card's own word", func() error {
			if log.count("name=up-blue up=true") != 1 {
				return fmt.Errorf("up-blue is down")
			}
			return nil
		})
		if n := log.count("name=up-red up=false"); n != 0 {
			t.Errorf("up-red went down %d times", n)
		}
		c.carrier("eth1", false) // from here on it is believed
		g.count(c, 7, 0)
		c.carrier("eth1", true)
		g.count(c, 7, 1003)
	}
}

// TestAnExpressCardThatStaysAwayIsLost: its interfaces go down when the time is over.
func TestAnExpressCardThatStaysAwayIsLost(t *testing.T) {
	was := absenceLimit
	absenceLimit = 200 * time.Millisecond
	defer func() { absenceLimit = was }()
	g, log, kill := absent(t)
	kill()
	g.eventually("the limit", func() error {
		if log.count("has not come back in time") != 1 || log.count("name=up-red up=false") != 1 {
			return fmt.Errorf("up-red is up")
		}
		return nil
	})
	c := newCardTwin(1)
	g.card(c)
	g.count(c, 7, 1003)
}
