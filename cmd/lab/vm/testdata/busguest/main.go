// Package main is the program of the guests of the link tests.
//
//	prog server|client|stranger|witness NODE DEVICE...
//
// A device may also be LOCAL>REMOTE: UDP. KEY is the cluster's key. A stranger tries without one and with another first.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"godwit/cluster/bus"
	"godwit/cluster/bus/tipc"
)

var service = bus.Service{Type: 600, Instance: 1}

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Println("GUEST failed:", err)
		os.Exit(1)
	}
}

func run(role, id string, devices []string) error {
	node, err := strconv.Atoi(id)
	if err != nil {
		return err
	}
	key := []byte(os.Getenv("KEY"))
	n := tipc.Node{ID: uint32(node), Key: key, Tolerance: 1500 * time.Millisecond}
	for _, d := range devices {
		b := tipc.Bearer{Device: d}
		if local, remote, udp := strings.Cut(d, ">"); udp {
			b = tipc.Bearer{Local: netip.MustParseAddr(local), Remote: netip.MustParseAddr(remote)}
		}
		n.Bearers = append(n.Bearers, b)
	}
	if role == "stranger" {
		if err := knock(n); err != nil {
			return err
		}
	}
	if err := tipc.Setup(n); err != nil {
		return err
	}
	m, err := tipc.Join()
	if err != nil {
		return err
	}
	defer m.Close()
	sub, err := announce(m, uint32(node))
	switch {
	case err != nil:
		return err
	case role == "server":
		go names(sub)
		return serve(m)
	case role == "witness":
		names(sub)
		return nil
	}
	go names(sub)
	return follow(m)
}

// announce binds a name for the node, and follows those of all.
func announce(m *tipc.Member, node uint32) (bus.Subscription, error) {
	s, err := m.Socket()
	if err == nil {
		err = s.Bind(bus.One(service.Type+1, node))
	}
	if err != nil {
		return nil, err
	}
	return m.Subscribe(bus.All(service.Type + 1))
}

// names tells which nodes' names come and go.
func names(sub bus.Subscription) {
	for {
		e, err := sub.Next()
		if err != nil {
			return
		}
		fmt.Printf("GUEST name %d up=%v\n", e.Range.Lower, e.Up)
	}
}

// knock tries to join without a key, and with another.
func knock(n tipc.Node) error {
	other := bytes.Clone(n.Key)
	other[0] ^= 1
	for what, key := range map[string][]byte{"none": nil, "wrong": other} {
		try := n
		try.Key = key
		if err := tipc.Setup(try); err != nil {
			return err
		}
		m, err := tipc.Join()
		if err != nil {
			return err
		}
		sub, err := m.Subscribe(bus.All(service.Type), bus.Expires(8*time.Second)) // it takes 1 to 2 with the right one
		if err != nil {
			return err
		}
		_, err = sub.Next()
		fmt.Printf("GUEST key=%s joined=%v nodes=%v\n", what, err == nil, m.Nodes())
		if err := errors.Join(m.Close(), tipc.Remove(try)); err != nil {
			return err
		}
	}
	return nil
}

// serve echoes, and says what it is sent out of order.
func serve(m *tipc.Member) error {
	l, err := m.Listen(bus.One(service.Type, service.Instance))
	if err != nil {
		return err
	}
	fmt.Println("GUEST serves on", m.Nodes())
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			for n := uint32(0); ; n++ {
				b, err := c.Recv()
				if err != nil {
					fmt.Println("GUEST lost its client:", err)
					return
				}
				if got := binary.BigEndian.Uint32(b); got != n {
					fmt.Printf("GUEST BAD %d for %d\n", got, n)
				}
				if err := c.Send(b); err != nil {
					return
				}
			}
		}()
	}
}

// follow talks to the server as often as it appears.
func follow(m *tipc.Member) error {
	sub, err := m.Subscribe(bus.All(service.Type))
	if err != nil {
		return err
	}
	for {
		e, err := sub.Next()
		if err != nil {
			return err
		}
		fmt.Printf("GUEST event up=%v node=%d\n", e.Up, e.Addr.Node)
		if !e.Up {
			continue
		}
		if err := talk(m); err != nil {
			return err
		}
	}
}

// talk sends numbers, 16 ahead of the echoes, until the connection ends.
func talk(m *tipc.Member) error {
	c, err := m.Dial(context.Background(), service)
	if err != nil {
		return err
	}
	defer c.Close()
	last := time.Now()
	worst := time.Duration(0)
	for sent, got := uint32(0), uint32(0); ; {
		for ; sent < got+16; sent++ {
			if err := c.Send(append(binary.BigEndian.AppendUint32(nil, sent), " GUEST in the clear"...)); err != nil {
				break // Recv tells why
			}
		}
		b, err := c.Recv()
		silent := time.Since(last)
		if err != nil {
			var gone *bus.GoneError
			if !errors.As(err, &gone) {
				return err
			}
			fmt.Printf("GUEST gone code=%d behind %d echoes after %d ms\n", gone.Code, got, silent.Milliseconds())
			return nil
		}
		if n := binary.BigEndian.Uint32(b); n != got {
			fmt.Printf("GUEST BAD %d for %d\n", n, got)
		}
		last, worst = time.Now(), max(worst, silent)
		if got++; got%500 == 0 {
			links, err := m.Links()
			fmt.Println("GUEST links:", links, err)
			fmt.Printf("GUEST echoed %d worst gap %d ms\n", got, worst.Milliseconds())
			worst = 0
			time.Sleep(50 * time.Millisecond) // the emulated machines have other work
		}
	}
}
