package bfd

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"godwit/fib"
)

var rewrite = flag.Bool("rewrite", false, "write what the core answers into testdata/*.txt")

// script drives a core as a file in testdata says. Lines that begin with "> "
// are inputs; what follows is what comes out.
//
//	> session KEY=VALUE…     a wanted session, beside those before
//	> unwanted               no session is wanted any more
//	> rx KEY=VALUE…          a control packet of the neighbour; your=ours names our session
//	> wait MS                time passes; timers run when they are due
//	> stall MS               time passes, and nobody looks at the timers until it is over
//	> linkdown IF            an interface goes down
//	> show                   the sessions
type script struct {
	t    *testing.T
	core *Core
	now  int64
	want []Config
	out  strings.Builder
}

func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 8 {
		t.Fatalf("%d scripts: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(text))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(text) {
				t.Errorf("%s (go test -rewrite writes it):\n%s", file, got)
			}
		})
	}
}

func play(t *testing.T, text string) string {
	s := &script{t: t, core: New(rand.New(rand.NewPCG(1, 2)))}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		in, isInput := strings.CutPrefix(line, "> ")
		switch {
		case isInput:
			fmt.Fprintln(&s.out, line)
			s.input(in)
			s.drain()
		case strings.HasPrefix(line, "#"), line == "":
			fmt.Fprintln(&s.out, line)
		}
	}
	return s.out.String()
}

func (s *script) input(line string) {
	verb, rest, _ := strings.Cut(line, " ")
	args := map[string]string{}
	for _, f := range strings.Fields(rest) {
		k, v, _ := strings.Cut(f, "=")
		args[k] = v
	}
	switch verb {
	case "session":
		s.session(args)
	case "unwanted":
		s.want = nil
		s.core.Set(s.now, nil)
	case "rx":
		s.rx(args)
	case "wait":
		end := s.now + s.ms(rest)
		for s.core.Next() <= end {
			s.now = max(s.now, s.core.Next())
			s.core.Advance(s.now)
			s.drain()
		}
		s.now = end
	case "stall":
		s.now += s.ms(rest)
		s.core.Advance(s.now)
	case "linkdown":
		n, _ := strconv.Atoi(rest)
		s.core.LinkDown(s.now, fib.InterfaceID(n))
	case "show":
		for _, x := range s.core.Sessions(s.now) {
			fmt.Fprintf(&s.out, "%v %v/%v failed=%v tx=%v rx=%v detect=%v sent=%d heard=%d refused=%d flaps=%d auth=%v since=%v\n", x.Peer, x.State, x.Remote, x.Failed,
				x.Tx, x.Rx, x.Detection, x.Sent, x.Received, x.Refused, x.Flaps, x.Auth, x.Since.Round(time.Millisecond))
		}
		for _, d := range s.core.Drops().Append(nil) {
			if d.Count > 0 {
				fmt.Fprintf(&s.out, "drop %s %d\n", d.Reason, d.Count)
			}
		}
	default:
		s.t.Fatalf("unknown input %q", line)
	}
}

func (s *script) ms(text string) int64 {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return int64(n * 1e6)
}

func get(args map[string]string, key, def string) string {
	if v, ok := args[key]; ok {
		return v
	}
	return def
}

func number(t *testing.T, args map[string]string, key string, def int) int {
	n, err := strconv.Atoi(get(args, key, strconv.Itoa(def)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (s *script) session(args map[string]string) {
	ms := func(key string, def int) time.Duration {
		return time.Duration(number(s.t, args, key, def)) * time.Millisecond
	}
	typ, err := ParseAuthType(args["auth"])
	if err != nil {
		s.t.Fatal(err)
	}
	_, passive := args["passive"]
	_, shutdown := args["shutdown"]
	cfg := Config{
		VRF: 1, Interface: fib.InterfaceID(number(s.t, args, "if", 1)), Peer: netip.MustParseAddr(get(args, "peer", "10.0.0.2")),
		Local: netip.MustParseAddr(get(args, "local", "10.0.0.1")), MinTx: ms("tx", 50), MinRx: ms("rx", 50), MinEcho: ms("echo", 0),
		Multiplier: uint8(number(s.t, args, "mult", 3)), MinTTL: uint8(number(s.t, args, "ttl", 0)), Passive: passive, Shutdown: shutdown,
		Auth: Auth{Type: typ, KeyID: uint8(number(s.t, args, "id", 0)), Key: args["key"]},
	}
	for i := range s.want {
		if s.want[i].Key() == cfg.Key() {
			s.want[i] = cfg
			s.core.Set(s.now, s.want)
			return
		}
	}
	s.want = append(s.want, cfg)
	s.core.Set(s.now, s.want)
}

// rx makes the neighbour's datagram and hands it in.
func (s *script) rx(args map[string]string) {
	peer := netip.MustParseAddr(get(args, "src", get(args, "peer", "10.0.0.2")))
	port := number(s.t, args, "port", PortControl)
	in := fib.InterfaceID(number(s.t, args, "if", 1))
	if port == PortMultihop {
		in = 9
	}
	var ours *session
	for _, x := range s.core.sessions {
		if x.key.Peer == peer || ours == nil {
			ours = x
		}
	}
	p := Packet{
		State: map[string]State{"admin-down": AdminDown, "down": Down, "init": Init, "up": Up}[args["state"]],
		Diag:  Diag(number(s.t, args, "diag", 0)), Multiplier: uint8(number(s.t, args, "mult", 3)), My: uint32(number(s.t, args, "my", 7)),
		MinTx: uint32(number(s.t, args, "tx", 50)) * 1000, MinRx: uint32(number(s.t, args, "rx", 50)) * 1000,
	}
	if y := args["your"]; y == "ours" {
		p.Your = 1 // there is none any more
		if ours != nil {
			p.Your = ours.my
		}
	} else if y != "" {
		p.Your = uint32(number(s.t, args, "your", 0))
	}
	_, p.Poll = args["poll"]
	_, p.Final = args["final"]
	_, p.Demand = args["demand"]
	typ, err := ParseAuthType(args["auth"])
	if err != nil {
		s.t.Fatal(err)
	}
	p.Auth = typ != NoAuth
	b := p.Append(nil)
	if p.Auth {
		a := Auth{Type: typ, KeyID: uint8(number(s.t, args, "id", 0)), Key: args["key"]}
		b = a.sign(b, uint32(number(s.t, args, "seq", 1)))
	}
	d := appendDatagram(nil, peer, netip.MustParseAddr(get(args, "local", "10.0.0.1")), 50000, uint16(port), b)
	if ttl := uint8(number(s.t, args, "ttl", 255)); d[0]>>4 == 4 {
		d[8] = ttl
	} else {
		d[7] = ttl
	}
	s.core.Receive(s.now, 1, in, d)
}

// drain prints the effects.
func (s *script) drain() {
	for _, e := range s.core.Drain() {
		fmt.Fprintf(&s.out, "%8.3f ", float64(s.now)/1e9)
		if e.Kind != Send {
			fmt.Fprintf(&s.out, "%s %v %v", [...]string{"", "changed", "removed"}[e.Kind], e.Key.Peer, e.Status.State)
			if e.Status.Diag != 0 {
				fmt.Fprintf(&s.out, " (%v)", e.Status.Diag)
			}
			if e.Status.Failed {
				fmt.Fprint(&s.out, " failed")
			}
			fmt.Fprintln(&s.out)
			continue
		}
		d, why := parse(e.Data)
		p, body, section, bad := Decode(d.payload)
		if why != passed || bad != passed || d.ttl != 255 || d.dst != e.Key.Peer {
			s.t.Fatalf("sent %x: %v %v", e.Data, why, bad)
		}
		fmt.Fprintf(&s.out, "send %v:%d %v", d.dst, d.port, p.State)
		if p.Diag != 0 {
			fmt.Fprintf(&s.out, " diag=%d", p.Diag)
		}
		if p.Poll {
			fmt.Fprint(&s.out, " poll")
		}
		if p.Final {
			fmt.Fprint(&s.out, " final")
		}
		fmt.Fprintf(&s.out, " your=%d tx=%d rx=%d mult=%d", p.Your, p.MinTx/1000, p.MinRx/1000, p.Multiplier)
		if p.Auth {
			x := s.core.byDiscr[p.My]
			_, ok := x.cfg.Auth.verify(body, section)
			fmt.Fprintf(&s.out, " auth=%v ok=%v", AuthType(section[0]), ok)
		}
		fmt.Fprintln(&s.out)
	}
}
